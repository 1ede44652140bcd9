"""Finding Authentication-Results fields that claim to be ours (RFC 8601 section 5).

Errs to the side of removing: a field is forged if any reader, however careless, might take it for ours, and
if it begins as no honest host writes, so that readers may differ about it. Must not know what is done then.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

from mailreeve_policyd.errors import ProtocolError
from mailreeve_policyd.smtp import parse_domain

MAX_OCTETS = 65_536
"""Of a value; no host writes a longer one, and some readers give up on it."""

MAX_HEAD_OCTETS = 512
"""In which the first result must begin: a name of 255 octets, a version, a comment. No more is read."""

MAX_COMMENT_DEPTH = 5
"""Comments in comments before the first result; hosts write none there."""

# [instance] authserv-id up to the first "=", as hosts write it: in ASCII, without comment, quote and encoded
# word (RFC 2047 section 5 has no place for one here), so that all readers read it alike
_PLAIN_HEAD = re.compile(
    rb"[ \t\r\n]*+(?:i[ \t\r\n]*+=[ \t\r\n]*+[0-9]++[ \t\r\n]*+;[ \t\r\n]*+)?+"
    rb"[A-Za-z0-9][ \t\r\n!#-&*-<>-\[\]-~]*+(?:=(?![ \t\r\n]*\?)|\Z)"
)
_COMMENT = re.compile(r"\([^()\\]*\)")
_ENCODED_WORD = re.compile(r"= ?\?")
_STRUCTURE = re.compile(r"[()\\]")
_SPACE = re.compile(r"\s+")
_QUOTE = re.compile(r"[\"']")
# ARC-Authentication-Results (RFC 8617 section 4.1.1) begins with its instance
_INSTANCE = re.compile(r"\A *i *= *\d+ *;")
# Before the authserv-id: anything that is no part of a name
_JUNK = re.compile(r"\A[^a-z0-9\u0080-\U0010ffff]+")

# What takes no room on a screen: Default_Ignorable_Code_Point (Unicode, DerivedCoreProperties) and the other
# format characters (Cf); the blank of Braille; U+FFFD, an octet that is no UTF-8, which some readers drop
_UNSHOWN = re.compile(
    "[\u00ad\u034f\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u115f\u1160\u17b4\u17b5\u180b-\u180f"
    "\u200b-\u200f\u202a-\u202e\u2060-\u206f\u2800\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\ufffd"
    "\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
    "\U000e0000-\U000e0fff]+"
)


def claims(value: bytes, authserv_id: str) -> bool:
    """Say whether a reader may take this value for one that `authserv_id` wrote. Any bytes give an answer.

    Case, comments, folds, quotes, quoted pairs, encoded words, a version, a missing semicolon, U-labels,
    look-alike letters of Unicode's compatibility forms and signs that do not show make no difference.
    Takes no more time for a long value than for one of MAX_HEAD_OCTETS.
    """
    if len(value) > MAX_OCTETS:
        return True
    start, is_whole = value[:MAX_HEAD_OCTETS], len(value) <= MAX_HEAD_OCTETS
    pattern = _pattern_of(authserv_id)
    if plain := _PLAIN_HEAD.match(start):
        head = plain[0]
        return not (is_whole or head.endswith(b"=")) or pattern.search(head.decode().lower()) is not None
    text = _normalize(start.decode("utf-8", "replace"))
    bare = _without_comments(text)
    if _ENCODED_WORD.search(text) or not _is_clear(bare, is_whole):
        return True
    return any(pattern.search(_head(reading)) for reading in (text, bare))


def _is_clear(text: str, is_whole: bool) -> bool:
    """Does a head without comments hold nothing that readers read in different ways, and end?"""
    head, result, _ = _INSTANCE.sub("", text).partition("=")
    return _STRUCTURE.search(head) is None and (is_whole or bool(result))


def _head(text: str) -> str:
    """What a reader may take for the part before the first result. A quoted text may be a whole name."""
    return _JUNK.sub("", _INSTANCE.sub("", _QUOTE.sub(" ", text))).partition("=")[0]


def _without_comments(text: str) -> str:
    """A space for each comment that all readers end at the same place; the others stay."""
    for _ in range(MAX_COMMENT_DEPTH):
        stripped = _COMMENT.sub(" ", text)
        if stripped == text:
            break
        text = stripped
    return text


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
    """On one line, without case and compatibility forms; a space for controls and what does not show.

    Some readers pass over those, for others a name ends there.
    """
    if not text.isascii():
        folded = unicodedata.normalize("NFKC", text).casefold().replace("\u3002", ".")  # RFC 3490 section 3.1
        text = _UNSHOWN.sub(" ", folded)
    lowered = text.lower()
    if not lowered.isprintable():
        lowered = "".join([sign if sign.isprintable() else " " for sign in lowered])
    return _SPACE.sub(" ", lowered)
