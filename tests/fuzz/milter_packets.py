"""Any octets are the same packets of the milter protocol however they are cut, then perhaps a ProtocolError.

Fields that come in a row are the same whether they are taken one by one or all at once.
"""

from collections.abc import Iterable

from mailreeve_milter.protocol import PacketReader
from mailreeve_milter.protocol_words import Event, Header
from mailreeve_policyd.errors import ProtocolError
from tests.fuzz.pieces import cut
from tests.milterd.milterpackets import packet

WORDS = (
    packet(ord("O"), b"\0\0\0\6\0\0\1\xff\0\x1f\xff\xff"),
    packet(ord("L"), b"From\0 bob@example.net\0"),
    packet(ord("D"), b"Mi\x004B1\0"),
    packet(ord("E")),
    packet(ord("N")),
    packet(ord("A")),
    packet(ord("Q")),
    b"\0\0\0\1",
    b"\0\0\xff\xff",
    b"\0\x0f\xff\xffB",
)


def check(data: bytes) -> None:
    """See the module."""
    whole = _events([data], in_rows=False)
    assert _events(cut(data), in_rows=False) == whole
    assert _events([data], in_rows=True) == whole
    assert _events(cut(data), in_rows=True) == whole


def _events(pieces: Iterable[bytes], *, in_rows: bool) -> list[Event | str]:
    reader = PacketReader()
    found: list[Event | str] = []
    try:
        for piece in pieces:
            reader.feed(piece)
            while (event := reader.next_event()) is not None:
                found.append(event)
                if in_rows and isinstance(event, Header):
                    reader.take_fields(lambda name, value: found.append(Header(name, value)))
    except ProtocolError as error:
        return [*found, str(error)]
    return found
