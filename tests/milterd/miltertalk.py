"""The MTA's side of the milter protocol, version 6, written from the protocol and from nothing of ours.

It offers what it is told to offer (as Postfix 3.7 does, by default), honours what the filter picks, sends
macros before each step, and says what came back, packet for packet. Any engine can stand at the other end.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum, IntFlag
from types import TracebackType
from typing import Self

VERSION = 6
CHUNK_OCTETS = 65_535
MAX_PACKET_OCTETS = 1 << 20
TIMEOUT_SECONDS = 20.0


class Actions(IntFlag):
    """What a filter may ask to be done (SMFIF_*)."""

    ADD_HEADERS = 0x001
    CHANGE_BODY = 0x002
    ADD_RECIPIENTS = 0x004
    DELETE_RECIPIENTS = 0x008
    CHANGE_HEADERS = 0x010
    QUARANTINE = 0x020
    CHANGE_SENDER = 0x040
    ADD_RECIPIENTS_WITH_PARAMETERS = 0x080
    SET_MACROS = 0x100


class Steps(IntFlag):
    """What an MTA can leave out, or do without an answer (SMFIP_*)."""

    NO_CONNECT = 0x1
    NO_HELO = 0x2
    NO_MAIL = 0x4
    NO_RCPT = 0x8
    NO_BODY = 0x10
    NO_HEADERS = 0x20
    NO_END_OF_HEADERS = 0x40
    SILENT_HEADER = 0x80
    NO_UNKNOWN = 0x100
    NO_DATA = 0x200
    SKIP = 0x400
    REJECTED_RECIPIENTS = 0x800
    SILENT_CONNECT = 0x1000
    SILENT_HELO = 0x2000
    SILENT_MAIL = 0x4000
    SILENT_RCPT = 0x8000
    SILENT_DATA = 0x10000
    SILENT_UNKNOWN = 0x20000
    SILENT_END_OF_HEADERS = 0x40000
    SILENT_BODY = 0x80000
    LEADING_SPACE = 0x100000


ALL_ACTIONS = Actions(0x1FF)
ALL_STEPS = Steps(0x1FFFFF)
OLD_ACTIONS = Actions(0x3F)
OLD_STEPS = Steps(0x7F)
"""What Sendmail 8.13 offered (protocol version 2)."""


class MacroStage(IntEnum):
    """The places of SETSYMLIST."""

    CONNECT = 0
    HELO = 1
    MAIL = 2
    RCPT = 3
    DATA = 4
    END_OF_MESSAGE = 5
    END_OF_HEADERS = 6


class MilterTalkError(Exception):
    """The filter broke the protocol, or the connection."""


@dataclass(frozen=True, slots=True)
class Packet:
    """One answer of the filter: the command octet and its data."""

    command: str
    data: bytes = b""

    @property
    def is_final(self) -> bool:
        """Does it end a step? Changes to the message and progress do not."""
        return self.command not in "+-2behimqlp"

    def __str__(self) -> str:
        """As it stands in a dialogue."""
        word = _WORDS.get(self.command, f"?{self.command}")
        if self.command in "im":
            (number,) = struct.unpack("!I", self.data[:4])
            name, value = self.data[4:].removesuffix(b"\0").split(b"\0")
            if self.command == "m":
                return f"{word} {_show(name)} {number}{' =' + _show(value) if value else ''}"
            return f"{word} {number} {_show(name)}:{_show(value)}"
        if self.command == "h":
            name, value = self.data.removesuffix(b"\0").split(b"\0")
            return f"{word} {_show(name)}:{_show(value)}"
        text = _show(self.data.removesuffix(b"\0"))
        return f"{word} {text}".rstrip()


_WORDS = {
    "c": "continue", "a": "accept", "r": "reject", "t": "tempfail", "d": "discard", "y": "reply",
    "s": "skip", "q": "quarantine", "i": "insert", "m": "change", "h": "add", "p": "progress",
    "+": "add-recipient", "-": "remove-recipient",
}  # fmt: skip


def _show(raw: bytes) -> str:
    text = raw.decode("utf-8", "surrogateescape")
    return "".join(_show_character(character) for character in text)


def _show_character(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    return {"\n": "\\n", "\r": "\\r", "\t": "\\t", "\\": "\\\\"}.get(character) or (
        character if character.isprintable() else f"\\x{code:02x}"
    )


@dataclass(slots=True)
class Negotiated:
    """What the filter picked; `macros` is what it asked for (SETSYMLIST)."""

    version: int
    actions: Actions
    steps: Steps
    macros: dict[MacroStage, tuple[str, ...]] = field(default_factory=dict)


# the command octet of a step, what leaves it out, what makes it silent, whose macros go before it
_STEPS: Mapping[str, tuple[Steps, Steps, MacroStage]] = {
    "C": (Steps.NO_CONNECT, Steps.SILENT_CONNECT, MacroStage.CONNECT),
    "H": (Steps.NO_HELO, Steps.SILENT_HELO, MacroStage.HELO),
    "M": (Steps.NO_MAIL, Steps.SILENT_MAIL, MacroStage.MAIL),
    "R": (Steps.NO_RCPT, Steps.SILENT_RCPT, MacroStage.RCPT),
    "T": (Steps.NO_DATA, Steps.SILENT_DATA, MacroStage.DATA),
    "L": (Steps.NO_HEADERS, Steps.SILENT_HEADER, MacroStage.END_OF_HEADERS),
    "N": (Steps.NO_END_OF_HEADERS, Steps.SILENT_END_OF_HEADERS, MacroStage.END_OF_HEADERS),
    "B": (Steps.NO_BODY, Steps.SILENT_BODY, MacroStage.END_OF_MESSAGE),
    "U": (Steps.NO_UNKNOWN, Steps.SILENT_UNKNOWN, MacroStage.CONNECT),
}

DEFAULT_MACROS: Mapping[str, Mapping[str, str]] = {
    "C": {"j": "mx.example.org", "{daemon_name}": "mx.example.org", "v": "Postfix 3.7.11"},
}


class MilterTalk:
    """One connection to a filter at `address` (`unix:PATH` or a host and port).

    `macros` holds, by the command octet of a step ("M" for MAIL, "E" for the end), what to send before it.
    """

    def __init__(
        self,
        address: str | tuple[str, int],
        actions: Actions = ALL_ACTIONS,
        steps: Steps = ALL_STEPS,
        version: int = VERSION,
    ) -> None:
        self.address = address
        self.macros: dict[str, dict[str, str]] = {key: dict(value) for key, value in DEFAULT_MACROS.items()}
        self.offered = (version, actions, steps)
        self._skipping: set[str] = set()
        self.socket = _connect(address)
        try:
            self.negotiated = self._negotiate()
        except MilterTalkError:
            self.socket.close()
            raise

    def reconnect(self) -> None:
        """Make a new connection, in place of the one there is."""
        self.socket.close()
        self._skipping.clear()
        self.socket = _connect(self.address)
        self.negotiated = self._negotiate()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.socket.close()

    def _negotiate(self) -> Negotiated:
        version, actions, steps = self.offered
        self.send("O", struct.pack("!III", version, actions, steps))
        answer = self.receive()
        if answer.command != "O" or len(answer.data) < 12:
            raise MilterTalkError(f"no negotiation: {answer}")
        their_version, their_actions, their_steps = struct.unpack("!III", answer.data[:12])
        if their_actions & ~actions or their_steps & ~steps:
            raise MilterTalkError(f"asks for what was not offered: {their_actions:#x} {their_steps:#x}")
        picked = Negotiated(their_version, Actions(their_actions), Steps(their_steps))
        picked.macros = _macro_lists(answer.data[12:])
        return picked

    # -- steps ----------------------------------------------------------------------------------------

    def connect(self, name: str, address: str | None, port: int = 40000) -> Packet | None:
        """CONNECT; `address` None is a client of the family "unknown"."""
        raw = _text(name) + b"\0"
        if address is None:
            return self.step("C", raw + b"U")
        family = b"6" if ":" in address else b"4"
        return self.step("C", raw + family + struct.pack("!H", port) + _text(address) + b"\0")

    def helo(self, name: str) -> Packet | None:
        """HELO or EHLO."""
        return self.step("H", _text(name) + b"\0")

    def mail(self, path: str, *parameters: str) -> Packet | None:
        """MAIL; the path with its angle brackets."""
        return self.step("M", b"".join(_text(word) + b"\0" for word in (path, *parameters)))

    def rcpt(self, path: str, *parameters: str) -> Packet | None:
        """RCPT; the path with its angle brackets."""
        return self.step("R", b"".join(_text(word) + b"\0" for word in (path, *parameters)))

    def data(self) -> Packet | None:
        """DATA."""
        return self.step("T")

    def header(self, name: bytes, value: bytes) -> Packet | None:
        """One field; `value` is everything after the colon. The space goes where it was not asked for."""
        if Steps.LEADING_SPACE not in self.negotiated.steps:
            value = value.removeprefix(b" ")
        return self.step("L", name + b"\0" + value.replace(b"\r\n", b"\n") + b"\0")

    def end_of_headers(self) -> Packet | None:
        """The empty line."""
        return self.step("N")

    def body(self, octets: bytes, chunk: int = CHUNK_OCTETS) -> None:
        """The body, in chunks, until the filter wants to skip the rest."""
        for start in range(0, len(octets), chunk):
            if "B" in self._skipping:
                return
            answer = self.step("B", octets[start : start + chunk])
            if answer is not None and answer.command not in "cs":
                raise MilterTalkError(f"body answered with {answer}")

    def end_of_message(self) -> list[Packet]:
        """The end: all packets, the final one last."""
        self.send_macros("E", MacroStage.END_OF_MESSAGE)
        self.send("E")
        packets = [self.receive()]
        while not packets[-1].is_final:
            packets.append(self.receive())
        self._skipping.clear()
        return [packet for packet in packets if packet.command != "p"]

    def message(self, fields: Iterable[tuple[bytes, bytes]], body: bytes) -> list[Packet]:
        """Everything after DATA, to the end."""
        for name, value in fields:
            self.header(name, value)
        self.end_of_headers()
        self.body(body)
        return self.end_of_message()

    def abort(self) -> None:
        """The message is over or given up; Postfix says so after each one."""
        self._skipping.clear()
        self.send("A")

    def quit(self) -> None:
        """The session and the connection are over."""
        self.send("Q")

    def quit_for_new_session(self) -> None:
        """The session is over, another follows (SMFIC_QUIT_NC)."""
        self.send("K")

    # -- the wire -------------------------------------------------------------------------------------

    def step(self, command: str, data: bytes = b"") -> Packet | None:
        """Send a step with its macros; its answer, None where there is none to be."""
        left_out, silent, stage = _STEPS[command]
        if left_out & self.negotiated.steps or command in self._skipping:
            return None
        self.send_macros(command, stage)
        self.send(command, data)
        if silent & self.negotiated.steps:
            return None
        answer = self.receive()
        while answer.command == "p":
            answer = self.receive()
        if answer.command == "s":
            self._skipping.add(command)
        return answer

    def send_macros(self, command: str, stage: MacroStage) -> None:
        """The macros of a step, those asked for where the filter asked."""
        wanted = self.negotiated.macros.get(stage)
        macros = self.macros.get(command, {})
        chosen = {name: value for name, value in macros.items() if wanted is None or name in wanted}
        if chosen:
            words = (word for pair in chosen.items() for word in pair)
            self.send("D", command.encode() + b"".join(_text(word) + b"\0" for word in words))

    def send(self, command: str, data: bytes = b"") -> None:
        """One packet."""
        self.socket.sendall(struct.pack("!I", len(data) + 1) + command.encode("ascii") + data)

    def receive(self) -> Packet:
        """The next packet; MilterTalkError where the filter closed or is silent too long."""
        (octets,) = struct.unpack("!I", self._read(4))
        if not 0 < octets <= MAX_PACKET_OCTETS:
            raise MilterTalkError(f"a packet of {octets} octets")
        raw = self._read(octets)
        return Packet(chr(raw[0]), raw[1:])

    def nothing_more(self) -> bool:
        """Is there no answer that nobody asked for? (At once: the filter has had its turn.)"""
        self.socket.setblocking(False)
        try:
            return not self.socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        finally:
            self.socket.settimeout(TIMEOUT_SECONDS)

    def _read(self, count: int) -> bytes:
        raw = b""
        while len(raw) < count:
            try:
                piece = self.socket.recv(count - len(raw))
            except TimeoutError:
                raise MilterTalkError(f"no answer within {TIMEOUT_SECONDS:g} seconds") from None
            if not piece:
                raise MilterTalkError("the filter closed the connection")
            raw += piece
        return raw


def _connect(address: str | tuple[str, int]) -> socket.socket:
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    connection = socket.socket(family, socket.SOCK_STREAM)
    connection.settimeout(TIMEOUT_SECONDS)
    connection.connect(address.removeprefix("unix:") if isinstance(address, str) else address)
    return connection


def _text(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _macro_lists(raw: bytes) -> dict[MacroStage, tuple[str, ...]]:
    lists = {}
    while len(raw) > 4:
        (stage,) = struct.unpack("!I", raw[:4])
        names, _, raw = raw[4:].partition(b"\0")
        lists[MacroStage(stage)] = tuple(names.decode("ascii").replace(",", " ").split())
    return lists


def split_message(raw: bytes) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """A message with CRLF line ends, as an MTA cuts it: names, values (with folds), and the body.

    What is no header line begins the body, as Postfix has it.
    """
    fields: list[tuple[bytes, bytes]] = []
    start = 0
    while start < len(raw):
        end = raw.find(b"\r\n", start)
        end = len(raw) if end < 0 else end
        line, after = raw[start:end], end + 2
        if not line:
            return fields, raw[after:]
        if line[:1] in (b" ", b"\t") and fields:
            fields[-1] = (fields[-1][0], fields[-1][1] + b"\r\n" + line)
        else:
            name, colon, value = line.partition(b":")
            name = name.rstrip(b" \t")
            if not colon or not name or not all(33 <= octet < 127 for octet in name):
                return fields, raw[start:]
            fields.append((name, value))
        start = after
    return fields, b""


def deliver(
    fields: Sequence[tuple[bytes, bytes]], packets: Iterable[Packet], leading_space: bool = True
) -> list[tuple[bytes, bytes]]:
    """The header after the filter's changes, as an MTA carries them out one by one."""
    header = list(fields)
    for packet in packets:
        if packet.command == "m":
            _change(header, packet)
        elif packet.command in "ih":
            number = struct.unpack("!I", packet.data[:4])[0] if packet.command == "i" else len(header)
            data = packet.data[4:] if packet.command == "i" else packet.data
            name, value = data.removesuffix(b"\0").split(b"\0")
            header.insert(number, (name, value if leading_space else b" " + value))
    return header


def _change(header: list[tuple[bytes, bytes]], packet: Packet) -> None:
    (number,) = struct.unpack("!I", packet.data[:4])
    name, value = packet.data[4:].removesuffix(b"\0").split(b"\0")
    places = [place for place, entry in enumerate(header) if entry[0].lower() == name.lower()]
    if number > len(places):
        return
    if value:
        header[places[number - 1]] = (name, value)
    else:
        del header[places[number - 1]]
