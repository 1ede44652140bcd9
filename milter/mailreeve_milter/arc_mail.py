"""What is done about the ARC chain of a message from outside: judged, believed or not, and sealed.

Knows the operator's `[arc]`: whom to trust, and the key of our own sets. How chains are verified and made
is the room arc/'s (RFC 8617).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from msgspec.structs import replace

from mailreeve_milter.arc import SEALED_BODY, ChainOutcome, seal_message, start_chain_verification
from mailreeve_milter.dkim import SigningKey
from mailreeve_milter.dkim.body_hash import BodyForm, BodyHashes
from mailreeve_milter.dkim.crypto import key_type
from mailreeve_milter.key_file import KeyFiles
from mailreeve_milter.message import HeaderField
from mailreeve_policyd.config import Configuration
from mailreeve_policyd.errors import ConfigError
from mailreeve_policyd.resolver import Resolver
from mailreeve_policyd.smtp import Domain, parse_domain
from mailreeve_policyd.transaction import Evidence, IPAddress


@dataclass(frozen=True, slots=True)
class ArcOptions:
    """`[arc]` with verify = true. Without a key nothing is sealed."""

    trusted_sealers: frozenset[Domain] = frozenset()
    key: SigningKey | None = None


class MessageChain:
    """The chain of one message whose header is complete, while its body is being hashed elsewhere."""

    __slots__ = ("_fields", "_options", "_outcome", "_sealed_digest", "_verification")

    def __init__(self, options: ArcOptions, fields: Sequence[HeaderField]) -> None:
        self._options = options
        self._fields = fields
        self._verification = start_chain_verification(fields)
        self._outcome: ChainOutcome | None = None
        self._sealed_digest = b""

    @property
    def body_forms(self) -> tuple[BodyForm, ...]:
        """Which digests of the body are needed."""
        sealed = (SEALED_BODY,) if self._options.key is not None else ()
        return (*self._verification.body_forms, *sealed)

    def evaluate(
        self,
        evidence: Evidence,
        bodies: BodyHashes,
        resolver: Resolver,
        now: datetime,
        client_address: IPAddress | None,
    ) -> Evidence:
        """The evidence with what was found of the chain; `bodies` are complete. May ask DNS, never raises.

        A valid chain is believed only where one of the trusted sealers sealed last: whoever did so vouches
        for what stands below, and a stranger's word is worth nothing (RFC 8617 section 9.4).
        """
        outcome = self._verification.finish(bodies, resolver, now, client_address)
        self._outcome = outcome
        if self._options.key is not None:
            self._sealed_digest = bodies.of(SEALED_BODY).digest
        sealer = outcome.sealers[0] if outcome.sealers else None
        is_believed = sealer is None or sealer in self._options.trusted_sealers
        return replace(
            evidence,
            results=(*evidence.results, outcome.result),
            arc=outcome.result.result if is_believed else "untrusted",
            arc_sealer=sealer,
        )

    def seal(self, results: HeaderField, now: datetime) -> tuple[HeaderField, ...]:
        """Our set for the top of the header; none without a key, or where none may be made.

        `results` is our Authentication-Results. After `evaluate`.
        """
        if self._options.key is None or self._outcome is None:
            return ()
        return seal_message(self._fields, self._outcome, results, self._sealed_digest, self._options.key, now)


def load_arc(configuration: Configuration) -> ArcOptions | None:
    """`[arc]`, with the key file that it names; None where nothing is to be done about chains.

    Raises:
        ConfigError: the key file is not usable (see KeyFiles), or holds no RSA key.
    """
    arc = configuration.settings.arc
    if not arc.verify:
        return None
    trusted = frozenset(parse_domain(text) for text in arc.trusted_sealers)
    return ArcOptions(trusted, _load_key(configuration) if arc.seal.file else None)


def _load_key(configuration: Configuration) -> SigningKey:
    seal, where = configuration.settings.arc.seal, (str(configuration.path), "arc.seal.file")
    key = KeyFiles().load(configuration.resolve(seal.file), where)
    if key_type(key) != "rsa":
        raise ConfigError(
            *where,
            f"{configuration.resolve(seal.file)} holds no RSA key",
            "ARC has one signature a hop: with Ed25519 most receivers would find the chain invalid",
        )
    return SigningKey(parse_domain(seal.domain), parse_domain(seal.selector), key)
