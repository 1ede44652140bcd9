"""RFC 5322 header fields as they came over the wire. No DNS, no policy, no judgement.

The author (From) is read in author.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec


class HeaderField(msgspec.Struct, frozen=True, gc=False):  # a dataclass takes five times as long to make
    """One field. `name` as it was written, `value` all octets after the colon, without the last line end.

    The leading space is kept (`SMFIP_HDR_LEADSPC`); a folded value has CRLF at its folds, as on the wire.
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
        return self.value.replace(b"\r\n", b"").strip(b" \t")


def field_from_milter(name: bytes, value: bytes) -> HeaderField:
    """A field as an MTA gives it to a milter: folds may be LF alone there; here they are CRLF."""
    if b"\n" in value or b"\r" in value:
        lines = value.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        value = lines.replace(b"\n", b"\r\n")
    return HeaderField(name, value)


def fields_named(fields: Iterable[HeaderField], name: bytes) -> tuple[HeaderField, ...]:
    """All fields of one name, top down."""
    lowered = name.lower()
    return tuple(field for field in fields if field.lower_name == lowered)
