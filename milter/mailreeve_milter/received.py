"""Received fields: who gave a message to the host that wrote the field (RFC 5321 section 4.4).

Reads what Postfix, Sendmail, OpenSMTPD, Haraka, Exim, Exchange and qmail write, each its own way. Where a
client could have chosen a part of the field so that it has two readings, it has none. Must not know which
hosts are trusted, nor what the answer is for.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mailreeve_policyd.transaction import IPAddress, parse_address

MAX_OCTETS = 4096
"""Of a value that is read; MTAs write 200 to 600."""

MAX_NAME_CHARACTERS = 255
"""Of a HELO name (RFC 5321 section 4.5.3.1.2)."""

MAX_COMMENT_DEPTH = 10
"""Comments in comments; MTAs write two."""


@dataclass(frozen=True, slots=True)
class ReceivedFrom:
    """The client of the host that wrote a field, as that host saw it.

    `client_name` is there only where the host is known to verify names forth and back.
    """

    address: IPAddress
    helo_name: str | None
    client_name: str | None = None


def parse_received(value: bytes) -> ReceivedFrom | None:
    """The client that a Received value names. None where it names none, or not clearly. Never raises."""
    if len(value) > MAX_OCTETS:
        return None
    parts = _split(value.decode("utf-8", "replace"))
    if parts is None or len(parts.words) != 1:
        return None
    infos = [info for info in map(_read_comment, parts.comments) if info is not None]
    if len(infos) == 1 and not _has_two_literals(parts, infos[0]):
        return _named_in_comment(parts, infos[0])
    return _named_before_comment(parts) if not infos else None


@dataclass(frozen=True, slots=True)
class _Parts:
    """What stands between `from` and `by`, and the comment after `by NAME` that names the software."""

    words: Sequence[str]
    comments: Sequence[str]
    software: str


@dataclass(frozen=True, slots=True)
class _TcpInfo:
    """A comment that holds the client's address. `is_exim`: with details as Exim writes them."""

    address: IPAddress
    name: str | None
    helo_name: str | None
    is_exim: bool
    is_forged: bool = False


# TCP-info = address-literal / ( Domain FWS address-literal ), as MTAs write it: with an ident before the
# name, a port behind the literal, Exim's details, Sendmail's doubt
_TCP_INFO = re.compile(
    r"(?:(?:[^\s@()\[\]]*@)?(?P<name>[^\s@()\[\]]+)\s+)?"
    r"\[(?P<address>[0-9A-Za-z:.%]+)\](?::\d+)?"
    r"(?P<details>(?:\s+(?:helo|ident|port)=\S*)*)"
    r"(?P<forged>\s+\(may be forged\))?"
)
# qmail's and Exchange's: no brackets
_BARE_ADDRESS = re.compile(r"(?:[^\s@()]*@)?(?P<address>[0-9]+(?:\.[0-9]+){3}|[0-9A-Fa-f]*:[0-9A-Fa-f:.]+)")
_DETAILS = re.compile(r"(?:(?:helo|ident|port)=\S*(?:\s+|\Z))+")
_HELO_DETAIL = re.compile(r"(?:\A|\s)helo=(\S+)")
_QMAIL_HELO = re.compile(r"HELO (\S+)")
_LITERAL = re.compile(r"\[([0-9A-Za-z:.%]+)\](?::\d+)?")
_PIECE = re.compile(r"[()]|[^()\s]+|\s+")
# These look a name up forth and back before they write it
_VERIFIERS = re.compile(r"Postfix\b|Exim\b|8\.\d")


def _split(text: str) -> _Parts | None:
    """The clauses of RFC 5321 section 4.4 as far as they matter; None where there is no `from` and `by`."""
    words: list[str] = []
    comments: list[str] = []
    software = ""
    is_from = True
    for piece, is_comment in _pieces(text):
        if is_from and is_comment:
            comments.append(piece)
        elif is_comment:
            software = software or (piece if _VERIFIERS.match(piece) else "")
        elif not is_from and piece.lower() == "by":  # a HELO with a field of its own
            return None
        elif is_from and piece.lower() == "by" and len(words) > 1:  # a HELO may be "by", too
            is_from = False
        elif is_from:
            words.append(piece)
    if is_from or words[0].lower() != "from":
        return None
    return _Parts(words[1:], comments, software)


def _pieces(text: str) -> Iterator[tuple[str, bool]]:
    """Words and comments (without their outer parentheses) in order; an unclosed comment ends it."""
    comment: list[str] = []
    depth = 0
    for piece in _PIECE.findall(text):
        if piece == "(":
            depth += 1
        if depth:
            comment.append(" " if piece.isspace() else piece)
        elif piece != ")" and not piece.isspace():
            yield piece, False
        if piece == ")" and depth:
            depth -= 1
            if not depth:
                yield "".join(comment)[1:-1].strip(), True
                comment.clear()
        if depth > MAX_COMMENT_DEPTH:
            return


def _read_comment(comment: str) -> _TcpInfo | None:
    bare = _BARE_ADDRESS.fullmatch(comment)
    match = bare or _TCP_INFO.fullmatch(comment)
    address = parse_address(match["address"]) if match is not None else None
    if match is None or address is None:
        return None
    if bare:
        return _TcpInfo(address, None, None, is_exim=False)
    helo = _HELO_DETAIL.search(match["details"])
    return _TcpInfo(
        address, match["name"], helo[1] if helo else None, bool(match["details"]), bool(match["forged"])
    )


def _named_in_comment(parts: _Parts, info: _TcpInfo) -> ReceivedFrom:
    """`from HELO (NAME [ADDRESS])`, Exim's `from NAME ([ADDRESS] helo=HELO)`, qmail's, Exchange's."""
    word = parts.words[0]
    if parts.software.startswith("Exim") or info.is_exim:
        name = word if parts.software else None
        return ReceivedFrom(info.address, _helo(info.helo_name or word), _host_name(name))
    qmail = next(filter(None, map(_QMAIL_HELO.fullmatch, parts.comments)), None)
    name = info.name if parts.software and not info.is_forged else None
    return ReceivedFrom(info.address, _helo(qmail[1] if qmail else word), _host_name(name))


def _named_before_comment(parts: _Parts) -> ReceivedFrom | None:
    """Exim's `from [ADDRESS] (helo=HELO)` where it found no name; elsewhere a literal there is a HELO."""
    literal = _LITERAL.fullmatch(parts.words[0])
    address = parse_address(literal[1]) if literal else None
    if address is None or not parts.software.startswith("Exim"):
        return None
    if any(_DETAILS.fullmatch(comment) is None for comment in parts.comments):
        return None
    found = [helo[1] for helo in map(_HELO_DETAIL.search, parts.comments) if helo is not None]
    return ReceivedFrom(address, _helo(found[0]) if found else None) if len(found) < 2 else None


def _has_two_literals(parts: _Parts, info: _TcpInfo) -> bool:
    """Exim writes the client's address before the comment or in it; both is a HELO that went astray."""
    is_exim = (
        info.is_exim or parts.software.startswith("Exim") or any(map(_DETAILS.fullmatch, parts.comments))
    )
    return is_exim and _LITERAL.fullmatch(parts.words[0]) is not None


def _helo(text: str) -> str | None:
    return text if len(text) <= MAX_NAME_CHARACTERS else None


def _host_name(text: str | None) -> str | None:
    """A name in lower case; None for what MTAs write where there is none."""
    lowered = (text or "").lower().removesuffix(".")
    is_name = lowered not in ("", "unknown") and len(lowered) <= MAX_NAME_CHARACTERS
    return lowered if is_name and not lowered.startswith("[") else None
