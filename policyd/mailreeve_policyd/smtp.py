"""The words of RFC 5321 and RFC 3463: stages, domains, mailboxes, replies. No IO, no policy."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from typing import NewType

import msgspec

from mailreeve_policyd.errors import ProtocolError

MAX_DOMAIN_OCTETS = 253
"""A name of 255 octets on the wire is 253 in text (RFC 1035 section 2.3.4)."""

MAX_DOMAIN_CHARACTERS = 512
"""Of any text that is a domain name: U-labels have fewer characters than their A-labels have octets."""

REMEMBERED_DOMAINS = 2048
"""Names that were parsed lately, as each of a message is parsed several times: about half a megabyte."""

REMEMBERED_PATHS = 2048
"""Paths that were parsed lately: a site's recipients come again and again. About a megabyte."""

MAX_REMEMBERED_CHARACTERS = 256
"""Of a path that is remembered: a path has 256 octets at most (RFC 5321 section 4.5.3.1.3)."""

MAX_LABEL_OCTETS = 63

Domain = NewType("Domain", str)
"""A-labels, lower case, no final dot, at least one label. Made only by `parse_domain`."""

# name = label *("." label), a label of 1 to 63 octets without a hyphen at either end (RFC 1035 section 2.3.1)
# Underscores stand in names that exist (_dmarc, selector._domainkey, hosts of careless people).
_LABEL = rf"[a-z0-9_](?:[a-z0-9_-]{{0,{MAX_LABEL_OCTETS - 2}}}[a-z0-9_])?"
_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*\Z")


class Stage(Enum):
    """A moment of a mail transaction, in the order in which they come (RFC 5321 section 3.3)."""

    CONNECT = "connect"
    HELO = "helo"
    MAIL = "mail"
    RCPT = "rcpt"
    DATA = "data"
    END_OF_MESSAGE = "end-of-message"

    def __init__(self, _: str) -> None:
        self.position = len(type(self).__members__)
        """0 for connect to 5 for end-of-message."""

    # Each by itself: functools.total_ordering takes three times as long.
    def __lt__(self, other: Stage) -> bool:
        return self.position < other.position

    def __le__(self, other: Stage) -> bool:
        return self.position <= other.position

    def __gt__(self, other: Stage) -> bool:
        return self.position > other.position

    def __ge__(self, other: Stage) -> bool:
        return self.position >= other.position

    # A member is one object. Enum's own hash is a function of Python, and stages are keys everywhere.
    __hash__ = object.__hash__


def parse_domain(text: str) -> Domain:
    """A domain name as the wire or an operator writes it, U-labels (RFC 5890) and a final dot allowed.

    Raises:
        ProtocolError: no domain name: an address literal, an empty or over-long label, a character
            that no host or service name has.
    """
    if len(text) > MAX_DOMAIN_CHARACTERS:
        raise ProtocolError("not a domain name")
    return _parse_domain(text)


@lru_cache(maxsize=REMEMBERED_DOMAINS)
def _parse_domain(text: str) -> Domain:
    lowered = text.removesuffix(".").lower()
    if not lowered.isascii():
        lowered = _to_a_labels(lowered)
    if len(lowered) > MAX_DOMAIN_OCTETS or not _NAME.match(lowered):
        raise ProtocolError("not a domain name")
    return Domain(lowered)


def _to_a_labels(name: str) -> str:
    import idna  # noqa: PLC0415 -- rare, and its tables take a megabyte that most workers never need

    try:
        return idna.encode(name, uts46=True).decode("ascii").lower()
    except idna.IDNAError as error:
        raise ProtocolError("not a domain name") from error


def is_under(name: Domain, ancestor: Domain) -> bool:
    """Is `name` the domain `ancestor` or one of its subdomains?"""
    return name == ancestor or name.endswith("." + ancestor)


class Mailbox(msgspec.Struct, frozen=True, gc=False):  # as the values of transaction.py
    """An address of the envelope or of a From field (RFC 5321 section 4.1.2).

    `text` is the address as it was given, without angle brackets. `domain` is None where there is
    none (`postmaster`) or where it is no domain name (`[192.0.2.1]`). The local part keeps its case.
    """

    text: str
    local_part: str
    domain: Domain | None

    def __str__(self) -> str:
        return f"{self.local_part}@{self.domain}" if self.domain else self.text


def parse_mailbox(text: str) -> Mailbox:
    """Any text as a mailbox; never raises: what is no address has no domain.

    A source route (RFC 5321 appendix F.2) is dropped, as the section demands.
    """
    address = text
    if address.startswith("@") and ":" in address:
        address = address.partition(":")[2]
    local_part, at, host = address.rpartition("@")
    if not at:
        return Mailbox(text, address, None)
    try:
        return Mailbox(text, local_part, parse_domain(host))
    except ProtocolError:
        return Mailbox(text, local_part, None)


def parse_path(text: str) -> Mailbox | None:
    """A reverse-path or forward-path with or without its angle brackets; None for `<>` and ``."""
    return _remembered_path(text) if len(text) <= MAX_REMEMBERED_CHARACTERS else _parse_path(text)


def _parse_path(text: str) -> Mailbox | None:
    inner = text.strip()
    if inner.startswith("<"):
        inner = inner[1:].removesuffix(">")
    return parse_mailbox(inner) if inner else None


_remembered_path = lru_cache(maxsize=REMEMBERED_PATHS)(_parse_path)


@dataclass(frozen=True, slots=True)
class EnhancedStatus:
    """class.subject.detail of RFC 3463: 5.7.1 is `EnhancedStatus(5, 7, 1)`."""

    kind: int
    subject: int
    detail: int

    def __str__(self) -> str:
        return f"{self.kind}.{self.subject}.{self.detail}"


# status-code = class "." subject "." detail; class 2, 4 or 5, the others 1 to 3 digits (RFC 3463 section 2)
_STATUS = re.compile(r"([245])\.(\d{1,3})\.(\d{1,3})(?:\s+|\Z)")


def split_status(text: str) -> tuple[EnhancedStatus | None, str]:
    """The enhanced status code that a reply text may begin with, and the rest of the text."""
    match = _STATUS.match(text)
    if match is None:
        return None, text
    kind, subject, detail = (int(group) for group in match.groups())
    return EnhancedStatus(kind, subject, detail), text[match.end() :]


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply of the server: `code` 4xx or 5xx, its enhanced status and one line of printable text."""

    code: int
    status: EnhancedStatus
    text: str

    def __str__(self) -> str:
        return f"{self.code} {self.status} {self.text}"
