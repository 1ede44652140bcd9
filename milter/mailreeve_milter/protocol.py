"""The milter protocol, version 6, as tables: the octets of an MTA in, events out. No IO, no policy.

Knows the form of each packet: a length of four octets, which counts what follows it, a command octet, and
data. protocol_words.py has the words, protocol_reply.py the other direction.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from struct import Struct

from mailreeve_milter.protocol_words import (
    Abort,
    Body,
    Command,
    Connect,
    Data,
    EndOfHeaders,
    EndOfMessage,
    Event,
    Header,
    Helo,
    Macros,
    Mail,
    Negotiate,
    Quit,
    QuitForNew,
    Rcpt,
    Unknown,
)
from mailreeve_policyd.errors import BoundError, ProtocolError
from mailreeve_policyd.escape import decode_wire
from mailreeve_policyd.transaction import parse_address

# -- data of packets ------------------------------------------------------------------------------------

MAX_TEXT_OCTETS = 65_535
"""Of a packet with names, paths or macros: what libmilter takes, and many times what SMTP lines hold."""

MAX_LARGE_OCTETS = (1 << 20) - 1
"""Of a header field or a piece of the body, unless the settings say otherwise: the largest size that milter
peers agree on (MDS_1M)."""

MAX_OFFER_OCTETS = 1_024
"""Of a negotiation: twelve octets are known, a later version may say more."""

_OFFER = Struct("!III")
_PORT = Struct("!H")


def _parse_negotiate(data: bytes) -> Negotiate:
    if len(data) < _OFFER.size:
        raise ProtocolError("an offer that is cut short")
    return Negotiate(*_OFFER.unpack_from(data))


def _parse_macros(data: bytes) -> Macros:
    if not data:
        raise ProtocolError("macros that belong to no step")
    if len(data) == 1:
        return Macros(data[0], {})
    words = _split(data[1:])
    if len(words) % 2:
        raise ProtocolError("a macro without a value")
    one_by_one = iter(words)
    return Macros(data[0], dict(zip(one_by_one, one_by_one, strict=True)))


def _parse_connect(data: bytes) -> Connect:
    """`NAME NUL family`, and for IP and unix sockets `port address NUL`."""
    name, end, rest = data.partition(b"\0")
    if not end or not rest:
        raise ProtocolError("a client without a family")
    family, where = rest[:1], rest[1:]
    if family in (b"U", b"L"):
        return Connect(decode_wire(name), None, None)
    if family not in (b"4", b"6") or len(where) <= _PORT.size:
        raise ProtocolError("a client of a family that is none")
    address = decode_wire(_strip(where[_PORT.size :]))
    if parse_address(address) is None:  # it must not pass for a client without an address
        raise ProtocolError("a client's address that is none")
    return Connect(decode_wire(name), address, _PORT.unpack_from(where)[0])


def _parse_helo(data: bytes) -> Helo:
    return Helo(decode_wire(_strip(data)))


def _parse_mail(data: bytes) -> Mail:
    path, *parameters = _split(data)
    return Mail(path, tuple(parameters))


def _parse_rcpt(data: bytes) -> Rcpt:
    path, *parameters = _split(data)
    return Rcpt(path, tuple(parameters))


def _parse_header(data: bytes) -> Header:
    """`NAME NUL value NUL`. A NUL inside a value stays: the octets of a field are the signer's."""
    name, end, value = data.partition(b"\0")
    if not end or not name:
        raise ProtocolError("a header field without a name or a value")
    return Header(name, _strip(value))


def _split(data: bytes) -> list[str]:
    return decode_wire(_strip(data)).split("\0")  # a NUL is part of no other character


def _strip(data: bytes) -> bytes:
    if data[-1:] != b"\0":
        raise ProtocolError("a text without its end")
    return data[:-1]


_DATA, _UNKNOWN, _END_OF_HEADERS = Data(), Unknown(), EndOfHeaders()
_ABORT, _QUIT, _QUIT_FOR_NEW = Abort(), Quit(), QuitForNew()

_Packets = Mapping[int, tuple[int, Callable[[bytes], Event]]]

# For each command: how many octets of data it may have, and how they are read.
_PACKETS: _Packets = {
    Command.NEGOTIATE.value: (MAX_OFFER_OCTETS, _parse_negotiate),
    Command.MACRO.value: (MAX_TEXT_OCTETS, _parse_macros),
    Command.CONNECT.value: (MAX_TEXT_OCTETS, _parse_connect),
    Command.HELO.value: (MAX_TEXT_OCTETS, _parse_helo),
    Command.MAIL.value: (MAX_TEXT_OCTETS, _parse_mail),
    Command.RCPT.value: (MAX_TEXT_OCTETS, _parse_rcpt),
    Command.DATA.value: (0, lambda _: _DATA),
    Command.UNKNOWN.value: (MAX_TEXT_OCTETS, lambda _: _UNKNOWN),
    Command.HEADER.value: (MAX_LARGE_OCTETS, _parse_header),
    Command.END_OF_HEADERS.value: (0, lambda _: _END_OF_HEADERS),
    Command.BODY.value: (MAX_LARGE_OCTETS, Body),
    Command.END_OF_MESSAGE.value: (MAX_LARGE_OCTETS, EndOfMessage),
    Command.ABORT.value: (0, lambda _: _ABORT),
    Command.QUIT.value: (0, lambda _: _QUIT),
    Command.QUIT_FOR_NEW.value: (0, lambda _: _QUIT_FOR_NEW),
}

_LARGE = frozenset((Command.HEADER.value, Command.BODY.value, Command.END_OF_MESSAGE.value))


@cache  # a process has one
def _packets(max_large_octets: int) -> _Packets:
    """The table, with what the settings say of large packets."""
    return {
        command: (max_large_octets if command in _LARGE else octets, parse)
        for command, (octets, parse) in _PACKETS.items()
    }


# -- packets --------------------------------------------------------------------------------------------

_HEAD = Struct("!IB")
_HEAD_OCTETS = 5
_LENGTH_OCTETS = 4
_HEADER = Command.HEADER.value


class PacketReader:
    """Makes events of octets that come cut anywhere.

    Holds what was fed and not yet taken, so that who feeds it more than a packet before taking events is
    who bounds it. After a ProtocolError it is of no more use. `max_large_octets` bounds the data of a header
    field or a piece of the body.
    """

    __slots__ = ("_at", "_max_large_octets", "_octets", "_packets", "_partial", "cut_packets")

    def __init__(self, max_large_octets: int = MAX_LARGE_OCTETS) -> None:
        self._max_large_octets = max_large_octets
        self._packets = _packets(max_large_octets)
        self._octets = b""
        self._at = 0
        self._partial = bytearray()  # of a packet that is not complete: what there is of it
        self.cut_packets = 0

    def feed(self, octets: bytes) -> None:
        """The next octets of the connection."""
        self._octets = self._octets[self._at :] + octets if self._at < len(self._octets) else octets
        self._at = 0

    def next_event(self) -> Event | None:
        """The next event; None where more octets are needed.

        Raises:
            BoundError: a packet that is too large, told from its first five octets.
            ProtocolError: one that is malformed.
        """
        if self._partial:
            return self._finish_partial()
        octets, at = self._octets, self._at
        if len(octets) - at < _HEAD_OCTETS:
            self._begin_partial()
            return None
        length, command = _HEAD.unpack_from(octets, at)
        found = self._packets.get(command)
        if found is None or not 0 < length <= found[0] + 1:
            raise _refused(length, command, found)
        end = at + _LENGTH_OCTETS + length
        if end > len(octets):
            self._begin_partial()
            return None
        self._at = end
        return found[1](octets[at + _HEAD_OCTETS : end])

    def take_fields(self, take: Callable[[bytes, bytes], object]) -> None:
        """Give name and value of each header field that comes next, as far as whole ones are there.

        To be called when next_event has given one: fields come in a row, and are most of what comes. All
        other packets, and those that are malformed, are left to next_event. What `take` raises gets out,
        and its field counts as taken.
        """
        octets, at = self._octets, self._at
        size, unpack, most = len(octets), _HEAD.unpack_from, self._max_large_octets
        while size - at > _HEAD_OCTETS:
            length, command = unpack(octets, at)
            name, end = at + _HEAD_OCTETS, at + _LENGTH_OCTETS + length
            if command != _HEADER or length > most or end > size or octets[end - 1]:
                return
            name_end = octets.find(b"\0", name, end - 1)
            if name_end <= name:
                return
            self._at = at = end
            take(octets[name:name_end], octets[name_end + 1 : end - 1])

    @property
    def is_within_packet(self) -> bool:
        """Has a packet begun and not ended? Which one, `cut_packets` tells, the number of such so far."""
        return bool(self._partial)

    def _begin_partial(self) -> None:
        self._partial += self._octets[self._at :]
        self.cut_packets += 1
        self._octets = b""
        self._at = 0

    def _finish_partial(self) -> Event | None:
        """Go on with the packet that was cut; only its own octets are copied."""
        if not self._fill_partial(_HEAD_OCTETS):
            return None
        length, command = _HEAD.unpack_from(self._partial)
        found = self._packets.get(command)
        if found is None or not 0 < length <= found[0] + 1:
            raise _refused(length, command, found)
        if not self._fill_partial(_LENGTH_OCTETS + length):
            return None
        data = bytes(memoryview(self._partial)[_HEAD_OCTETS:])
        self._partial = bytearray()
        return found[1](data)

    def _fill_partial(self, size: int) -> bool:
        """Has the partial packet, with what was fed, this size?"""
        missing = size - len(self._partial)
        if missing > 0:
            piece = self._octets[self._at : self._at + missing]
            self._partial += piece
            self._at += len(piece)
        return len(self._partial) >= size


def _refused(length: int, command: int, known: tuple[int, object] | None) -> ProtocolError:
    problem = f"a packet of command {command:#04x} and {length} octets"
    if known is None or not known[0] or not length:
        return ProtocolError(problem)
    if command in _LARGE:
        return BoundError(problem, "milter.max_packet_bytes", known[0])
    is_offer = command == Command.NEGOTIATE.value
    return BoundError(problem, "MAX_OFFER_OCTETS" if is_offer else "MAX_TEXT_OCTETS", known[0])
