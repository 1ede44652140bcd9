"""The systemd journal as a place for lines of the record, by its native protocol (JOURNAL_NATIVE_PROTOCOL).

A line becomes an entry: MESSAGE is the line itself, and what one searches by stands beside it in fields of
its own, so that `journalctl MAILREEVE_QUEUE_ID=4B1C2D` finds a message. An entry has less than 10 kB
whatever the line holds, which is far below what a datagram takes: no file has to be handed over.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from mailreeve_policyd.sink_datagram import DatagramSocket
from mailreeve_policyd.sink_syslog import FACILITIES, Severity

JOURNAL_SOCKET = Path("/run/systemd/journal/socket")


class _Client(msgspec.Struct, frozen=True, gc=False):
    address: str | None = None


class _Verdict(msgspec.Struct, frozen=True, gc=False):
    action: str = ""
    rule: str | None = None


class _Searched(msgspec.Struct, frozen=True, gc=False):
    """What of a line becomes a field."""

    event: str = ""
    stage: str | None = None
    queue_id: str | None = None
    instance: str | None = None
    message_id: str | None = None
    client: _Client = _Client()
    login: str | None = None
    sender: str | None = None
    recipients: tuple[str, ...] = ()
    author_domain: str | None = None
    bound: str | None = None
    verdict: _Verdict = _Verdict()


_decode = msgspec.json.Decoder(_Searched).decode


class JournalSink:
    """The journal of this machine. `program` is the writer's name (journalctl -t), `facility` syslog's."""

    def __init__(
        self,
        program: str,
        facility: str,
        path: Path = JOURNAL_SOCKET,
        stopwatch: Callable[[], float] = time.monotonic,
    ) -> None:
        always = {
            "PRIORITY": str(int(Severity.INFO)),
            "SYSLOG_IDENTIFIER": program,
            "SYSLOG_FACILITY": str(FACILITIES[facility]),
        }
        self._always = b"".join(format_field(name, value.encode()) for name, value in always.items())
        self._socket = DatagramSocket(socket.AF_UNIX, str(path), stopwatch)

    def write(self, line: bytes) -> None:
        """Send one line as an entry. Raises OSError."""
        line = line.rstrip(b"\n")
        self._socket.send(self._always + format_field("MESSAGE", line) + b"".join(_fields(line)))

    def reopen(self) -> None:
        """See Sink."""
        self._socket.reopen()

    def close(self) -> None:
        """See Sink."""
        self._socket.close()


def format_field(name: str, value: bytes) -> bytes:
    """One field: `NAME=value`, or with its length where the value has line ends."""
    if b"\n" in value:
        return name.encode() + b"\n" + len(value).to_bytes(8, "little") + value + b"\n"
    return name.encode() + b"=" + value + b"\n"


def _fields(line: bytes) -> Iterator[bytes]:
    """What is searched by; each recipient is a field of its own, as the journal allows."""
    try:
        found = _decode(line)
    except msgspec.DecodeError:  # a line of another kind: it is its own MESSAGE alone
        return
    pairs = [
        ("EVENT", found.event),
        ("STAGE", found.stage),
        ("QUEUE_ID", found.queue_id),
        ("INSTANCE", found.instance),
        ("MESSAGE_ID", found.message_id),
        ("CLIENT_ADDRESS", found.client.address),
        ("LOGIN", found.login),
        ("SENDER", found.sender),
        *(("RECIPIENT", recipient) for recipient in found.recipients),
        ("AUTHOR_DOMAIN", found.author_domain),
        ("BOUND", found.bound),
        ("ACTION", found.verdict.action),
        ("RULE", found.verdict.rule),
    ]
    for name, value in pairs:
        if value:
            yield format_field(f"MAILREEVE_{name}", value.encode())
