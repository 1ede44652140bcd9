"""Finding Authentication-Results fields that claim to be ours (RFC 8601 section 5).

Errs to the side of removing: a field is forged if any reader, however careless, might take it for ours.
Must not know what is done with it.
"""

from __future__ import annotations

import binascii
import re
import unicodedata
from collections.abc import Iterator
from email.errors import HeaderParseError
from email.header import decode_header
from functools import lru_cache

from mailreeve_policyd.errors import ProtocolError
from mailreeve_policyd.smtp import parse_domain

MAX_READ_OCTETS = 65_536
"""Of a value; a longer one that names us anywhere is forged."""

MAX_COMMENT_DEPTH = 20
"""Comments in comments that a careless reader removes from the inside out."""

_INNER_COMMENT = re.compile(r"\([^()]*\)")
_COMMENT_TOKEN = re.compile(r'\\.?|[()"]|[^\\()"]+', re.DOTALL)
_SPACE = re.compile(r"\s+")
_QUOTING = re.compile(r"[\"'\\]")
# ARC-Authentication-Results (RFC 8617 section 4.1.1) begins with its instance
_INSTANCE = re.compile(r"\A\s?i\s?=\s?\d+\s?;")
# Before the authserv-id: anything that is no part of a name
_JUNK = re.compile(r"\A[^a-z0-9\u0080-\U0010ffff]+")


def claims(value: bytes, authserv_id: str) -> bool:
    """Say whether a reader may take this value for one that `authserv_id` wrote. Any bytes give an answer.

    Case, comments, folds, quotes, quoted pairs, encoded words, a version, a missing semicolon, U-labels,
    look-alike letters of Unicode's compatibility forms and signs that do not show make no difference.
    """
    pattern = _pattern_of(authserv_id)
    text = value.decode("utf-8", "replace")
    if len(value) > MAX_READ_OCTETS:
        return pattern.search(_plain(_normalize(text))) is not None
    return any(pattern.search(head) for head in _heads(text))


def _heads(text: str) -> Iterator[str]:
    """What readers may take for the part before the first result."""
    readings = (text, _decode_words(text)) if "=?" in text else (text,)
    for reading in map(_normalize, readings):
        variants = [reading]
        if "(" in reading:
            variants += [_strip_comments(reading), _strip_naively(reading)]
        for variant in variants:
            yield _JUNK.sub("", _INSTANCE.sub("", _plain(variant))).partition("=")[0]


@lru_cache(maxsize=8)  # a process has one authserv-id
def _pattern_of(authserv_id: str) -> re.Pattern[str]:
    """Finds the id as a whole name, with or without space between any of its characters."""
    spellings = {_normalize(authserv_id).removesuffix("."), *_other_forms(authserv_id)}
    spelled = "|".join(r"\s*".join(map(re.escape, spelling)) for spelling in sorted(spellings))
    return re.compile(rf"(?<![a-z0-9_.-])(?:{spelled})(?![a-z0-9_-]|\.[a-z0-9])")


def _other_forms(authserv_id: str) -> tuple[str, ...]:
    """The id with A-labels and with U-labels, where it has such."""
    import idna  # noqa: PLC0415 -- rare, and its tables take a megabyte that most workers never need

    try:
        domain = parse_domain(authserv_id)
        return (domain, _normalize(idna.decode(domain))) if "xn--" in domain else (domain,)
    except (ProtocolError, idna.IDNAError):
        return ()


def _normalize(text: str) -> str:
    """Without case, compatibility forms and signs that do not show."""
    if text.isascii():
        return text.lower()
    folded = unicodedata.normalize("NFKC", text).casefold().replace("\u3002", ".")  # RFC 3490 section 3.1
    return "".join(character for character in folded if unicodedata.category(character) != "Cf")


def _plain(text: str) -> str:
    """On one line, without quotes, quoted pairs and controls."""
    spaced = _SPACE.sub(" ", _QUOTING.sub("", text))
    return spaced if spaced.isprintable() else "".join(filter(str.isprintable, spaced))


def _strip_comments(text: str) -> str:
    """As RFC 5322 section 3.2 has them: nested, with quoted pairs, none in quoted strings."""
    kept: list[str] = []
    depth, quoted = 0, False
    for match in _COMMENT_TOKEN.finditer(text):
        piece = match[0]
        if piece == '"' and not depth:
            quoted = not quoted
        if piece == "(" and not quoted:
            depth += 1
        elif piece == ")" and depth:
            depth -= 1
        elif not depth:
            kept.append(piece)
    return "".join(kept)


def _strip_naively(text: str) -> str:
    """By a pattern, from the inside out, whatever is quoted."""
    for _ in range(MAX_COMMENT_DEPTH):
        stripped = _INNER_COMMENT.sub("", text)
        if stripped == text:
            break
        text = stripped
    return text


def _decode_words(text: str) -> str:
    """RFC 2047 encoded words, which have no place here, as a careless reader decodes them."""
    try:
        parts = decode_header(text)
    except (HeaderParseError, binascii.Error, ValueError):
        return text
    return "".join(_decode_part(part, charset) for part, charset in parts)


def _decode_part(part: bytes | str, charset: str | None) -> str:
    if isinstance(part, str):
        return part
    try:
        return part.decode(charset or "utf-8", "replace")
    except (LookupError, ValueError):
        return part.decode("latin-1")
