"""The native engine: an event loop that moves octets between MTAs and their Exchanges.

Knows sockets, threads and time; knows no packet and no mail. The loop does what need not wait itself; what
has to wait it gives to threads, so that a message that waits for DNS holds up no other.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import cast

import uvloop

from mailreeve_milter.acceptor import Acceptor
from mailreeve_milter.exchange import Exchange, Job
from mailreeve_milter.failure import may_tell
from mailreeve_milter.outcome_packets import PROGRESS_PACKET
from mailreeve_milter.surroundings import Surroundings
from mailreeve_policyd.audit_bound import Overrun, connected_peer
from mailreeve_policyd.errors import BoundError, ProtocolError
from mailreeve_policyd.threads import NoThreadError, Threads
from mailreeve_policyd.worker import WorkerContext

log = logging.getLogger(__name__)

SWEEP_SECONDS = 10.0
"""How often an MTA hears that its message is still being looked at. Postfix waits 30 seconds in the worst
case (milter_command_timeout), and for the end of a message 300."""


@dataclass(frozen=True, slots=True)
class _Overdone:
    """By what an MTA went beyond a bound."""

    bound: str
    maximum: float
    problem: str


class Link(asyncio.Protocol):
    """A connection of an MTA. All methods run in the loop's thread; only jobs do not."""

    __slots__ = (
        "_exchange",
        "_has_failed",
        "_is_busy",
        "_is_paused",
        "_is_stuck",
        "_packet",
        "_packet_sweeps",
        "_quiet_sweeps",
        "_server",
        "_sweeps",
        "_transport",
    )

    def __init__(self, server: MilterServer) -> None:
        self._server = server
        self._exchange = Exchange(server.surroundings)
        self._transport: asyncio.Transport | None = None
        self._has_failed = False
        self._is_busy = False
        self._is_stuck = False
        self._is_paused = False
        self._quiet_sweeps = 0
        self._sweeps = 0
        self._packet: int | None = None
        self._packet_sweeps = 0

    # -- what the loop calls --------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast(asyncio.Transport, transport)  # as a stream's is; uvloop's has no such base
        if self._server.is_on_network:
            _prepare(transport.get_extra_info("socket"))
        self._server.links.add(self)

    def data_received(self, data: bytes) -> None:
        """Octets; while they cannot be looked at, no more than these are taken."""
        self._quiet_sweeps = 0
        self._exchange.receive(data)
        if self._is_busy or self._is_stuck:
            self._pause()
        else:
            self._advance()

    def pause_writing(self) -> None:
        """The MTA does not take its answers: it gets no more until it does."""
        self._is_stuck = True

    def resume_writing(self) -> None:
        """It does again."""
        self._is_stuck = False
        self._go_on()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 -- nothing is to be said of it
        """The end; a job that is under way finishes first."""
        self._transport = None
        if not self._is_busy:
            self._end()

    # -- the work -------------------------------------------------------------------------------------

    def _advance(self) -> None:
        """Go through what was received, as far as it goes at once."""
        try:
            job = self._exchange.advance()
        except BoundError as error:
            self._disconnect(_Overdone(error.bound, error.maximum, f"sent {error}"))
            return
        except ProtocolError as error:
            if may_tell(self._server.surroundings.breaches):
                log.warning("an MTA was disconnected: %s", error)
            self.abort()
            return
        except Exception:
            log.exception("an MTA was disconnected: this is a bug")
            self.abort()
            return
        self._send(self._exchange.take_output())
        if job is not None:
            self._give_away(job)
        elif self._exchange.is_over and self._transport is not None:
            self._transport.close()

    def _give_away(self, job: Job) -> None:
        """To a thread."""
        try:
            self._server.threads.run(partial(self._work, job), self._finished)
            self._is_busy = True
        except NoThreadError:  # the MTA does its milter_default_action
            self.abort()

    def _work(self, job: Job) -> None:
        """In a thread: do it."""
        try:
            job()
        except Exception:
            log.exception("a message was not answered: this is a bug")
            self._has_failed = True

    def _finished(self) -> None:
        """The job is done."""
        self._is_busy = False
        if self._transport is None:
            self._end()
        elif self._has_failed:
            self.abort()
        else:
            self._send(self._exchange.take_output())
            self._go_on()

    def _end(self) -> None:
        self._exchange.close()
        self._server.forget(self)

    @property
    def _is_free(self) -> bool:
        return not (self._is_busy or self._is_stuck or self._transport is None)

    def _go_on(self) -> None:
        if not self._is_free:
            return
        self._advance()
        if self._is_paused and self._is_free:
            self._resume()

    def _send(self, octets: bytes) -> None:
        if octets and self._transport is not None:
            self._transport.write(octets)

    def _pause(self) -> None:
        if not self._is_paused and self._transport is not None:
            self._is_paused = True
            self._transport.pause_reading()

    def _resume(self) -> None:
        if self._transport is not None:
            self._is_paused = False
            self._transport.resume_reading()

    # -- time -----------------------------------------------------------------------------------------

    def sweep(self) -> None:
        """Called again and again: see SWEEP_SECONDS."""
        self._quiet_sweeps += 1
        self._sweeps += 1
        if self._is_busy:
            if self._exchange.ends_message and not self._is_stuck and self._quiet_sweeps > 1:
                self._send(PROGRESS_PACKET)
            return
        self._follow_packet()
        if (overdone := self._overdue()) is not None:
            self._disconnect(overdone)

    def _follow_packet(self) -> None:
        """How long is it at the same packet, or at the same answer?"""
        packet = -1 if self._is_stuck else self._exchange.unfinished_packet
        self._packet_sweeps = self._packet_sweeps + 1 if packet is not None and packet == self._packet else 0
        self._packet = packet

    def _overdue(self) -> _Overdone | None:
        """What it has not done in time."""
        bounds, seconds = self._server.surroundings.bounds, self._server.sweep_seconds
        if self._packet_sweeps * seconds > (most := bounds.packet_seconds):
            what = "take its answer" if self._is_stuck else "send a whole packet"
            return _Overdone("milter.packet_timeout_seconds", most, f"did not {what} in {most:g} seconds")
        if self._quiet_sweeps * seconds > (most := bounds.idle_seconds):
            return _Overdone("milter.idle_timeout_seconds", most, f"said nothing for {most:g} seconds")
        if self._sweeps * seconds > (most := bounds.total_seconds):
            return _Overdone("milter.total_timeout_seconds", most, f"stayed longer than {most:g} seconds")
        return None

    def _disconnect(self, overdone: _Overdone) -> None:
        """Close, and tell of it in record and log, unless they have told enough."""
        transport, exchange = self._transport, self._exchange
        peer = connected_peer(transport.get_extra_info("socket")) if transport is not None else None
        told = self._server.surroundings.audit.overrun(
            Overrun(
                overdone.bound,
                overdone.maximum,
                "closed",
                f"it {overdone.problem}",
                peer,
                exchange.client,
                exchange.queue_id,
            )
        )
        if told:
            log.warning("an MTA was disconnected: it %s", overdone.problem)
        self.abort()

    def abort(self) -> None:
        """Close, and send no more."""
        if self._transport is not None:
            self._transport.abort()


def _prepare(peer: socket.socket) -> None:
    """A connection over TCP."""
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)  # an MTA's machine may vanish


class MilterServer:
    """Serves a listening socket, until it is retired and the last connection has ended."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        surroundings: Surroundings,
        sweep_seconds: float | None = None,
    ) -> None:
        self.surroundings = surroundings
        self.sweep_seconds = sweep_seconds or min(SWEEP_SECONDS, surroundings.bounds.shortest / 4)
        self.links: set[Link] = set()
        self.is_on_network = False
        self._loop = loop
        self.threads = Threads("milter", surroundings.bounds.most_waiting, loop.call_soon_threadsafe)
        self._acceptor: Acceptor | None = None
        self._is_retired = False

    def listen(self, listener: socket.socket) -> None:
        """Accept connections, from when the loop runs."""
        self.is_on_network = listener.family != socket.AF_UNIX
        most = self.surroundings.bounds.most
        self._acceptor = Acceptor(self._loop, listener, self._link, most, self._tell_full)
        self._loop.call_later(self.sweep_seconds, self._sweep)

    def _tell_full(self) -> None:
        most = self.surroundings.bounds.most
        reason = f"all {most} connections of a worker are taken: further ones wait"
        if self.surroundings.audit.overrun(Overrun("milter.max_connections", most, "waiting", reason)):
            log.warning("all %d connections (milter.max_connections) are taken: further ones wait", most)

    def _link(self) -> Link:
        return Link(self)

    def retire(self) -> None:
        """Take no new connection; `links` go on to their end, and then the loop stops."""
        if self._acceptor is not None:
            self._acceptor.close()
        self._is_retired = True
        self._stop_if_done()

    def _stop_if_done(self) -> None:
        if not self._is_retired or self.links:
            return
        if self._acceptor is None or self._acceptor.is_idle:
            self._loop.stop()
        else:  # a connection was accepted, and its link does not know yet
            self._loop.call_soon(self._stop_if_done)

    def forget(self, link: Link) -> None:
        """A connection has ended."""
        self.links.discard(link)
        if self._acceptor is not None:
            self._acceptor.release()
        self._stop_if_done()

    def _sweep(self) -> None:
        for link in tuple(self.links):
            link.sweep()
        self._loop.call_later(self.sweep_seconds, self._sweep)


def serve(context: WorkerContext, surroundings: Surroundings, listener: socket.socket) -> None:
    """Serve connections of `listener` until the parent retires this worker and its mail is finished."""
    loop = uvloop.new_event_loop()
    server = MilterServer(loop, surroundings)
    server.listen(listener)
    surroundings.never_wait_in(threading.get_ident())
    context.serving(lambda: _post(loop, server.retire), surroundings.audit.reopen, partial(_post, loop))
    loop.run_forever()


def _post(loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> None:
    loop.call_soon_threadsafe(callback)
