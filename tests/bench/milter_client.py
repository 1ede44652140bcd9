"""The MTA's side of milter protocol 6, as much as a load needs: offer everything, send what is asked for."""

import socket
import struct
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tests.lab.ports import parse_address

VERSION, ALL_ACTIONS, ALL_STEPS = 6, 0x1FF, 0x1FFFFF
# the steps of a session: command, "do not send it", "no answer comes" (SMFIP_NO*, SMFIP_NR_*)
NOT_SENT = {"C": 0x1, "H": 0x2, "M": 0x4, "R": 0x8, "B": 0x10, "L": 0x20, "N": 0x40, "T": 0x200}
NO_ANSWER = {
    "L": 0x80,
    "C": 0x1000,
    "H": 0x2000,
    "M": 0x4000,
    "R": 0x8000,
    "T": 0x10000,
    "N": 0x40000,
    "B": 0x80000,
}
LEADING_SPACE = 0x100000
BODY_OCTETS = 65_535
CHANGES = b"+-bhimpqe"  # what a milter does to a message before its last answer
GOES_ON = b"ca"

Field = tuple[bytes, bytes]


class MilterSession:
    """One connection, on which any number of messages are sent, each a session of SMTP's own words."""

    def __init__(self, address: str) -> None:
        family, where = parse_address(address)
        self.connection = socket.socket(family, socket.SOCK_STREAM)
        self.connection.connect(where)
        self.incoming = self.connection.makefile("rb")
        self._send("O", struct.pack("!III", VERSION, ALL_ACTIONS, ALL_STEPS))
        _, offer = self._read()
        self.steps = struct.unpack("!III", offer[:12])[2]

    def close(self) -> None:
        """QUIT and close."""
        self._send("Q", b"")
        self.incoming.close()
        self.connection.close()

    def connect(self, address: str, helo: str) -> None:
        """The client, once a connection."""
        self._macros("C", {"{client_addr}": address, "{client_ptr}": helo, "{client_resolve}": "OK"})
        self._step("C", f"{helo}\0".encode() + b"4" + struct.pack("!H", 40000) + f"{address}\0".encode())
        self._step("H", f"{helo}\0".encode())

    def message(self, macros: Mapping[str, str], sender: str, fields: Sequence[Field], body: bytes) -> int:
        """One message to one recipient; how many changes were made to it. ValueError if it is refused."""
        self._macros("M", macros)
        self._step("M", f"<{sender}>\0".encode())
        self._step("R", b"<bob@example.org>\0")
        self._macros("T", {"i": "4BENCH"})
        self._step("T", b"")
        for name, value in fields:
            kept = value if self.steps & LEADING_SPACE else value.removeprefix(b" ")
            self._step("L", name + b"\0" + kept + b"\0")
        self._step("N", b"")
        for start in range(0, len(body), BODY_OCTETS):
            self._step("B", body[start : start + BODY_OCTETS])
        self._send("E", b"")
        return self._changes()

    def _step(self, command: str, octets: bytes) -> None:
        if self.steps & NOT_SENT[command]:
            return
        self._send(command, octets)
        if not self.steps & NO_ANSWER[command]:
            self._expect(self._read())

    def _changes(self) -> int:
        changes = 0
        while True:
            kind, octets = self._read()
            if kind not in CHANGES:
                self._expect((kind, octets))
                return changes
            changes += kind != b"p"

    def _expect(self, answer: tuple[bytes, bytes]) -> None:
        if answer[0] not in GOES_ON:
            raise ValueError(f"refused: {answer}")

    def _macros(self, command: str, macros: Mapping[str, str]) -> None:
        self._send(
            "D", command.encode() + b"".join(f"{name}\0{value}\0".encode() for name, value in macros.items())
        )

    def _send(self, command: str, octets: bytes) -> None:
        self.connection.sendall(struct.pack("!I", len(octets) + 1) + command.encode() + octets)

    def _read(self) -> tuple[bytes, bytes]:
        size = struct.unpack("!I", self.incoming.read(4))[0]
        packet = self.incoming.read(size)
        return packet[:1], packet[1:]


@dataclass(frozen=True, slots=True)
class Mail:
    """A message and how it comes: the client's address, the macros at MAIL, the reverse-path."""

    client: str
    macros: Mapping[str, str]
    sender: str
    message: bytes


def load(address: str, mail: Mail, connections: int, seconds: float) -> tuple[int, float]:
    """Send a message again and again for so long; how many, and in how many seconds."""
    fields, body = split(mail.message)
    counts: list[int] = []
    begun = time.monotonic()

    def work() -> None:
        session = MilterSession(address)
        session.connect(mail.client, "mail.example.net")
        done = 0
        while time.monotonic() - begun < seconds:
            if not session.message(mail.macros, mail.sender, fields, body):
                raise ValueError("neither signed nor marked")
            done += 1
        session.close()
        counts.append(done)

    threads = [threading.Thread(target=work) for _ in range(connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if len(counts) < connections:
        raise ValueError("a connection failed")
    return sum(counts), time.monotonic() - begun


def split(message: bytes) -> tuple[list[Field], bytes]:
    """Header fields as an MTA hands them over, and the body."""
    header, _, body = message.partition(b"\r\n\r\n")
    fields: list[Field] = []
    for line in header.split(b"\r\n"):
        if line[:1] in b" \t" and fields:
            name, value = fields.pop()
            fields.append((name, value + b"\n" + line))
        else:
            name, _, value = line.partition(b":")
            fields.append((name, value))
    return fields, body
