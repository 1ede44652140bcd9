"""One policy connection's socket: octets in, questions out; answers in, octets out. Never blocks.

Knows how requests are cut, and how long a client may take; knows no selector and no door.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Generic, TypeVar

from mailreeve_policyd.audit_bound import MOST_A_MINUTE, Overrun, connected_peer
from mailreeve_policyd.errors import BoundError, ProtocolError
from mailreeve_policyd.moderation import Moderation
from mailreeve_policyd.poller import READ, WRITE
from mailreeve_policyd.postfix import DEFAULT_BOUNDS, RequestBounds, RequestParser
from mailreeve_policyd.question import Question

log = logging.getLogger(__name__)

RECEIVE_OCTETS = 16_384
"""Eight requests of Postfix; more than that is read in turns."""

ConnectionT = TypeVar("ConnectionT")


@dataclass(frozen=True, slots=True)
class Bounds:
    """How long a client may be silent between requests, take to send one or to take its answer, and stay.

    In seconds. `request` says how large one may be.
    """

    idle_seconds: float = 3600.0
    request_seconds: float = 100.0
    total_seconds: float = 86_400.0
    request: RequestBounds = DEFAULT_BOUNDS

    @property
    def shortest(self) -> float:
        """The shortest time that anything may take."""
        return min(self.idle_seconds, self.request_seconds, self.total_seconds)


class Complaints:
    """What the clients of a server do wrong: told as often as it is of use, as they can do it at any speed.

    `overrun` is told what went beyond a bound, and answers whether the log is to tell, too. Of the rest the
    log tells `most_a_minute` times a minute. For one server.
    """

    __slots__ = ("_breaches", "overrun")

    def __init__(
        self,
        overrun: Callable[[Overrun], bool] = lambda _overrun: True,
        most_a_minute: int = MOST_A_MINUTE,
    ) -> None:
        self.overrun = overrun
        self._breaches = Moderation(most_a_minute)

    def breach(self, error: ProtocolError) -> None:
        """A client broke the protocol."""
        if self._may_tell("protocol"):
            log.warning("a policy client was disconnected: %s", error)

    def lost(self, why: str | None) -> None:
        """A client left when it should not have, or without a word."""
        if self._may_tell("lost"):
            log.info("a policy connection was lost: %s", why or "in the middle of a request")

    def _may_tell(self, kind: str) -> bool:
        untold = self._breaches.admit(kind)
        if untold:
            log.warning("policy clients did as the next line says %d more times, not told here", untold)
        return untold is not None


class Peer(Generic[ConnectionT]):
    """A connection. `question` is what it asks now: nothing more is read until that is answered.

    `watched` is for whoever waits for it: what of its socket (poller.READ, WRITE).
    `descriptor` is the socket's, as long as that is open.
    """

    __slots__ = (
        "_began",
        "_bounds",
        "_complaints",
        "_connection",
        "_has_ended",
        "_is_leaving",
        "_parser",
        "_since",
        "_unsent",
        "descriptor",
        "question",
        "socket",
        "watched",
    )

    def __init__(
        self,
        accepted: socket.socket,
        connection: ConnectionT,
        bounds: Bounds,
        complaints: Complaints,
        now: float,
    ) -> None:
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
        self._complaints = complaints
        self._parser = RequestParser(bounds.request)
        self._has_ended = False
        self._is_leaving = False
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
            self._complaints.lost(error.strerror)
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
        except BoundError as error:
            self._overran(error.bound, error.maximum, f"sent {error}")
            return False
        except ProtocolError as error:
            self._complaints.breach(error)
            return False
        if attributes is not None:
            self.question = Question(self._connection, attributes)
            return True
        if self._has_ended and not self._parser.is_between_requests:
            self._complaints.lost(None)
        return not self._has_ended

    def answered(self, now: float) -> bool:
        """Send what became of the question. False if the connection is over."""
        question, self.question = self.question, None
        self._since = now
        if question is None or question.answer is None:
            self._tell_unanswered(question.error if question else None)
            return False
        return self._send(question.answer)

    def leave_if_old(self, now: float) -> None:
        """Take nothing further from one that was here for long: it is answered what it sent, and ends."""
        most = self._bounds.total_seconds
        if now - self._began > most and not self._is_leaving:
            self._is_leaving = True
            self._overran("policyd.total_timeout_seconds", most, f"stayed longer than {most:g} seconds")
            self.leave()

    def leave(self) -> None:
        """Let it find the end of what was received: it is answered that, and the connection ends."""
        with suppress(OSError):
            self.socket.shutdown(socket.SHUT_RD)

    def is_overdue(self, now: float) -> bool:
        """Has it taken too long for what it is doing? Says so in record and log."""
        if self.question is not None:
            return False
        seconds = now - self._since
        if self._parser.is_between_requests and not self._unsent:
            return self._is_idle(seconds)
        most = self._bounds.request_seconds
        what = "take its answer" if self._unsent else "send a whole request"
        if seconds <= most:
            return False
        self._overran("policyd.request_timeout_seconds", most, f"did not {what} in {most:g} seconds")
        return True

    def _is_idle(self, seconds: float) -> bool:
        most = self._bounds.idle_seconds
        if seconds <= most:
            return False
        self._overran("policyd.idle_timeout_seconds", most, f"asked nothing for {most:g} seconds")
        return True

    def _overran(self, bound: str, maximum: float, problem: str) -> None:
        """Tell of it in record and log, unless they have told enough."""
        peer = connected_peer(self.socket)
        if self._complaints.overrun(Overrun(bound, maximum, "closed", f"it {problem}", peer)):
            log.warning("a policy client was disconnected: it %s", problem)

    def _tell_unanswered(self, error: Exception | None) -> None:
        if isinstance(error, ProtocolError):
            self._complaints.breach(error)
        else:
            log.error("a policy request was not answered: this is a bug", exc_info=error)

    def _send(self, octets: bytes) -> bool:
        try:
            sent = self.socket.send(octets)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError as error:
            self._complaints.lost(error.strerror)
            return False
        self._unsent = octets[sent:]
        return True
