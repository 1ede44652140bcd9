"""Events of the milter protocol as the packets of an MTA, and hypothesis strategies for them."""

from __future__ import annotations

import struct
from itertools import chain

from hypothesis import strategies as st

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
from mailreeve_policyd.escape import encode_wire

EMPTY: dict[type[Event], Command] = {
    Data: Command.DATA,
    EndOfHeaders: Command.END_OF_HEADERS,
    Abort: Command.ABORT,
    Quit: Command.QUIT,
    QuitForNew: Command.QUIT_FOR_NEW,
}


def packet(command: int, data: bytes = b"") -> bytes:
    """Any packet."""
    return struct.pack("!IB", len(data) + 1, command) + data


def encode(event: Event) -> bytes:  # noqa: C901, PLR0911 -- a table, one line a kind
    """The packet that an MTA sends to say this."""
    match event:
        case Negotiate(version, actions, steps):
            return packet(Command.NEGOTIATE, struct.pack("!III", version, actions, steps))
        case Macros(command, values):
            return packet(Command.MACRO, bytes([command]) + _words(*chain.from_iterable(values.items())))
        case Connect(name, None, _):
            return packet(Command.CONNECT, encode_wire(name) + b"\0U")
        case Connect(name, str(address), int(port)):
            family = b"6" if ":" in address else b"4"
            where = family + struct.pack("!H", port) + address.encode() + b"\0"
            return packet(Command.CONNECT, encode_wire(name) + b"\0" + where)
        case Helo(name):
            return packet(Command.HELO, encode_wire(name) + b"\0")
        case Mail(path, parameters):
            return packet(Command.MAIL, _words(path, *parameters))
        case Rcpt(path, parameters):
            return packet(Command.RCPT, _words(path, *parameters))
        case Header(field, value):
            return packet(Command.HEADER, field + b"\0" + value + b"\0")
        case Body(chunk):
            return packet(Command.BODY, chunk)
        case EndOfMessage(chunk):
            return packet(Command.END_OF_MESSAGE, chunk)
        case Unknown():
            return packet(Command.UNKNOWN, b"XYZZY\0")
    return packet(EMPTY[type(event)])


def _words(*words: str) -> bytes:
    return b"".join(encode_wire(word) + b"\0" for word in words)


octets = st.binary(max_size=40)
words = octets.map(lambda raw: raw.replace(b"\0", b""))
texts = words.map(lambda raw: raw.decode("utf-8", "surrogateescape"))
numbers = st.integers(0, 2**32 - 1)
addresses = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)).map(str)

events: st.SearchStrategy[Event] = st.one_of(
    st.builds(Negotiate, numbers, numbers, numbers),
    st.builds(Macros, st.integers(0, 255), st.dictionaries(texts, texts, max_size=3)),
    st.builds(Connect, texts, addresses, st.integers(0, 65535)),
    st.builds(Connect, texts, st.none(), st.none()),
    st.builds(Helo, texts),
    st.builds(Mail, texts, st.lists(texts, max_size=3).map(tuple)),
    st.builds(Rcpt, texts, st.lists(texts, max_size=3).map(tuple)),
    st.builds(Header, words.filter(bool), octets),
    st.builds(Body, octets),
    st.builds(EndOfMessage, octets),
    st.sampled_from([Data(), Unknown(), EndOfHeaders(), Abort(), Quit(), QuitForNew()]),
)
