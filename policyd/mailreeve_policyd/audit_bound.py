"""The record of what went beyond a bound: which bound, whose connection, and what became of it.

A kind of line of its own in the record (docs/audit.md), of something that is no decision about mail. A peer
can bring it about as often as it likes: audit.AuditLog.overrun writes no more than `[audit] bounds_a_minute`
of each bound. Everything from the wire is escaped and bounded here.
"""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import msgspec

from mailreeve_policyd.audit_record import Client
from mailreeve_policyd.escape import cut, escape
from mailreeve_policyd.transaction import IPAddress, format_address

Consequence = Literal["closed", "refused", "waiting", "left-out"]
"""The connection was closed; a command or request was answered with 4xx or 5xx; connections wait to be
accepted; what was beyond the bound was not looked at or not done, and the rest went on."""

MOST_A_MINUTE = 10
"""Records of one bound by one process, unless the settings say otherwise."""

_CREDENTIALS = struct.Struct("3i")
"""struct ucred of unix(7): pid, uid, gid."""


class Connected(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """Who is connected to one of our sockets: over TCP an address and port, over a unix socket a process."""

    address: str | None = None
    port: int | None = None
    pid: int | None = None
    uid: int | None = None


@dataclass(frozen=True, slots=True)
class Overrun:
    """What happened. `bound` is its setting's name (`milter.idle_timeout_seconds`), `maximum` its value.

    `reason` is for people, in our words: of what it quotes from a peer is escaped and cut when it is
    written. `client` is whose mail it was, where that was known, and `queue_id` the MTA's name for it.
    """

    bound: str
    maximum: float
    consequence: Consequence
    reason: str
    peer: Connected | None = None
    client: IPAddress | None = None
    queue_id: str | None = None


class BoundRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line. `unrecorded` counts those of the same bound that were left out since the line before it."""

    time: str
    daemon: str
    event: str
    bound: str
    maximum: float
    consequence: str
    reason: str
    peer: Connected | None = None
    client: Client | None = None
    queue_id: str | None = None
    unrecorded: int = 0


_encode = msgspec.json.Encoder().encode


def format_overrun(overrun: Overrun, time: str, daemon: str, unrecorded: int) -> bytes:
    """The line, its LF included: far less than what fits into a pipe in one piece."""
    client = Client(format_address(overrun.client)) if overrun.client is not None else None
    queue_id = escape(overrun.queue_id) if overrun.queue_id else None
    record = BoundRecord(
        time,
        daemon,
        "bound",
        overrun.bound,
        overrun.maximum,
        overrun.consequence,
        _told(overrun.reason),
        overrun.peer,
        client,
        queue_id,
        unrecorded,
    )
    return _encode(record) + b"\n"


def _told(text: str) -> str:
    """What a message quotes was escaped when it was made, and is not again."""
    return cut(text) if text.isascii() and text.isprintable() else escape(text)


class _Socket(Protocol):
    """What a socket and an event loop's view of one have in common."""

    @property
    def family(self) -> int: ...
    def getpeername(self) -> Any: ...
    def getsockopt(self, level: int, name: int, size: int, /) -> bytes: ...


def connected_peer(accepted: _Socket | None) -> Connected | None:
    """Who is at the other end of an accepted socket; None where the system does not say. Never raises.

    Ask before it is closed. A process in another container has the pid 0.
    """
    if accepted is None:
        return None
    try:
        if accepted.family == socket.AF_UNIX:
            raw = accepted.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
            pid, uid, _ = _CREDENTIALS.unpack(raw)
            return Connected(pid=pid, uid=uid % 2**32)
        address, port = accepted.getpeername()[:2]
    except (OSError, ValueError, struct.error):  # it is gone, or the system knows none
        return None
    return Connected(address=escape(address, 64), port=port)
