"""Octets of an MTA become events: every packet, cut anywhere, within bounds."""

from __future__ import annotations

import struct
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailreeve_milter.protocol import MAX_LARGE_OCTETS, MAX_OFFER_OCTETS, MAX_TEXT_OCTETS, PacketReader
from mailreeve_milter.protocol_words import (
    Body,
    Command,
    Connect,
    EndOfHeaders,
    Event,
    Header,
    Macros,
    Mail,
    Quit,
)
from mailreeve_policyd.errors import BoundError, ProtocolError
from tests.milterd.milterpackets import encode, events, octets, packet

COMMANDS = sorted(command.value for command in Command)


def read(pieces: Iterable[bytes], *, in_rows: bool = False) -> tuple[list[Event], str | None]:
    """The events, and the error that ended them; `in_rows`: fields that follow a field are taken in a row."""
    reader = PacketReader()
    found: list[Event] = []
    try:
        for piece in pieces:
            reader.feed(piece)
            while (event := reader.next_event()) is not None:
                found.append(event)
                if in_rows and isinstance(event, Header):
                    reader.take_fields(lambda name, value: found.append(Header(name, value)))
    except ProtocolError as error:
        return found, str(error)
    return found, None


def cut(octets: bytes, places: Iterable[int]) -> list[bytes]:
    """The octets in pieces."""
    ends = sorted({place % (len(octets) + 1) for place in places})
    return [octets[start:end] for start, end in zip([0, *ends], [*ends, len(octets)], strict=True)]


@given(st.lists(events, max_size=8), st.lists(st.integers(0, 2000), max_size=8))
def test_what_an_mta_says_is_heard_wherever_it_is_cut(said: list[Event], places: list[int]) -> None:
    """Packet for packet, in order, octet for octet."""
    octets = b"".join(encode(event) for event in said)

    assert read(cut(octets, places)) == (said, None)


anything = st.lists(
    st.one_of(
        st.binary(max_size=30),
        st.builds(packet, st.sampled_from(COMMANDS), st.binary(max_size=20)),
        events.map(encode),
    ),
    max_size=6,
)


@given(anything)
def test_any_octets_come_to_the_same_whole_or_one_by_one(parts: list[bytes]) -> None:
    """The same events, and then the same ProtocolError or none; never another exception."""
    octets = b"".join(parts)

    assert read([octets]) == read(octets[place : place + 1] for place in range(len(octets)))


fields = st.lists(
    st.one_of(
        st.builds(Header, st.binary(min_size=1, max_size=3).filter(lambda name: b"\0" not in name), octets),
        st.builds(packet, st.just(Command.HEADER), st.binary(max_size=5)),
        events,
    ).map(lambda part: part if isinstance(part, bytes) else encode(part)),
    max_size=10,
)


@given(st.one_of(anything, fields), st.lists(st.integers(0, 300), max_size=8))
def test_fields_taken_in_a_row_are_those_that_come_one_by_one(parts: list[bytes], places: list[int]) -> None:
    """Of any octets, cut anywhere: the same fields among the same events, and the same error."""
    pieces = cut(b"".join(parts), places)

    assert read(pieces, in_rows=True) == read(pieces)


def stumble(_name: bytes, _value: bytes) -> None:
    raise KeyError


def test_what_meets_a_field_in_a_row_and_raises_has_it_taken() -> None:
    """The rest of the row is still there."""
    reader = PacketReader()
    reader.feed(b"".join(encode(Header(name, b" ")) for name in (b"A", b"B", b"C")))
    reader.next_event()

    with pytest.raises(KeyError):
        reader.take_fields(stumble)
    assert reader.next_event() == Header(b"C", b" ")


def test_octets_may_be_fed_before_the_events_were_taken() -> None:
    """As happens while a step of the same connection still waits for its answer."""
    reader = PacketReader()
    reader.feed(encode(Body(b"one")) + encode(Body(b"two")))
    first = reader.next_event()
    reader.feed(encode(Body(b"three"))[:6])
    second, third = reader.next_event(), reader.next_event()
    reader.feed(encode(Body(b"three"))[6:])

    assert [first, second, third, reader.next_event()] == [Body(b"one"), Body(b"two"), None, Body(b"three")]


BOUNDS = {
    Command.NEGOTIATE: MAX_OFFER_OCTETS,
    Command.HEADER: MAX_LARGE_OCTETS,
    Command.BODY: MAX_LARGE_OCTETS,
    Command.END_OF_MESSAGE: MAX_LARGE_OCTETS,
    **dict.fromkeys(
        (Command.DATA, Command.END_OF_HEADERS, Command.ABORT, Command.QUIT, Command.QUIT_FOR_NEW), 0
    ),
}


@pytest.mark.parametrize("command", Command)
def test_a_packet_that_is_too_large_is_known_by_its_first_octets(command: Command) -> None:
    """Nothing of it is waited for or held."""
    too_many = BOUNDS.get(command, MAX_TEXT_OCTETS) + 1

    assert read([struct.pack("!IB", too_many, command)])[1] is None
    assert read([struct.pack("!IB", too_many + 1, command)])[1] is not None


@pytest.mark.parametrize(
    ("command", "size", "bound"),
    [
        (Command.HEADER, 70_001, "milter.max_packet_bytes"),
        (Command.BODY, 70_001, "milter.max_packet_bytes"),
        (Command.END_OF_MESSAGE, 70_001, "milter.max_packet_bytes"),
        (Command.RCPT, MAX_TEXT_OCTETS + 1, "MAX_TEXT_OCTETS"),
        (Command.NEGOTIATE, MAX_OFFER_OCTETS + 1, "MAX_OFFER_OCTETS"),
    ],
)
def test_who_sends_too_much_is_told_apart_from_who_sends_nonsense(
    command: Command, size: int, bound: str
) -> None:
    """By the bound, which for what a message holds is a setting; whole or cut, alone or in a row."""
    head = struct.pack("!IB", size + 1, command)
    for pieces in ([head], [head[:2], head[2:]], [encode(Header(b"X", b"y")) + head]):
        with pytest.raises(BoundError) as caught:
            read_all(PacketReader(70_000), pieces)
        assert (caught.value.bound, caught.value.maximum) == (bound, size - 1)


def read_all(reader: PacketReader, pieces: Iterable[bytes]) -> None:
    for piece in pieces:
        reader.feed(piece)
        while reader.next_event() is not None:
            reader.take_fields(lambda _name, _value: None)


@pytest.mark.parametrize("head", [b"\0\0\0\0L", b"\0\0\0\1z", b"\0\0\0\2T"])
def test_nonsense_is_beyond_no_bound(head: bytes) -> None:
    """A packet without a command, with one that is none, with octets where there are none."""
    reader = PacketReader()
    reader.feed(head)
    with pytest.raises(ProtocolError) as caught:
        reader.next_event()
    assert not isinstance(caught.value, BoundError)


def test_a_packet_of_the_largest_size_is_read_in_linear_time() -> None:
    """A body chunk of a megabyte that comes in pieces of a few octets."""
    octets = encode(Body(b"x" * MAX_LARGE_OCTETS))

    assert read(octets[place : place + 64] for place in range(0, len(octets), 64))[0] == [
        Body(b"x" * MAX_LARGE_OCTETS)
    ]


@pytest.mark.parametrize(
    ("command", "data"),
    [
        (Command.NEGOTIATE, b"\0\0\0\6\0\0\0\1\0\0\0"),
        (Command.MACRO, b""),
        (Command.MACRO, b"Mi\0"),
        (Command.MACRO, b"Mi\0004B1"),
        (Command.CONNECT, b"mail.example.net"),
        (Command.CONNECT, b"mail.example.net\0"),
        (Command.CONNECT, b"mail.example.net\0004\1"),
        (Command.CONNECT, b"mail.example.net\0004\1\1192.0.2.1"),
        (Command.CONNECT, b"mail.example.net\0004\1\1192.0.2\0"),
        (Command.CONNECT, b"mail.example.net\0004\1\1\0"),
        (Command.CONNECT, b"mail.example.net\0X\1\1192.0.2.1\0"),
        (Command.HELO, b""),
        (Command.HELO, b"mail.example.net"),
        (Command.MAIL, b"<bob@example.net>\0SIZE=1"),
        (Command.RCPT, b""),
        (Command.HEADER, b"Subject"),
        (Command.HEADER, b"Subject\0 hello"),
        (Command.HEADER, b"\0 hello\0"),
        (Command.QUIT, b"\0"),
        (ord("Z"), b""),
        (0, b""),
    ],
)
def test_what_is_malformed_is_a_protocol_error(command: int, data: bytes) -> None:
    """A text without its end, a macro without a value, an address that is none, a command nobody knows."""
    assert read([packet(command, data)])[1] is not None


def test_a_packet_without_a_command_is_a_protocol_error() -> None:
    """A length of nothing."""
    assert read([b"\0\0\0\0" + encode(Quit())])[1] is not None


@pytest.mark.parametrize(
    ("data", "address"),
    [
        (b"a\0004\x9c\x40192.0.2.1\0", "192.0.2.1"),
        (b"a\0006\x9c\x40IPv6:2001:db8::1\0", "IPv6:2001:db8::1"),
        (b"a\0006\x9c\x402001:db8::1\0", "2001:db8::1"),
    ],
)
def test_a_client_has_an_address_and_a_port(data: bytes, address: str) -> None:
    """Sendmail writes the prefix, Postfix does too; the conversation takes either."""
    assert read([packet(Command.CONNECT, data)])[0] == [Connect("a", address, 40000)]


@pytest.mark.parametrize("data", [b"a\0U", b"a\0L\0\0/run/submit\0"])
def test_a_client_by_no_network_has_none(data: bytes) -> None:
    """What is not said is not made up."""
    assert read([packet(Command.CONNECT, data)])[0] == [Connect("a", None, None)]


def test_octets_that_are_no_utf8_stay_distinct() -> None:
    """A path and a login in Latin-1; a header value with a NUL, which a signer may have signed."""
    macros = packet(Command.MACRO, b"M{auth_authen}\0b\xc3\0")
    latin = packet(Command.MAIL, b"<b\xf6b@example.net>\0SIZE=1\0")
    header = packet(Command.HEADER, b"Subject\0 a\0b\0")

    assert read([macros + latin + header])[0] == [
        Macros(Command.MAIL, {"{auth_authen}": "b\udcc3"}),
        Mail("<b\udcf6b@example.net>", ("SIZE=1",)),
        Header(b"Subject", b" a\0b"),
    ]


def test_macros_may_be_none() -> None:
    """Postfix sends no such packet, others do."""
    assert read([packet(Command.MACRO, b"E") + packet(Command.END_OF_HEADERS)])[0] == [
        Macros(ord("E"), {}),
        EndOfHeaders(),
    ]
