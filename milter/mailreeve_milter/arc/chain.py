"""The ARC sets of a message (RFC 8617 section 4.2): header fields to a chain, or what is wrong with it.

Knows grammar and structure alone (sections 4.1 and 5.2 steps 1 to 3): no key, no digest of a body, no DNS.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from mailreeve_milter.dkim.canonical import CRLF, Canonicalization, canonical_field
from mailreeve_milter.dkim.signature import (
    Algorithm,
    DkimSignature,
    format_key_name,
    parse_algorithm,
    parse_octets,
    parse_place,
    parse_signature,
    parse_time,
)
from mailreeve_milter.dkim.taglist import parse_tag_list
from mailreeve_milter.message import HeaderField, unfold
from mailreeve_policyd.errors import ProtocolError
from mailreeve_policyd.smtp import Domain

MAX_SETS = 50
"""Section 4.2.1."""

MAX_FIELDS = 3 * MAX_SETS
"""More ARC fields cannot be a chain and are not read."""

MAX_INSTANCE_OCTETS = 200
"""Of an ARC-Authentication-Results value, in which its instance must stand; only comments may go before."""

# instance-value = 1*2DIGIT (section 4.2.1)
_INSTANCE = re.compile(r"[0-9]{1,2}\Z")
# arc-info = instance [CFWS] ";" authres-payload; instance = [CFWS] "i" [CFWS] "=" [CFWS] instance-value.
# No comment in a comment: nobody writes even one. Folds are gone.
_CFWS = r"(?:[ \t]|\([^()\\]*\))*+"
_RESULTS_INSTANCE = re.compile(rf"{_CFWS}i{_CFWS}={_CFWS}([0-9]{{1,2}}){_CFWS};")


class Kind(Enum):
    """The three fields of a set, in the order in which they are sealed (section 5.1.1)."""

    RESULTS = "ARC-Authentication-Results"
    MESSAGE_SIGNATURE = "ARC-Message-Signature"
    SEAL = "ARC-Seal"

    @property
    def field_name(self) -> bytes:
        """As it is written."""
        return self.value.encode("ascii")


class ChainStatus(Enum):
    """Chain Validation Status, the words of cv= (section 4.4)."""

    NONE = "none"
    FAIL = "fail"
    PASS = "pass"  # noqa: S105 -- a word of the RFC, no password


_KINDS = {kind.field_name.lower(): kind for kind in Kind}


@dataclass(frozen=True, slots=True)
class ArcSeal:
    """What an ARC-Seal says (section 4.1.3)."""

    status: ChainStatus
    algorithm: Algorithm
    signature: bytes
    domain: Domain
    selector: Domain

    @property
    def identity_domain(self) -> Domain:
        """A seal has no AUID: its domain."""
        return self.domain

    @property
    def key_name(self) -> str:
        """Where its key is published."""
        return format_key_name(self.selector, self.domain)


@dataclass(frozen=True, slots=True)
class ArcSet:
    """One hop's three fields; the tags of its message signature are read when it is verified."""

    results: HeaderField
    message_signature: HeaderField
    message_tags: Mapping[str, str]
    seal_field: HeaderField
    seal: ArcSeal


@dataclass(frozen=True, slots=True)
class Chain:
    """All sets, the oldest first: the set at index 0 is instance 1.

    `highest` is the highest instance that was found, 0 for a message without a readable ARC field.
    `problem` says why there is no chain although there are ARC fields; `sets` is empty then.
    `is_ended`: the newest seal itself says that the chain had failed before.
    """

    sets: tuple[ArcSet, ...] = ()
    highest: int = 0
    problem: str | None = None
    is_ended: bool = False


def read_chain(fields: Sequence[HeaderField]) -> Chain:
    """The chain of a message whose header is `fields`. Never raises."""
    found = [
        (kind, field) for field in fields if (kind := _KINDS.get(field.lower_name.rstrip(b" \t"))) is not None
    ]
    if not found:
        return Chain()
    if len(found) > MAX_FIELDS:
        return Chain(highest=MAX_SETS, problem=f"there are more than {MAX_SETS} ARC sets")
    parts, problem = _read_parts(found)
    highest = max((part.instance for part in parts), default=0)
    if any(part.says_fail and part.instance == highest for part in parts):  # 5.2 step 2
        return Chain((), highest, "the last sealer found the chain invalid (cv=fail)", is_ended=True)
    if problem is not None:
        return Chain((), highest, problem)
    try:
        return Chain(_arrange(parts, highest), highest)
    except ProtocolError as error:
        return Chain((), highest, str(error))


def parse_seal(tags: Mapping[str, str]) -> ArcSeal:
    """The tags of an ARC-Seal.

    Raises:
        ProtocolError: a tag is missing, malformed, or h=, which a seal must not have (section 4.1.3).
    """
    if "h" in tags:
        raise ProtocolError("it has h=")
    try:
        status = ChainStatus(tags.get("cv", "").lower())
    except ValueError as error:
        raise ProtocolError("cv= is missing or no status") from error
    parse_time(tags, "t")
    domain, selector = parse_place(tags)
    return ArcSeal(status, parse_algorithm(tags), parse_octets(tags, "b"), domain, selector)


def parse_message_signature(tags: Mapping[str, str]) -> DkimSignature:
    """The tags of an ARC-Message-Signature as the DKIM signature that it is but for v= and i= (4.1.2).

    A sealer should sign no ARC field, but results and message signatures do no harm and were signed by
    those who followed the drafts; section 5.2 has no step that refuses them. ARC-Seal is the exception: the
    set's own is made afterwards.

    Raises:
        ProtocolError: as dkim.signature.parse_signature, or it signs ARC-Seal.
    """
    signature = parse_signature({**{name: tags[name] for name in tags if name != "i"}, "v": "1"})
    if Kind.SEAL.field_name.lower() in signature.signed_names:
        raise ProtocolError("it signs ARC-Seal (h=)")
    return signature


class SealScope:
    """What seals sign, set after set, the oldest first (section 5.1.1); each field is gone over once."""

    __slots__ = ("_hash",)

    def __init__(self) -> None:
        self._hash = hashlib.sha256()

    def add(self, *fields: HeaderField) -> None:
        """The next fields."""
        for field in fields:
            self._hash.update(canonical_field(field, Canonicalization.RELAXED))

    def digest(self, unsigned_seal: HeaderField) -> bytes:
        """Of what was added and of the seal, whose b= the caller has emptied."""
        own = self._hash.copy()
        own.update(canonical_field(unsigned_seal, Canonicalization.RELAXED).removesuffix(CRLF))
        return own.digest()


@dataclass(frozen=True, slots=True)
class _Part:
    """One ARC field."""

    kind: Kind
    instance: int
    field: HeaderField
    tags: Mapping[str, str]

    @property
    def says_fail(self) -> bool:
        return self.kind is Kind.SEAL and self.tags.get("cv", "").lower() == ChainStatus.FAIL.value


def _read_parts(found: Sequence[tuple[Kind, HeaderField]]) -> tuple[list[_Part], str | None]:
    """All that can be read, and what is wrong with the first that cannot."""
    parts: list[_Part] = []
    problem = None
    for kind, field in found:
        try:
            parts.append(_read_part(kind, field))
        except ProtocolError as error:
            problem = problem or f"{kind.value}: {error}"
    return parts, problem


def _read_part(kind: Kind, field: HeaderField) -> _Part:
    if kind is Kind.RESULTS:
        start = unfold(field.value[:MAX_INSTANCE_OCTETS]).decode("ascii", "replace")
        match = _RESULTS_INSTANCE.match(start)
        return _Part(kind, _parse_instance(match[1] if match else ""), field, {})
    tags = parse_tag_list(field.value)
    return _Part(kind, _parse_instance(tags.get("i", "")), field, tags)


def _parse_instance(text: str) -> int:
    instance = int(text) if _INSTANCE.match(text) else 0
    if not instance:
        raise ProtocolError("its instance (i=) is no number from 1 to 50")
    return instance


def _arrange(parts: Sequence[_Part], highest: int) -> tuple[ArcSet, ...]:
    """5.2 step 3: each set whole, instances without a gap, each cv= as it must be."""
    if highest > MAX_SETS:
        raise ProtocolError(f"there are more than {MAX_SETS} ARC sets")
    by_place: dict[tuple[int, Kind], _Part] = {}
    for part in parts:
        if (part.instance, part.kind) in by_place:
            raise ProtocolError(f"set {part.instance} has more than one {part.kind.value}")
        by_place[part.instance, part.kind] = part
    return tuple(_make_set(by_place, instance) for instance in range(1, highest + 1))


def _make_set(by_place: Mapping[tuple[int, Kind], _Part], instance: int) -> ArcSet:
    for kind in Kind:
        if (instance, kind) not in by_place:
            raise ProtocolError(f"set {instance} has no {kind.value}")
    results, message, seal = (by_place[instance, kind] for kind in Kind)
    try:
        parsed = parse_seal(seal.tags)
    except ProtocolError as error:
        raise ProtocolError(f"ARC-Seal {instance}: {error}") from error
    if parsed.status is not (ChainStatus.NONE if instance == 1 else ChainStatus.PASS):
        raise ProtocolError(f"ARC-Seal {instance} says cv={parsed.status.value}")
    return ArcSet(results.field, message.field, message.tags, seal.field, parsed)
