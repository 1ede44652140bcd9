"""Validates the chain of one message (RFC 8617 section 5.2). Knows no policy and nobody who is trusted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from mailreeve_milter.arc.chain import MAX_SETS, Chain, SealScope, parse_message_signature, read_chain
from mailreeve_milter.dkim.body_hash import BodyForm, BodyHashes
from mailreeve_milter.dkim.crypto import is_signature
from mailreeve_milter.dkim.header_hash import SignedHeader
from mailreeve_milter.dkim.key_record import Signed, UsableKey, lookup_key
from mailreeve_milter.dkim.outcome import Finding
from mailreeve_milter.dkim.signature import Algorithm, DkimSignature, without_signature_value
from mailreeve_milter.dkim.verify import judge_early, judge_octets, judge_times
from mailreeve_milter.message import HeaderField
from mailreeve_policyd.authres import MethodResult
from mailreeve_policyd.errors import ProtocolError
from mailreeve_policyd.resolver import Resolver
from mailreeve_policyd.smtp import Domain
from mailreeve_policyd.transaction import IPAddress

MAX_KEYS = MAX_SETS + 1
"""Questions to DNS: the newest message signature and every seal. A chain that needs more for the message
signatures of older sets, which prove little, has these not verified."""


@dataclass(frozen=True, slots=True)
class ChainOutcome:
    """What was found of a chain.

    `result` has the method "arc" and one of the words none, pass, fail and temperror (DNS does not say
    now, where section 5.2.1 knows only fail: such a chain must not be called broken for good). `sealers`
    are the d= of the seals of a valid chain, the newest first.
    """

    result: MethodResult
    chain: Chain
    sealers: tuple[Domain, ...] = ()


class ChainVerification:
    """The chain of one message whose body is being hashed. Made by `start_chain_verification`."""

    __slots__ = ("_chain", "_header", "_signatures")

    def __init__(self, chain: Chain, header: SignedHeader) -> None:
        self._chain = chain
        self._header = header
        self._signatures = [_read_signature(chain, instance) for instance in range(1, len(chain.sets) + 1)]

    @property
    def body_forms(self) -> tuple[BodyForm, ...]:
        """Which digests of the body are needed to `finish`; three at most."""
        forms = (found.body_form for found in self._signatures if isinstance(found, DkimSignature))
        return tuple(dict.fromkeys(forms))

    def finish(
        self, bodies: BodyHashes, resolver: Resolver, now: datetime, remote_ip: IPAddress | None = None
    ) -> ChainOutcome:
        """The body is complete, and `bodies` has the forms that were asked for.

        Asks one TXT record a key, MAX_KEYS at most, and none after the first failure. `remote_ip` is the
        client, for smtp.remote-ip (section 6). Never raises for what is in mail or DNS. May be called again.
        """
        chain = self._chain
        properties = {"smtp.remote-ip": str(remote_ip)} if remote_ip is not None else {}
        if chain.problem is not None:
            return ChainOutcome(MethodResult("arc", "fail", properties, chain.problem), chain)
        if not chain.sets:
            return ChainOutcome(MethodResult("arc", "none"), chain)
        keys = _Keys(resolver)
        judge = _Judge(chain, self._signatures, self._header, bodies, keys, now)
        if finding := judge.newest_message_signature() or judge.seals():
            word = "temperror" if finding.word == "temperror" else "fail"
            return ChainOutcome(MethodResult("arc", word, properties, finding.reason), chain)
        properties = {"header.oldest-pass": str(judge.oldest_pass()), **properties}
        sealers = tuple(arc_set.seal.domain for arc_set in reversed(chain.sets))
        return ChainOutcome(MethodResult("arc", "pass", properties), chain, sealers)


def start_chain_verification(fields: Sequence[HeaderField]) -> ChainVerification:
    """Read the ARC sets of a message whose header, `fields` top down, is complete: without any, cheaply."""
    chain = read_chain(fields)
    return ChainVerification(chain, SignedHeader(fields if chain.sets else ()))


def _read_signature(chain: Chain, instance: int) -> DkimSignature | Finding:
    try:
        signature = parse_message_signature(chain.sets[instance - 1].message_tags)
    except ProtocolError as error:
        return Finding("permerror", str(error))
    if signature.body_form.length is not None and instance < len(chain.sets):
        # each of many lengths would be one more digest, for what no longer matters
        return Finding("policy", "only a part of the body is signed (l=)")
    return signature


class _Keys:
    """Keys in DNS, each asked once."""

    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver
        self._known: dict[tuple[str, Algorithm], UsableKey | Finding] = {}

    def lookup(self, signed: Signed) -> UsableKey | Finding:
        place = (signed.key_name, signed.algorithm)
        if place not in self._known:
            if len(self._known) >= MAX_KEYS:
                return Finding("policy", "too many keys for one chain")
            self._known[place] = lookup_key(self._resolver, signed)
        return self._known[place]


@dataclass(frozen=True, slots=True)
class _Judge:
    """Steps 4 to 6 of section 5.2, for a chain whose structure is right."""

    chain: Chain
    signatures: Sequence[DkimSignature | Finding]
    header: SignedHeader
    bodies: BodyHashes
    keys: _Keys
    now: datetime

    def newest_message_signature(self) -> Finding | None:
        """Step 4: why it does not verify."""
        newest = len(self.chain.sets)
        return _about(f"ARC-Message-Signature {newest}", self._message_signature(newest))

    def seals(self) -> Finding | None:
        """Step 6: why one does not verify, the newest first."""
        scope = SealScope()
        digests = []
        for arc_set in self.chain.sets:
            scope.add(arc_set.results, arc_set.message_signature)
            digests.append(scope.digest(_unsigned(arc_set.seal_field)))
            scope.add(arc_set.seal_field)
        for instance in range(len(digests), 0, -1):
            finding = self._seal(instance, digests[instance - 1])
            if finding is not None:
                return _about(f"ARC-Seal {instance}", finding)
        return None

    def oldest_pass(self) -> int:
        """Step 5: the oldest set whose message signature, and all after it, still verifies; 0 for all."""
        for instance in range(len(self.chain.sets) - 1, 0, -1):
            if self._message_signature(instance) is not None:
                return instance + 1
        return 0

    def _message_signature(self, instance: int) -> Finding | None:
        signature = self.signatures[instance - 1]
        if isinstance(signature, Finding):
            return signature
        if finding := judge_early(signature, self.header) or judge_times(signature, self.now):
            return finding
        key = self.keys.lookup(signature)
        if isinstance(key, Finding):
            return key
        own = self.chain.sets[instance - 1].message_signature
        digest = self.header.digest(
            signature.signed_names,
            signature.header_canonicalization,
            _unsigned(own),
            leave_out=self.header.position_of(own),
        )
        return judge_octets(signature, self.bodies.of(signature.body_form), digest, key.public_key)

    def _seal(self, instance: int, digest: bytes) -> Finding | None:
        seal = self.chain.sets[instance - 1].seal
        if seal.algorithm is Algorithm.RSA_SHA1:
            return Finding("policy", "rsa-sha1 is no longer accepted (RFC 8301)")
        key = self.keys.lookup(seal)
        if isinstance(key, Finding):
            return key
        if not is_signature(key.public_key, digest, seal.signature):
            return Finding("fail", "it does not verify: ARC fields were changed")
        return None


def _unsigned(field: HeaderField) -> HeaderField:
    return HeaderField(field.name, without_signature_value(field.value))


def _about(place: str, finding: Finding | None) -> Finding | None:
    return Finding(finding.word, f"{place}: {finding.reason}") if finding else None
