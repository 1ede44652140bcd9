"""Taking connections from a listening socket that several workers share, one at a time.

An event loop's own server takes all that wait as soon as it wakes, so that of twenty connections that come at
once one worker gets twenty and the other none. Here a worker takes one, looks after those that it has, and
only then takes the next: whoever has least to do takes most. Knows sockets and the loop, and no protocol.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from math import inf

from mailreeve_policyd.moderation import Moderation

log = logging.getLogger(__name__)

PAUSE_SECONDS = 1.0
"""Before the next try when the system has no descriptor or memory for another connection."""


SAY_AGAIN_SECONDS = 60.0
"""Between two times that it is said that all connections are taken."""


class Acceptor:
    """Gives each connection of `listener`, which does not block, to a protocol that `make_protocol` makes.

    At most `max_connections` at once: who calls `release` for each that has ended lets the next in; those
    that came meanwhile wait in the socket's backlog, and `full` is called, at most once in SAY_AGAIN_SECONDS.
    All methods are called in the loop's thread.
    """

    __slots__ = (
        "_full",
        "_is_closed",
        "_is_watching",
        "_listener",
        "_loop",
        "_make_protocol",
        "_max_connections",
        "_shortages",
        "_starting",
        "_taken",
        "_told_at",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        listener: socket.socket,
        make_protocol: Callable[[], asyncio.Protocol],
        max_connections: int,
        full: Callable[[], None] = lambda: None,
    ) -> None:
        self._loop = loop
        self._listener = listener
        self._make_protocol = make_protocol
        self._max_connections = max_connections
        self._starting: set[asyncio.Task[object]] = set()
        self._taken = 0
        self._full = full
        self._told_at = -inf
        self._shortages = Moderation(1)
        self._is_watching = False
        self._is_closed = False
        listener.setblocking(False)
        self._watch()

    @property
    def is_idle(self) -> bool:
        """Does no connection stand between its acceptance and its protocol?"""
        return not self._starting

    def close(self) -> None:
        """Take no more, and close the socket: who connects where nobody else listens is refused at once."""
        self._is_closed = True
        self._unwatch()
        self._listener.close()

    def release(self) -> None:
        """A connection has ended."""
        self._taken -= 1
        self._watch()

    def _watch(self) -> None:
        if not (self._is_closed or self._is_watching or self._taken >= self._max_connections):
            self._is_watching = True
            self._loop.add_reader(self._listener.fileno(), self._accept)

    def _unwatch(self) -> None:
        if self._is_watching:
            self._is_watching = False
            self._loop.remove_reader(self._listener.fileno())

    def _accept(self) -> None:
        """One connection, if another worker has not taken it."""
        try:
            accepted, _ = self._listener.accept()
        except (BlockingIOError, ConnectionError, InterruptedError):
            return
        except OSError as error:
            if self._shortages.admit("accept") is not None:
                log.error("no further connection can be accepted: %s", error.strerror)  # noqa: TRY400 -- no bug
            self._unwatch()
            self._loop.call_later(PAUSE_SECONDS, self._watch)
            return
        self._taken += 1
        if self._taken >= self._max_connections:
            self._tell_full()
            self._unwatch()
        self._start(accepted)

    def _tell_full(self) -> None:
        now = self._loop.time()
        if now - self._told_at >= SAY_AGAIN_SECONDS:
            self._told_at = now
            self._full()

    def _start(self, accepted: socket.socket) -> None:
        accepted.setblocking(False)
        start = self._loop.create_task(self._connect(accepted))
        self._starting.add(start)
        start.add_done_callback(self._starting.discard)

    async def _connect(self, accepted: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(self._make_protocol, accepted)
        except Exception:
            log.exception("a connection was accepted and could not be served: this is a bug")
            accepted.close()
            self.release()
