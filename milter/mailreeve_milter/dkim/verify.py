"""Verifies the DKIM-Signature fields of one message (RFC 6376 section 6). Knows no policy and no DMARC."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from hmac import compare_digest

import msgspec

from mailreeve_milter.dkim.body_hash import BodyForm, BodyHash, BodyHashes
from mailreeve_milter.dkim.crypto import PublicKey, is_signature
from mailreeve_milter.dkim.header_hash import SignedHeader
from mailreeve_milter.dkim.key_record import UsableKey, lookup_key
from mailreeve_milter.dkim.outcome import Finding, SignatureOutcome
from mailreeve_milter.dkim.signature import (
    FIELD_NAME,
    Algorithm,
    DkimSignature,
    UnknownMethodError,
    format_properties,
    parse_key_place,
    parse_signature,
    parse_signing_domain,
    without_signature_value,
)
from mailreeve_milter.dkim.taglist import parse_tag_list, without_blanks
from mailreeve_milter.message import HeaderField
from mailreeve_policyd.authres import MethodResult
from mailreeve_policyd.errors import ProtocolError
from mailreeve_policyd.resolver import Resolver
from mailreeve_policyd.smtp import Domain, is_under

CLOCK_SKEW = timedelta(hours=1)
"""How far the signer's clock may be from ours: wide enough for a host in the wrong time zone's summer."""

_SKEW_SECONDS = int(CLOCK_SKEW.total_seconds())

MAX_SIGNATURES_READ = 64
"""Signature fields that are parsed to choose among them, from the top; each takes some 30 us."""

MIN_B_SHOWN = 8
MAX_B_SHOWN = 64
"""Characters of b= that tell signatures apart (RFC 6008 section 3): eight, more where they are alike."""

_FROM = b"from"
_LOWER_FIELD_NAME = FIELD_NAME.lower()
_PASS = Finding("pass", "the signature verifies")

KeySource = Callable[[DkimSignature], UsableKey | Finding]
"""Finds the key of a signature, or says why there is none."""

_Read = dict[str, str] | Finding
"""The tags of a signature field, or what is wrong with it."""


class _Candidate(msgspec.Struct, frozen=True):
    """One signature field: a signature, or what is wrong with it. `header_digest` is set with a signature."""

    properties: Mapping[str, str]
    domain: Domain | None
    signature: DkimSignature | None
    finding: Finding | None
    header_digest: bytes = b""

    def outcome(self, finding: Finding) -> SignatureOutcome:
        return SignatureOutcome(
            MethodResult("dkim", finding.word, self.properties, finding.reason), self.domain
        )


class Verification:
    """The signatures of one message, while its body streams by. Made by `start_verification`.

    `bodies` has the digests that the signatures need, and those that others asked for; final after `finish`.
    """

    __slots__ = ("_candidates", "_unread", "bodies")

    def __init__(self, candidates: Sequence[_Candidate], unread: int, also_hash: Iterable[BodyForm]) -> None:
        self._candidates = candidates
        self._unread = unread
        needed = (candidate.signature.body_form for candidate in candidates if candidate.signature)
        self.bodies = BodyHashes((*needed, *also_hash))

    def update(self, chunk: bytes) -> None:
        """The next octets of the body, cut anywhere, with CRLF line ends as on the wire."""
        self.bodies.update(chunk)

    def finish(self, resolver: Resolver, now: datetime) -> tuple[SignatureOutcome, ...]:
        """The body is complete: each signature's outcome, in header order; none for unsigned mail.

        Asks one TXT record a signature. Signatures beyond the bound are one last outcome, `policy`.
        Called once. Never raises for what is in mail or DNS.
        """
        return self.finish_with(partial(lookup_key, resolver), now)

    def finish_with(self, keys: KeySource, now: datetime) -> tuple[SignatureOutcome, ...]:
        """As `finish`, with keys that come from elsewhere."""
        self.bodies.finish()
        outcomes = [candidate.outcome(self._verify(candidate, keys, now)) for candidate in self._candidates]
        if self._unread:
            outcomes.append(_unread_outcome(self._unread, len(self._candidates)))
        return tuple(outcomes)

    def _verify(self, candidate: _Candidate, keys: KeySource, now: datetime) -> Finding:
        signature = candidate.signature
        if signature is None:
            return candidate.finding or Finding("permerror", "not a signature")
        if finding := judge_times(signature, now):
            return finding
        key = keys(signature)
        if isinstance(key, Finding):
            return key
        body = self.bodies.of(signature.body_form)
        finding = judge_octets(signature, body, candidate.header_digest, key.public_key)
        if key.is_testing:
            return _as_testing(finding)
        return finding or _PASS


def start_verification(
    fields: Sequence[HeaderField],
    author_domain: Domain | None,
    max_signatures: int,
    also_hash: Iterable[BodyForm] = (),
) -> Verification:
    """Read the signatures of a message whose header, `fields` top down, is complete.

    At most `max_signatures` are verified: those of the author's domain first, then those of domains
    above and below it, then the others, each from the top down. `also_hash` are forms of the body that
    somebody else needs, so that the body is gone over once.
    """
    header = SignedHeader(fields)
    positions = _signature_positions(fields, header)
    most_read = max(MAX_SIGNATURES_READ, max_signatures)
    read = [(place, _read_tags(fields[place])) for place in positions[:most_read]]
    chosen = read if len(read) <= max_signatures else _choose(read, author_domain, max_signatures)
    return _verification(fields, header, chosen, len(positions) - len(chosen), also_hash)


def start_verification_of(
    fields: Sequence[HeaderField],
    header: SignedHeader,
    names: Container[tuple[Domain | None, Domain | None]],
    max_signatures: int,
) -> Verification | None:
    """As `start_verification`, of the topmost signatures alone whose d= and s= are among `names`.

    `header` is that of the `fields`. None if the message has no such signature, which is usual.
    """
    positions = _signature_positions(fields, header)
    read = ((place, _read_tags(fields[place])) for place in positions[:MAX_SIGNATURES_READ])
    chosen = [
        (place, tags) for place, tags in read if isinstance(tags, dict) and parse_key_place(tags) in names
    ]
    return _verification(fields, header, chosen[:max_signatures], 0) if chosen else None


def _signature_positions(fields: Sequence[HeaderField], header: SignedHeader) -> list[int]:
    """Space behind the name, which is left to other readers, makes the field none of ours."""
    places = header.places.get(_LOWER_FIELD_NAME, ())
    return [place for place in places if len(fields[place].name) == len(FIELD_NAME)]


def _choose(
    read: Sequence[tuple[int, _Read]], author_domain: Domain | None, max_signatures: int
) -> list[tuple[int, _Read]]:
    ranked = sorted(read, key=lambda entry: _rank(entry[1], author_domain))
    return sorted(ranked[:max_signatures], key=lambda entry: entry[0])


def _verification(
    fields: Sequence[HeaderField],
    header: SignedHeader,
    chosen: Sequence[tuple[int, _Read]],
    unread: int,
    also_hash: Iterable[BodyForm] = (),
) -> Verification:
    b_shown = _b_characters([tags for _, tags in chosen if isinstance(tags, dict)])
    candidates = [_candidate(fields[place], place, tags, header, b_shown) for place, tags in chosen]
    return Verification(candidates, unread, also_hash)


def _read_tags(field: HeaderField) -> _Read:
    try:
        return parse_tag_list(field.value)
    except ProtocolError as error:
        return _malformed(error)


def _malformed(error: ProtocolError) -> Finding:
    return Finding("neutral" if isinstance(error, UnknownMethodError) else "permerror", str(error))


def _rank(tags: _Read, author_domain: Domain | None) -> int:
    """0 for the author's domain, 3 for what cannot be read."""
    domain = None if isinstance(tags, Finding) else parse_signing_domain(tags)
    if domain is None:
        return 3
    if author_domain is None:
        return 2
    if domain == author_domain:
        return 0
    return 1 if is_under(domain, author_domain) or is_under(author_domain, domain) else 2


def _b_characters(signatures: Sequence[Mapping[str, str]]) -> int:
    """How much of each b= tells them apart, as far as they differ."""
    if len(signatures) < 2:
        return MIN_B_SHOWN
    values = {without_blanks(tags.get("b", "")) for tags in signatures}
    shown = MIN_B_SHOWN
    while shown < MAX_B_SHOWN and len({value[:shown] for value in values}) < len(values):
        shown += 4
    return shown


def _candidate(
    field: HeaderField, position: int, tags: _Read, header: SignedHeader, b_shown: int
) -> _Candidate:
    if isinstance(tags, Finding):
        return _Candidate({}, None, None, tags)
    properties = format_properties(tags, b_shown)
    domain = parse_signing_domain(tags)
    try:
        signature = parse_signature(tags)
    except ProtocolError as error:
        return _Candidate(properties, domain, None, _malformed(error))
    if finding := judge_early(signature, header):
        return _Candidate(properties, domain, None, finding)
    digest = header.digest(
        signature.signed_names,
        signature.header_canonicalization,
        HeaderField(field.name, without_signature_value(field.value)),
        leave_out=position,
    )
    return _Candidate(properties, domain, signature, None, digest)


def judge_early(signature: DkimSignature, header: SignedHeader) -> Finding | None:
    """What is refused before DNS is asked and the body hashed."""
    if signature.algorithm is Algorithm.RSA_SHA1:
        return Finding("policy", "rsa-sha1 is no longer accepted (RFC 8301)")
    if header.count(_FROM) > max(1, signature.signed_names.count(_FROM)):
        # section 8.15: the one that is not signed may be the one that is shown
        return Finding("policy", "the message has a From field that is not signed")
    return None


def judge_times(signature: DkimSignature, now: datetime) -> Finding | None:
    """What is wrong with t= and x=, clocks being CLOCK_SKEW apart at most."""
    seconds = int(now.timestamp())
    if signature.expires_at is not None and seconds > signature.expires_at + _SKEW_SECONDS:
        return Finding("policy", "the signature has expired (x=)")
    if signature.signed_at is not None and signature.signed_at > seconds + _SKEW_SECONDS:
        return Finding("policy", "the signature was made in the future (t=)")
    return None


def judge_octets(
    signature: DkimSignature, body: BodyHash, header_digest: bytes, key: PublicKey
) -> Finding | None:
    """Section 6.1.3: what is wrong with body, header or their cover; None for what verifies."""
    finding = _compare_body(signature, body)
    if finding is None and not is_signature(key, header_digest, signature.signature):
        finding = Finding("fail", "the signature does not verify: signed header fields were changed")
    return finding or _judge_cover(signature, body)


def _compare_body(signature: DkimSignature, body: BodyHash) -> Finding | None:
    if signature.body_form.length is not None and signature.body_form.length > body.octets:
        return Finding("fail", "the body is shorter than what was signed (l=)")
    if not compare_digest(body.digest, signature.body_hash):
        return Finding("fail", "the body was changed")
    return None


def _judge_cover(signature: DkimSignature, body: BodyHash) -> Finding | None:
    """Section 8.2: what was added below a signed part of the body is nobody's word."""
    length = signature.body_form.length
    if length is None or length == body.octets:
        return None
    return Finding("policy", f"only {length} of the body's {body.octets} octets are signed (l=)")


def _as_testing(finding: Finding | None) -> Finding:
    """Section 3.6.1: a domain that tests is not worse off than one that does not sign."""
    if finding is None:
        return Finding("pass", "the signature verifies; its domain is testing DKIM (t=y)")
    if finding.word != "fail":
        return finding
    return Finding("neutral", f"{finding.reason}; its domain is testing DKIM (t=y)")


def _unread_outcome(unread: int, verified: int) -> SignatureOutcome:
    reason = f"{unread} more signatures were not verified: {verified} are enough for one message"
    return SignatureOutcome(MethodResult("dkim", "policy", {}, reason), None)
