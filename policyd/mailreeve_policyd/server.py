"""The sockets of the policy daemon: an event loop a process. Knows how requests are cut, not what they mean.

What is ready at one moment is answered together, so that all of it is one transaction of the limit store, and
what blocks for long is left to another thread (relief.py). A connection ends without an answer where the
peer breaks the protocol and where our own code fails: the protocol knows no error answer, and Postfix then
tries again and at last does its default_action.
"""

from __future__ import annotations

import logging
import socket
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from math import inf
from typing import Generic, TypeVar

from mailreeve_policyd.audit_bound import Overrun
from mailreeve_policyd.moderation import Moderation
from mailreeve_policyd.peer import Bounds, Complaints, Peer
from mailreeve_policyd.poller import READ, open_poller
from mailreeve_policyd.question import Answerer
from mailreeve_policyd.relief import Relief
from mailreeve_policyd.threads import NoThreadError, Threads

log = logging.getLogger(__name__)

MAX_BATCH = 64
"""Questions that are answered together: enough to share what a transaction costs, and few enough that the
first does not wait for the last."""

MAX_WAITING = 100
"""Threads that wait for DNS, unless the settings say otherwise: as many as Postfix has smtpd processes by
default."""

PAUSE_SECONDS = 1.0
"""Before accepting again when the system has no descriptor or memory for another connection."""

YIELD_SECONDS = 0.001
MOST_YIELDS = 8
"""Before it accepts, a worker leaves the others so long for each connection that it has, up to so many times:
so who has fewest is first. Whoever wakes first would else get nearly all, and keep them for long."""

SWEEP_SECONDS = 5.0
"""How often connections are looked at for those whose time is over."""

SAY_AGAIN_SECONDS = 60.0
"""Between two lines in the log that say that all connections are taken."""

ConnectionT = TypeVar("ConnectionT")


@dataclass(slots=True)
class _Wake:
    """A socket that is written to when the loop is to look around."""

    inner: socket.socket
    outer: socket.socket


class PolicyServer(Generic[ConnectionT]):
    """Serves listening, non-blocking sockets until it is told to retire; then ends what is under way.

    At most `max_connections` are served at once; further ones wait in the listening sockets' backlog.
    `begin_thread` is called in each thread that may call `answerer.answer_each`. `is_alone` says that no
    other process accepts from these sockets. `complaints` are told what clients do wrong. `max_waiting`
    requests wait for DNS at once.
    """

    def __init__(
        self,
        listeners: Sequence[socket.socket],
        answerer: Answerer[ConnectionT],
        max_connections: int,
        bounds: Bounds = Bounds(),  # noqa: B008 -- it is frozen
        *,
        begin_thread: Callable[[], None] = lambda: None,
        is_alone: bool = True,
        complaints: Complaints | None = None,
        max_waiting: int = MAX_WAITING,
        pause_seconds: float = PAUSE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._answerer = answerer
        self._listeners = {listener.fileno(): listener for listener in listeners}
        self._max_connections = max_connections
        self._bounds = bounds
        self._complaints = complaints or Complaints()
        self._pause_seconds = pause_seconds
        self._clock = clock
        self._poller = open_poller()
        self._peers: dict[int, Peer[ConnectionT]] = {}
        """By their descriptors."""
        self._asking: deque[Peer[ConnectionT]] = deque()
        self._is_alone = is_alone
        self._has_yielded = False
        self._is_accepting = False
        self._accept_at = 0.0
        self._sweep_at = clock() + self._sweep_seconds
        self._said_full_at = -inf
        self._shortages = Moderation(1, clock)
        self._is_retiring = False
        self._is_draining = False
        self._posted: deque[Callable[[], None]] = deque()
        self._wake = _Wake(*socket.socketpair())
        self._relief = Relief(self, begin_thread)
        self._threads = Threads("dns", max_waiting, self._post)

    def serve(self) -> None:
        """Accept and answer, until `retire` was called and the last connection has ended."""
        for one in (self._wake.inner, self._wake.outer):
            one.setblocking(False)
        self._poller.register(self._wake.inner.fileno(), READ)
        try:
            self._relief.run()
        finally:
            for peer in self._peers.values():
                peer.socket.close()
            self._poller.close()
            self._wake.inner.close()
            self._wake.outer.close()

    def retire(self) -> None:
        """Accept no more, answer what was received, close. Returns at once; from any thread."""
        self._is_retiring = True
        self._wake_up()

    # -- what relief.Relief calls ---------------------------------------------------------------------

    def next_work(self) -> Sequence[Peer[ConnectionT]] | None:
        """See relief.Loop: the questions that are there, each as the peer that asks it."""
        while True:
            if self._is_retiring and not self._is_draining:
                self._drain()
            if self._is_draining and not self._peers:
                return None
            self._look()
            if self._asking:
                count = min(MAX_BATCH, len(self._asking))
                return [self._asking.popleft() for _ in range(count)]

    def do(self, work: Sequence[Peer[ConnectionT]]) -> None:
        """See relief.Loop: answer them."""
        questions = [peer.question for peer in work if peer.question is not None]
        try:
            self._answerer.answer_each(questions)
        except Exception as error:  # noqa: BLE001 -- logged when they are told of
            for question in questions:
                question.answer = None  # of which there may be no record
                question.error = question.error or error

    def done(self, work: Sequence[Peer[ConnectionT]]) -> None:
        """See relief.Loop: send the answers."""
        now = self._clock()
        for peer in work:
            question = peer.question
            if question is not None and question.wait_for is not None:
                job, question.wait_for = question.wait_for, None
                self._wait_for(job, peer)
            elif peer.answered(now):
                self._go_on(peer)
            else:
                self._forget(peer)

    def _wait_for(self, job: Callable[[], None], peer: Peer[ConnectionT]) -> None:
        """Have the job done in a thread, and then the question asked again."""
        try:
            self._threads.run(job, partial(self._asking.append, peer))
        except NoThreadError:  # Postfix asks again, and does its default_action at last
            self._forget(peer)

    def post(self, callback: Callable[[], None]) -> None:
        """See relief.Loop."""
        self._posted.append(callback)
        self._wake_up()

    def _post(self, callback: Callable[[Callable[[], None]], None], work: Callable[[], None]) -> None:
        self.post(partial(callback, work))

    def _wake_up(self) -> None:
        with suppress(OSError):  # full: it is awake; closed: it has ended
            self._wake.outer.send(b"!")

    # -- looking around -------------------------------------------------------------------------------

    def _look(self) -> None:
        """Wait until there is something, unless questions wait for their turn, and take note of it."""
        now = self._clock()
        self._mind_listeners(now)
        ready = self._poller.poll(0 if self._asking else self._seconds_to_wait(now))
        now = self._clock()
        for descriptor, _ in ready:
            peer = self._peers.get(descriptor)
            if peer is not None:
                self._hear(peer, now)
            elif descriptor in self._listeners:
                self._accept_some(self._listeners[descriptor], now)
            else:
                with suppress(BlockingIOError):
                    self._wake.inner.recv(4096)
        while self._posted:
            self._posted.popleft()()
        if now >= self._sweep_at:
            self._sweep(now)

    def _seconds_to_wait(self, now: float) -> float | None:
        until = self._sweep_at if self._peers else inf
        if not self._is_accepting and not self._is_draining and not self._is_full:
            until = min(until, self._accept_at)
        return None if until == inf else max(0.0, until - now)

    def _hear(self, peer: Peer[ConnectionT], now: float) -> None:
        """It has sent something, or takes what it was sent."""
        if peer.question is not None:
            self._watch(peer, 0)  # more than it may ask at a time: that can wait
        elif peer.hear(now):
            self._go_on(peer)
        else:
            self._forget(peer)

    def _go_on(self, peer: Peer[ConnectionT]) -> None:
        """Have its next question answered, if it has asked one; wait for what it does next."""
        if not peer.ask():
            self._forget(peer)
        elif peer.question is not None:
            self._asking.append(peer)
        elif peer.wants != peer.watched:
            self._watch(peer, peer.wants)

    def _watch(self, peer: Peer[ConnectionT], wanted: int) -> None:
        if not peer.watched:
            self._poller.register(peer.descriptor, wanted)
        elif wanted:
            self._poller.modify(peer.descriptor, wanted)
        else:
            self._poller.unregister(peer.descriptor)
        peer.watched = wanted

    # -- connections ----------------------------------------------------------------------------------

    @property
    def _is_full(self) -> bool:
        return len(self._peers) >= self._max_connections

    @property
    def _sweep_seconds(self) -> float:
        return min(SWEEP_SECONDS, self._bounds.shortest / 4)

    def _mind_listeners(self, now: float) -> None:
        """Accept while there is a place."""
        wanted = now >= self._accept_at and not self._is_draining and not self._is_full
        if wanted == self._is_accepting:
            return
        self._is_accepting = wanted
        for descriptor in self._listeners:
            if wanted:
                self._poller.register(descriptor, READ)
            else:
                self._poller.unregister(descriptor)
        if self._is_full and now - self._said_full_at >= SAY_AGAIN_SECONDS:
            self._said_full_at = now
            self._tell_full(self._max_connections)

    def _tell_full(self, most: int) -> None:
        reason = f"all {most} connections of a worker are taken: further ones wait"
        if self._complaints.overrun(Overrun("policyd.max_connections", most, "waiting", reason)):
            log.warning("all %d connections (policyd.max_connections) are taken: further ones wait", most)

    def _accept_some(self, listener: socket.socket, now: float) -> None:
        """Those that wait, once the other workers have had their chance; a few more than there are."""
        if self._peers and not self._is_alone and not self._has_yielded:
            self._has_yielded = True
            self._accept_at = now + YIELD_SECONDS * min(len(self._peers), MOST_YIELDS)
            return
        self._has_yielded = False
        count = 1 + len(self._peers) // 4
        while count and not self._is_full and self._accept(listener, now):
            count -= 1

    def _accept(self, listener: socket.socket, now: float) -> bool:
        """One connection; False if there is none, as another worker may have taken it, or no room for it."""
        try:
            accepted, _ = listener.accept()
        except (BlockingIOError, ConnectionError, InterruptedError):
            return False
        except OSError as error:
            if self._shortages.admit("accept") is not None:
                log.error("no further connection can be accepted: %s", error.strerror)  # noqa: TRY400 -- no bug
            self._accept_at = now + self._pause_seconds
            return False
        peer = Peer(accepted, self._answerer.connection(), self._bounds, self._complaints, now)
        self._peers[peer.descriptor] = peer
        self._watch(peer, READ)
        return True

    def _forget(self, peer: Peer[ConnectionT]) -> None:
        if peer.watched:
            self._watch(peer, 0)
        self._peers.pop(peer.descriptor, None)
        peer.socket.close()

    def _sweep(self, now: float) -> None:
        self._sweep_at = now + self._sweep_seconds
        for peer in tuple(self._peers.values()):
            if peer.is_overdue(now):
                self._forget(peer)
            else:
                peer.leave_if_old(now)

    def _drain(self) -> None:
        """Let each connection find the end of what was received: it answers that, and ends.

        Who connects where no other process listens is refused at once: he waits for none of them.
        """
        self._is_draining = True
        self._mind_listeners(self._clock())
        for listener in self._listeners.values():
            listener.close()
        for peer in self._peers.values():
            peer.leave()
