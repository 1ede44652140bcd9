"""One policy connection's socket: octets in, questions out; answers in, octets out. Never blocks.

Knows how requests are cut, and how long a client may take; knows no selector and no door.
"""

from __future__ import annotations

import logging
import socket
from contextlib import suppress
from dataclasses import dataclass
from typing import Generic, TypeVar

from mailreeve_policyd.errors import ProtocolError
from mailreeve_policyd.poller import READ, WRITE
from mailreeve_policyd.postfix import RequestParser
from mailreeve_policyd.question import Question

log = logging.getLogger(__name__)

RECEIVE_OCTETS = 16_384
"""Eight requests of Postfix; more than that is read in turns."""

SEND_SECONDS = 30.0
"""A peer that does not take its answer for so long is gone; Postfix itself waits 100 seconds for one."""

ConnectionT = TypeVar("ConnectionT")


@dataclass(frozen=True, slots=True)
class Bounds:
    """How long a client may be silent between requests, take to send one, and stay; in seconds."""

    idle_seconds: float = 3600.0
    request_seconds: float = 100.0
    total_seconds: float = 86_400.0

    @property
    def shortest(self) -> float:
        """The shortest time that anything may take."""
        return min(self.idle_seconds, self.request_seconds, self.total_seconds, SEND_SECONDS)


class Peer(Generic[ConnectionT]):
    """A connection. `question` is what it asks now: nothing more is read until that is answered.

    `watched` is for whoever waits for it: what of its socket (poller.READ, WRITE).
    `descriptor` is the socket's, as long as that is open.
    """

    __slots__ = (
        "_began",
        "_bounds",
        "_connection",
        "_has_ended",
        "_parser",
        "_since",
        "_unsent",
        "descriptor",
        "question",
        "socket",
        "watched",
    )

    def __init__(self, accepted: socket.socket, connection: ConnectionT, bounds: Bounds, now: float) -> None:
        accepted.setblocking(False)
        if accepted.family != socket.AF_UNIX:
            accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            accepted.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)  # a client's machine may vanish
        self.socket = accepted
        self.descriptor = accepted.fileno()
        self.question: Question[ConnectionT] | None = None
        self.watched = 0
        self._connection = connection
        self._bounds = bounds
        self._parser = RequestParser()
        self._has_ended = False
        self._unsent = b""
        self._since = self._began = now

    @property
    def wants(self) -> int:
        """What it waits for, when it asks nothing."""
        return WRITE if self._unsent else READ

    def hear(self, now: float) -> bool:
        """Its socket is ready. False if the connection is over."""
        if self._unsent:
            return self._send(self._unsent)
        try:
            octets = self.socket.recv(RECEIVE_OCTETS)
        except (BlockingIOError, InterruptedError):
            return True
        except OSError as error:
            log.info("a policy connection was lost: %s", error.strerror)
            return False
        if not octets:
            self._has_ended = True
            return True
        if self._parser.is_between_requests:
            self._since = now
        self._parser.take(octets)
        return True

    def ask(self) -> bool:
        """Set `question` to the next one, or None. False if the connection is over."""
        if self._unsent:
            return True
        if self._parser.is_between_requests:
            return not self._has_ended
        try:
            attributes = self._parser.next_request()
        except ProtocolError as error:
            log.warning("a policy client was disconnected: %s", error)
            return False
        if attributes is not None:
            self.question = Question(self._connection, attributes)
            return True
        if self._has_ended and not self._parser.is_between_requests:
            log.info("a policy client left in the middle of a request")
        return not self._has_ended

    def answered(self, now: float) -> bool:
        """Send what became of the question. False if the connection is over."""
        question, self.question = self.question, None
        self._since = now
        if question is None or question.answer is None:
            _tell(question.error if question else None)
            return False
        return self._send(question.answer)

    def leave_if_old(self, now: float) -> None:
        """Take nothing further from one that was here for long: it is answered what it sent, and ends."""
        if now - self._began > self._bounds.total_seconds:
            self.leave()

    def leave(self) -> None:
        """Let it find the end of what was received: it is answered that, and the connection ends."""
        with suppress(OSError):
            self.socket.shutdown(socket.SHUT_RD)

    def is_overdue(self, now: float) -> bool:
        """Has it taken too long for what it is doing? Says so in the log."""
        if self.question is not None:
            return False
        seconds = now - self._since
        if self._parser.is_between_requests and not self._unsent:
            if seconds > self._bounds.idle_seconds:
                log.info("a policy client was disconnected: it asked nothing for %g seconds", seconds)
                return True
            return False
        if seconds > (SEND_SECONDS if self._unsent else self._bounds.request_seconds):
            what = "take its answer" if self._unsent else "send a whole request"
            log.warning("a policy client was disconnected: it did not %s in %.0f seconds", what, seconds)
            return True
        return False

    def _send(self, octets: bytes) -> bool:
        try:
            sent = self.socket.send(octets)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError as error:
            log.info("a policy connection was lost: %s", error.strerror)
            return False
        self._unsent = octets[sent:]
        return True


def _tell(error: Exception | None) -> None:
    if isinstance(error, ProtocolError):
        log.warning("a policy client was disconnected: %s", error)
    else:
        log.error("a policy request was not answered: this is a bug", exc_info=error)
