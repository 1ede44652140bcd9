"""Verifies the DKIM-Signature fields of one message (RFC 6376 section 6). Knows no policy and no DMARC."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from hmac import compare_digest

from mailreeve_milter.dkim.body_hash import BodyHash, BodyHashes
from mailreeve_milter.dkim.crypto import is_signature
from mailreeve_milter.dkim.header_hash import SignedHeader
from mailreeve_milter.dkim.key_record import lookup_key
from mailreeve_milter.dkim.outcome import Finding, SignatureOutcome
from mailreeve_milter.dkim.signature import (
    FIELD_NAME,
    Algorithm,
    DkimSignature,
    UnknownMethodError,
    format_properties,
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

MAX_SIGNATURES_READ = 64
"""Signature fields that are parsed to choose among them, from the top; each takes some 30 us."""

MIN_B_SHOWN = 8
MAX_B_SHOWN = 64
"""Characters of b= that tell signatures apart (RFC 6008 section 3): eight, more where they are alike."""

_FROM = b"from"


@dataclass(frozen=True, slots=True)
class _Candidate:
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
    """The signatures of one message, while its body streams by. Made by `start_verification`."""

    __slots__ = ("_bodies", "_candidates", "_unread")

    def __init__(self, candidates: Sequence[_Candidate], unread: int) -> None:
        self._candidates = candidates
        self._unread = unread
        self._bodies = BodyHashes(
            candidate.signature.body_form for candidate in candidates if candidate.signature
        )

    def update(self, chunk: bytes) -> None:
        """The next octets of the body, cut anywhere, with CRLF line ends as on the wire."""
        self._bodies.update(chunk)

    def finish(self, resolver: Resolver, now: datetime) -> tuple[SignatureOutcome, ...]:
        """The body is complete: each signature's outcome, in header order; none for unsigned mail.

        Asks one TXT record a signature. Signatures beyond the bound are one last outcome, `policy`.
        Called once. Never raises for what is in mail or DNS.
        """
        self._bodies.finish()
        outcomes = [
            candidate.outcome(self._verify(candidate, resolver, now)) for candidate in self._candidates
        ]
        if self._unread:
            outcomes.append(_unread_outcome(self._unread, len(self._candidates)))
        return tuple(outcomes)

    def _verify(self, candidate: _Candidate, resolver: Resolver, now: datetime) -> Finding:
        signature = candidate.signature
        if signature is None:
            return candidate.finding or Finding("permerror", "not a signature")
        if finding := _judge_times(signature, now):
            return finding
        key = lookup_key(resolver, signature)
        if isinstance(key, Finding):
            return key
        body = self._bodies.of(signature.body_form)
        finding = _compare_body(signature, body)
        if finding is None and not is_signature(key.public_key, candidate.header_digest, signature.signature):
            finding = Finding("fail", "the signature does not verify: signed header fields were changed")
        if key.is_testing:
            return _as_testing(finding or _judge_cover(signature, body))
        return finding or _judge_cover(signature, body) or Finding("pass", "the signature verifies")


def start_verification(
    fields: Sequence[HeaderField], author_domain: Domain | None, max_signatures: int
) -> Verification:
    """Read the signatures of a message whose header, `fields` top down, is complete.

    At most `max_signatures` are verified: those of the author's domain first, then those of domains
    above and below it, then the others, each from the top down.
    """
    positions = [place for place, field in enumerate(fields) if field.lower_name == FIELD_NAME.lower()]
    read = [(place, _read_tags(fields[place])) for place in positions[:MAX_SIGNATURES_READ]]
    ranked = sorted(read, key=lambda entry: _rank(entry[1], author_domain))
    chosen = sorted(ranked[:max_signatures], key=lambda entry: entry[0])
    b_shown = _b_characters([tags for _, tags in chosen if isinstance(tags, dict)])
    header = SignedHeader(fields if chosen else ())
    candidates = [_candidate(fields[place], place, tags, header, b_shown) for place, tags in chosen]
    return Verification(candidates, len(positions) - len(chosen))


def _read_tags(field: HeaderField) -> dict[str, str] | Finding:
    try:
        return parse_tag_list(field.value)
    except ProtocolError as error:
        return _malformed(error)


def _malformed(error: ProtocolError) -> Finding:
    return Finding("neutral" if isinstance(error, UnknownMethodError) else "permerror", str(error))


def _rank(tags: dict[str, str] | Finding, author_domain: Domain | None) -> int:
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
    values = {without_blanks(tags.get("b", "")) for tags in signatures}
    shown = MIN_B_SHOWN
    while shown < MAX_B_SHOWN and len({value[:shown] for value in values}) < len(values):
        shown += 4
    return shown


def _candidate(
    field: HeaderField, position: int, tags: dict[str, str] | Finding, header: SignedHeader, b_shown: int
) -> _Candidate:
    if isinstance(tags, Finding):
        return _Candidate({}, None, None, tags)
    properties = format_properties(tags, b_shown)
    domain = parse_signing_domain(tags)
    try:
        signature = parse_signature(tags)
    except ProtocolError as error:
        return _Candidate(properties, domain, None, _malformed(error))
    if finding := _judge_early(signature, header):
        return _Candidate(properties, domain, None, finding)
    digest = header.digest(
        signature.signed_names,
        signature.header_canonicalization,
        HeaderField(field.name, without_signature_value(field.value)),
        leave_out=position,
    )
    return _Candidate(properties, domain, signature, None, digest)


def _judge_early(signature: DkimSignature, header: SignedHeader) -> Finding | None:
    """What is refused before DNS is asked and the body hashed."""
    if signature.algorithm is Algorithm.RSA_SHA1:
        return Finding("policy", "rsa-sha1 is no longer accepted (RFC 8301)")
    if header.count(_FROM) > max(1, signature.signed_names.count(_FROM)):
        # section 8.15: the one that is not signed may be the one that is shown
        return Finding("policy", "the message has a From field that is not signed")
    return None


def _judge_times(signature: DkimSignature, now: datetime) -> Finding | None:
    seconds, skew = int(now.timestamp()), int(CLOCK_SKEW.total_seconds())
    if signature.expires_at is not None and seconds > signature.expires_at + skew:
        return Finding("policy", "the signature has expired (x=)")
    if signature.signed_at is not None and signature.signed_at > seconds + skew:
        return Finding("policy", "the signature was made in the future (t=)")
    return None


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
