"""RFC 5322 header fields as they came over the wire. No DNS, no policy, no judgement.

The author (From) is read in author.py.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec


class HeaderField(msgspec.Struct, frozen=True, gc=False):  # a dataclass takes five times as long to make
    """One field. `name` as it was written, `value` all octets after the colon, without the last line end.

    The leading space is kept (`SMFIP_HDR_LEADSPC`); a folded value has CRLF at its folds, as on the wire.
    A CR or LF that is no part of a fold (which has white space behind it) may stand anywhere in it.
    """

    name: bytes
    value: bytes

    @property
    def lower_name(self) -> bytes:
        """For comparison: field names have no case (RFC 5322 section 1.2.2)."""
        return self.name.lower()

    @property
    def raw(self) -> bytes:
        """The field as it stood in the message, with its CRLF."""
        return self.name + b":" + self.value + b"\r\n"

    @property
    def unfolded(self) -> bytes:
        """The value on one line, without the space around it (RFC 5322 section 2.2.3)."""
        return unfold(self.value).strip(b" \t")


def unfold(value: bytes) -> bytes:
    """Without the CRLF of each fold, whose white space stays; CR and LF anywhere else are octets like others.

    Were those taken for line ends, too, they could be put into a signed field unnoticed.
    """
    return value.replace(b"\r\n ", b" ").replace(b"\r\n\t", b"\t") if b"\n" in value else value


def field_from_milter(name: bytes, value: bytes) -> HeaderField:
    """A field as an MTA gives it to a milter: folds (see `unfold`) may be LF there; here they are CRLF."""
    if b"\n" in value:
        if b"\r" in value:
            value = value.replace(b"\r\n ", b"\n ").replace(b"\r\n\t", b"\n\t")
        value = value.replace(b"\n ", b"\r\n ").replace(b"\n\t", b"\r\n\t")
    return HeaderField(name, value)


def fields_named(fields: Iterable[HeaderField], name: bytes) -> tuple[HeaderField, ...]:
    """All fields of one name, top down."""
    lowered = name.lower()
    return tuple(field for field in fields if field.lower_name == lowered)
