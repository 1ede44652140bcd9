"""The DKIM-Signature field (RFC 6376 section 3.5): octets to a value, and what may be shown of it. No DNS.

What section 6.1.1 asks of a signature by itself is judged here; what needs the time is in verify.py.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import Enum
from functools import lru_cache

import msgspec
from dkim.canonicalization import CanonicalizationPolicy, InvalidCanonicalizationPolicyError

from mailreeve_milter.dkim.body_hash import BodyForm
from mailreeve_milter.dkim.canonical import Canonicalization
from mailreeve_milter.dkim.taglist import parse_base64, split_list, without_blanks
from mailreeve_policyd.errors import ProtocolError
from mailreeve_policyd.escape import decode_wire, encode_wire
from mailreeve_policyd.smtp import Domain, is_under, parse_domain

FIELD_NAME = b"DKIM-Signature"

MAX_SIGNED_NAMES = 1000
"""Names in h=. Real ones hold up to a hundred; each costs one step."""

REMEMBERED_KINDS = 512
"""Signatures whose constant part is kept as a value: two messages of one sender differ in the times, the
body's hash and b= alone. They take half a megabyte as a rule, and 6 if all are as large as they may be."""

MAX_REMEMBERED_CHARACTERS = 512
"""Of h= and of q=; longer ones are read each time."""

MAX_IDENTITY_CHARACTERS = 320
"""i=: a local part of 64, the @ and a domain of 255 (RFC 5321 section 4.5.3.1)."""

SHA256_OCTETS = 32

# a _Kind; where they are well-formed, none but h= and q= may be long
_CONSTANT_TAGS = ("v", "a", "c", "d", "s", "q", "h")

# hdr-name = field-name of RFC 5322, without ";" (section 2.10)
_FIELD_NAME = re.compile(r"[!-9<-~]+\Z")
# sig-t-tag and sig-x-tag: 1*12DIGIT; sig-l-tag: 1*76DIGIT; [0-9] because \d has digits of all scripts
_TIME = re.compile(r"[0-9]{1,12}\Z")
_LENGTH = re.compile(r"[0-9]{1,76}\Z")
_ALGORITHM = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,39}\Z")
_BASE64 = re.compile(r"[A-Za-z0-9+/]+={0,2}\Z")
_HEX_OCTET = re.compile(rb"=([0-9A-F]{2})")


class UnknownMethodError(ProtocolError):
    """A signature in a way that nobody here knows (a=, c=, q=): not wrong, but not to be verified."""


class Algorithm(Enum):
    """The words of a= that are known."""

    RSA_SHA256 = "rsa-sha256"
    ED25519_SHA256 = "ed25519-sha256"
    RSA_SHA1 = "rsa-sha1"  # known so that it is refused by name (RFC 8301 section 3.1)

    def __init__(self, word: str) -> None:
        self.key_type = word.partition("-")[0]
        """The k= of its keys."""


class _Kind(msgspec.Struct, frozen=True, gc=False):
    """What is the same in all signatures that one sender makes with one key."""

    algorithm: Algorithm
    header_canonicalization: Canonicalization
    body_canonicalization: Canonicalization
    domain: Domain
    selector: Domain
    key_name: str
    signed_names: tuple[bytes, ...]


class DkimSignature(msgspec.Struct, frozen=True, gc=False):  # a dataclass takes five times as long to make
    """A signature that is well-formed. Times are POSIX seconds; names of h= are lower case.

    `key_name` is where its key is published (section 3.6.2.1).
    """

    algorithm: Algorithm
    signature: bytes
    body_hash: bytes
    header_canonicalization: Canonicalization
    body_form: BodyForm
    domain: Domain
    selector: Domain
    key_name: str
    identity_domain: Domain
    signed_names: tuple[bytes, ...]
    signed_at: int | None
    expires_at: int | None


def format_key_name(selector: Domain, domain: Domain) -> str:
    """The name whose TXT record holds the key."""
    return f"{selector}._domainkey.{domain}"


def parse_signature(tags: Mapping[str, str]) -> DkimSignature:
    """The tags of a DKIM-Signature field as a signature (sections 3.5 and 6.1.1).

    Raises:
        UnknownMethodError: well-formed as far as it was read, with an a=, c= or q= that is not known.
        ProtocolError: a tag is missing or malformed, or two contradict each other; the text is for people.
    """
    constant = [tags.get(name) for name in _CONSTANT_TAGS]
    is_usual = len(tags.get("h", "")) <= MAX_REMEMBERED_CHARACTERS >= len(tags.get("q", ""))
    kind = _parse_kind_once(*constant) if is_usual else _parse_kind(*constant)
    signed_at, expires_at = _parse_times(tags)
    return DkimSignature(
        algorithm=kind.algorithm,
        signature=parse_octets(tags, "b"),
        body_hash=_parse_body_hash(tags, kind.algorithm),
        header_canonicalization=kind.header_canonicalization,
        body_form=BodyForm(kind.body_canonicalization, _parse_number(tags, "l", _LENGTH)),
        domain=kind.domain,
        selector=kind.selector,
        key_name=kind.key_name,
        identity_domain=_parse_identity_domain(tags, kind.domain),
        signed_names=kind.signed_names,
        signed_at=signed_at,
        expires_at=expires_at,
    )


def _parse_kind(*constant: str | None) -> _Kind:
    """The values of _CONSTANT_TAGS, None where one is not given. Raises as `parse_signature`."""
    tags = {name: value for name, value in zip(_CONSTANT_TAGS, constant, strict=True) if value is not None}
    if _required(tags, "v") != "1":
        raise ProtocolError("v= is not 1")
    domain, selector = parse_place(tags)
    header, body = _parse_canonicalization(tags.get("c", "simple/simple"))
    if "dns/txt" not in split_list(tags.get("q", "dns/txt")):
        raise UnknownMethodError("the key is not in DNS (q=)")
    names = _parse_signed_names(tags)
    return _Kind(
        parse_algorithm(tags), header, body, domain, selector, format_key_name(selector, domain), names
    )


_parse_kind_once = lru_cache(maxsize=REMEMBERED_KINDS)(_parse_kind)


def format_properties(tags: Mapping[str, str], b_characters: int) -> dict[str, str]:
    """What RFC 8601 section 2.7.1 shows of a signature, malformed or not: well-formed values alone."""
    shown: dict[str, str] = {}
    if (domain := parse_signing_domain(tags)) is not None:
        shown["header.d"] = domain
    if domain and "i" in tags and _is_identity(tags["i"]):
        shown["header.i"] = tags["i"]
    if (selector := _domain_or_none(tags.get("s", ""))) is not None:
        shown["header.s"] = selector
    if _ALGORITHM.match(tags.get("a", "")):
        shown["header.a"] = tags["a"]
    if _BASE64.match(b := without_blanks(tags.get("b", ""))):
        shown["header.b"] = b[:b_characters]
    return shown


def parse_signing_domain(tags: Mapping[str, str]) -> Domain | None:
    """The d= as far as it is a domain name."""
    return _domain_or_none(tags.get("d", ""))


def parse_key_place(tags: Mapping[str, str]) -> tuple[Domain | None, Domain | None]:
    """The d= and the s= as far as they are domain names."""
    return parse_signing_domain(tags), _domain_or_none(tags.get("s", ""))


def without_signature_value(value: bytes) -> bytes:
    """The field's value with its b= emptied, white space around it included (section 3.7).

    There is one at most in a list of tags, and it is looked for from the end, where it mostly stands.
    """
    end = len(value)
    while end >= 0:
        start = value.rfind(b";", 0, end) + 1
        name, equals, _ = value[start:end].partition(b"=")
        if equals and name.strip(b" \t\r\n") == b"b":
            return value[: start + len(name) + 1] + value[end:]
        end = start - 1
    return value


def _required(tags: Mapping[str, str], name: str) -> str:
    value = tags.get(name)
    if not value:
        raise ProtocolError(f"{name}= is missing")
    return value


def parse_place(tags: Mapping[str, str]) -> tuple[Domain, Domain]:
    """d= and s=. A domain has two labels at least (sub-domain 1*("." sub-domain)) and no final dot.

    Raises:
        ProtocolError: a tag is missing, or both do not give the name of a key.
    """
    domain_text, selector_text = _required(tags, "d"), _required(tags, "s")
    try:
        domain, selector = parse_domain(domain_text), parse_domain(selector_text)
        parse_domain(format_key_name(selector, domain))
    except ProtocolError as error:
        raise ProtocolError("d= and s= give no domain name") from error
    if "." not in domain or domain_text.endswith(".") or selector_text.endswith("."):
        raise ProtocolError("d= or s= is no domain name")
    return domain, selector


def _domain_or_none(text: str) -> Domain | None:
    try:
        return parse_domain(text)
    except ProtocolError:
        return None


def parse_algorithm(tags: Mapping[str, str]) -> Algorithm:
    """a=. Raises ProtocolError where it is missing, UnknownMethodError where nobody here knows it."""
    try:
        return Algorithm(_required(tags, "a"))
    except ValueError as error:
        raise UnknownMethodError("the algorithm (a=) is not known") from error


def parse_octets(tags: Mapping[str, str], name: str) -> bytes:
    """A tag in base64. Raises ProtocolError where it is missing, empty or none."""
    try:
        octets = parse_base64(_required(tags, name))
    except ProtocolError as error:
        raise ProtocolError(f"{name}= is missing or not base64") from error
    if not octets:
        raise ProtocolError(f"{name}= is empty")
    return octets


def _parse_body_hash(tags: Mapping[str, str], algorithm: Algorithm) -> bytes:
    octets = parse_octets(tags, "bh")
    if algorithm is not Algorithm.RSA_SHA1 and len(octets) != SHA256_OCTETS:
        raise ProtocolError("bh= is no SHA-256 digest")
    return octets


def _parse_canonicalization(text: str) -> tuple[Canonicalization, Canonicalization]:
    try:
        policy = CanonicalizationPolicy.from_c_value(encode_wire(text))
    except InvalidCanonicalizationPolicyError as error:
        raise UnknownMethodError("the canonicalization (c=) is not known") from error
    header, _, body = policy.to_c_value().decode("ascii").partition("/")
    return Canonicalization(header), Canonicalization(body)


def _parse_times(tags: Mapping[str, str]) -> tuple[int | None, int | None]:
    signed_at, expires_at = parse_time(tags, "t"), parse_time(tags, "x")
    if signed_at is not None and expires_at is not None and expires_at <= signed_at:
        raise ProtocolError("it expires (x=) before it was made (t=)")
    return signed_at, expires_at


def parse_time(tags: Mapping[str, str], name: str) -> int | None:
    """A tag with POSIX seconds; None where it is not given. Raises ProtocolError."""
    return _parse_number(tags, name, _TIME)


def _parse_number(tags: Mapping[str, str], name: str, grammar: re.Pattern[str]) -> int | None:
    if name not in tags:
        return None
    if not grammar.match(tags[name]):
        raise ProtocolError(f"{name}= is not a number")
    return int(tags[name])


def _parse_signed_names(tags: Mapping[str, str]) -> tuple[bytes, ...]:
    names = split_list(_required(tags, "h"))
    if len(names) > MAX_SIGNED_NAMES:
        raise ProtocolError("h= names too many header fields")
    if not all(_FIELD_NAME.match(name) for name in names):
        raise ProtocolError("h= is no list of field names")
    lowered = tuple(name.lower().encode("ascii") for name in names)
    if b"from" not in lowered:
        raise ProtocolError("From is not signed (h=)")
    return lowered


def _parse_identity_domain(tags: Mapping[str, str], domain: Domain) -> Domain:
    """The domain of i=, which is d= or below it; i= is dkim-quoted-printable."""
    if "i" not in tags:
        return domain
    identity = tags["i"]
    if not _is_identity(identity):
        raise ProtocolError("i= is no identity")
    if "=" in identity:
        octets = _HEX_OCTET.sub(lambda match: bytes.fromhex(match[1].decode("ascii")), encode_wire(identity))
        identity = decode_wire(octets)
    identity_domain = _domain_or_none(identity.rpartition("@")[2])
    if identity_domain is None or not is_under(identity_domain, domain):
        raise ProtocolError("i= is not within d=")
    return identity_domain


def _is_identity(text: str) -> bool:
    return "@" in text and len(text) <= MAX_IDENTITY_CHARACTERS and text.isprintable() and " " not in text
