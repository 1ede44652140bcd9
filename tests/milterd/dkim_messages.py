"""Messages and bodies for the tests of DKIM: octets to fields, and a body cut into chunks."""

import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from mailreeve_milter.message import HeaderField

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)

_NEXT_FIELD = re.compile(rb"\r\n(?![ \t])")


def split_message(message: bytes) -> tuple[list[HeaderField], bytes]:
    """The fields and the body of a message with CRLF line ends."""
    header, _, body = message.partition(b"\r\n\r\n")
    fields = [line.partition(b":") for line in _NEXT_FIELD.split(header) if line]
    return [HeaderField(name, value) for name, _, value in fields], body


def join_message(fields: Sequence[HeaderField], body: bytes) -> bytes:
    """The octets of a message."""
    return b"".join(field.raw for field in fields) + b"\r\n" + body


def cut(body: bytes, places: Sequence[int]) -> Iterator[bytes]:
    """The body in chunks that end at the places, as far as they are in it; some may be empty."""
    ends = sorted(min(place, len(body)) for place in places)
    for start, end in zip([0, *ends], [*ends, len(body)], strict=True):
        yield body[start:end]
