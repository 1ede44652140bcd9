"""How text from the wire may appear anywhere that a person or a parser reads it.

Bytes from the wire are decoded once, at the door, as UTF-8 with surrogateescape, so that bytes
that are no UTF-8 stay distinct. Whatever leaves again goes through `escape`.
"""

from __future__ import annotations

MAX_SHOWN = 255
"""Characters of one value in a log line or reply: enough for any address (RFC 5321 4.5.3.1.3)."""

ELLIPSIS = "..."


def decode_wire(raw: bytes) -> str:
    """Bytes to text without loss; `encode_wire` gives the same bytes back."""
    return raw.decode("utf-8", "surrogateescape")


def encode_wire(text: str) -> bytes:
    """The bytes that `decode_wire` was given."""
    return text.encode("utf-8", "surrogateescape")


def escape(text: str, limit: int = MAX_SHOWN) -> str:
    r"""Printable text of at most `limit` characters, whatever `text` holds.

    Controls, line ends of any kind, lone bytes and what does not print become `\xNN` or `\uNNNN`;
    a backslash is doubled, so that the form is unambiguous. What is cut ends in three dots.
    """
    if len(text) <= limit and text.isprintable() and "\\" not in text:
        return text
    return cut("".join(_escape_character(character) for character in text[: limit + 1]), limit)


def escape_ascii(text: str, limit: int = MAX_SHOWN) -> str:
    """As `escape`, in ASCII alone: for replies to clients that did not offer SMTPUTF8 (RFC 6531 3.7.4)."""
    return cut(escape(text, limit).encode("ascii", "backslashreplace").decode("ascii"), limit)


def cut(text: str, limit: int = MAX_SHOWN) -> str:
    """Text that is printable already, shortened to `limit` characters; what is cut ends in three dots."""
    return text if len(text) <= limit else text[: max(0, limit - len(ELLIPSIS))] + ELLIPSIS


def _escape_character(character: str) -> str:
    if character == "\\":
        return "\\\\"
    if character.isprintable():
        return character
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that was no UTF-8 (PEP 383)
        return f"\\x{code - 0xDC00:02x}"
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
