"""Encoded words (RFC 2047) as readers show them, to see what somebody hides in them. Never for display.

A charset that a stranger names never reaches Python's codec registry, which imports a module for each name
and keeps each miss for ever: only the charsets below are known.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterator

# What mail is written in. The codecs are Python's own: tables, no code of somebody else, and linear.
_ASIAN = {
    "iso-2022-jp": "iso2022_jp_2",
    "iso-2022-kr": "iso2022_kr",
    "shift_jis": "cp932",
    "shift-jis": "cp932",
    "sjis": "cp932",
    "x-sjis": "cp932",
    "windows-31j": "cp932",
    "cp932": "cp932",
    "euc-jp": "euc_jp",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "cp936": "gb18030",
    "gb18030": "gb18030",
    "hz-gb-2312": "hz",
    "big5": "big5hkscs",
    "big5-hkscs": "big5hkscs",
    "euc-kr": "cp949",
    "ks_c_5601-1987": "cp949",
    "cp949": "cp949",
    "tis-620": "iso8859_11",
    "windows-874": "cp874",
}
_UNICODE = {
    "utf-8": "utf-8",
    "utf8": "utf-8",
    "us-ascii": "utf-8",  # as readers do where an octet is none
    "ascii": "utf-8",
    "utf-7": "utf-7",
    "unicode-1-1-utf-7": "utf-7",
    "utf-16": "utf-16",
    "utf-16be": "utf-16-be",
    "utf-16le": "utf-16-le",
}
_ONE_OCTET = {
    "iso-8859-1": "cp1252",  # WHATWG Encoding: what is called so mostly is that
    "latin1": "cp1252",
    "koi8-r": "koi8_r",
    "koi8-u": "koi8_u",
    "ibm037": "cp037",
    "cp037": "cp037",
    **{f"iso-8859-{part}": f"iso8859_{part}" for part in (*range(2, 12), *range(13, 17))},
    **{f"windows-{page}": f"cp{page}" for page in range(1250, 1259)},
    **{f"cp{page}": f"cp{page}" for page in range(1250, 1259)},
}
_CODECS = _ASIAN | _UNICODE | _ONE_OCTET

# encoded-word = "=?" charset ["*" language] "?" encoding "?" encoded-text "?=" (RFC 2231 section 5)
_START = re.compile(r"=\?([^?*]*)(?:\*[^?]*)?\?([BbQq])\?")
_HEX_OCTET = re.compile(rb"=([0-9A-Fa-f]{2})")
_PADDING = re.compile(rb"=+")
_NO_BASE64 = re.compile(rb"[^A-Za-z0-9+/=]+")


def decode_words(text: str) -> str:
    """The text with its encoded words decoded, wherever they stand, as readers do who know no grammar.

    What is no word stays as it is. Of an unknown charset the octets stand for themselves (Latin-1). Takes
    time in proportion to the text. Never raises.
    """
    return "".join(_shown(text))


def _shown(text: str) -> Iterator[str]:
    """Pieces of text and decoded words. Words of a charset side by side are one: they may share a letter."""
    at, charset, octets = 0, "", b""
    for start, end, word_charset, word in _words(text):
        between = text[at:start]
        if not octets or between.strip() or word_charset != charset:
            yield _decode(octets, charset)
            octets = b""
            if at == 0 or between.strip():  # space between two words is no text (section 6.2)
                yield between
        at, charset, octets = end, word_charset, octets + word
    yield _decode(octets, charset)
    yield text[at:]


def _words(text: str) -> Iterator[tuple[int, int, str, bytes]]:
    """Where each word begins and ends, its charset, and its octets."""
    at = text.find("=?")
    while at >= 0:
        match = _START.match(text, at)
        end = text.find("?=", match.end()) if match else at
        if end < 0:
            return
        if match:
            encoded = text[match.end() : end].encode("utf-8", "replace")
            yield at, end + 2, match[1].lower(), _octets(encoded, match[2].lower())
        at = text.find("=?", end + 2)


def _octets(encoded: bytes, encoding: str) -> bytes:
    if encoding == "q":
        plain = encoded.replace(b"_", b" ")
        return _HEX_OCTET.sub(lambda match: binascii.unhexlify(match[1]), plain)
    return b"".join(map(_base64, _PADDING.split(_NO_BASE64.sub(b"", encoded))))


def _base64(digits: bytes) -> bytes:
    """As far as they go: a digit too many is left out."""
    digits = digits[:-1] if len(digits) % 4 == 1 else digits
    return binascii.a2b_base64(digits + b"=" * (-len(digits) % 4))


def _decode(octets: bytes, charset: str) -> str:
    return octets.decode(_CODECS.get(charset, "latin-1"), "replace")
