"""The parent of a daemon's workers: binds, forks, reloads, drains, restarts the dead; it serves nothing.

Both daemons run under it. It knows signals, processes and listening sockets, and nothing of mail. It
starts no thread: a fork copies only the thread that forks.

    SIGTERM, SIGINT   drain and end with 0; a second one ends at once
    SIGHUP            load anew; new workers serve with it, then the old ones drain and end
    SIGUSR1           workers open their files anew
"""

from __future__ import annotations

import logging
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from math import inf
from typing import Generic, TypeVar

from mailreeve_policyd.crew import Crew, Generation, State, Worker
from mailreeve_policyd.errors import ConfigError
from mailreeve_policyd.listen import Listener, Ownership, bind
from mailreeve_policyd.privileges import drop_privileges
from mailreeve_policyd.signals import STOPPING, Signals
from mailreeve_policyd.worker import READY, REOPEN, RETIRE, SIGNALS, WorkerContext, run_worker

__all__ = ["DaemonSpec", "Generation", "run"]

log = logging.getLogger(__name__)

START_SECONDS = 60.0
"""A worker that does not serve by then is taken for dead: it may have many keys to load, but no more."""

KILL_GRACE_SECONDS = 1.0
"""What a worker has beyond its drain time, to say itself that it did not finish."""

LoadedT = TypeVar("LoadedT")


@dataclass(frozen=True, slots=True)
class DaemonSpec(Generic[LoadedT]):
    """A daemon. `load` raises ConfigError, opens nothing that must not be shared by forked processes.

    `serve` runs in a worker with the listening, non-blocking sockets in the order of `listen`; see
    WorkerContext for what it owes.
    """

    name: str
    load: Callable[[], Generation[LoadedT]]
    serve: Callable[[WorkerContext, LoadedT, Sequence[socket.socket]], None]


def run(daemon: DaemonSpec[LoadedT]) -> int:
    """Run a daemon until it is told to stop. The exit status: 0, 78 (EX_CONFIG) or 1. Main thread only.

    A process runs one daemon and then ends: signals that come after it are ignored, or the exit status of a
    daemon that has drained would tell of the second SIGTERM instead.
    """
    with Signals() as signals:
        return _run(daemon, signals)


def _run(daemon: DaemonSpec[LoadedT], signals: Signals) -> int:
    listeners: list[Listener] = []
    try:
        generation = daemon.load()
        ownership = _ownership(generation)
        for address in generation.listen:
            listeners.append(bind(address, ownership))  # noqa: PERF401 -- what is bound is closed if one fails
        drop_privileges(generation.account)
    except ConfigError as error:
        log.critical("%s", error)
        _close(listeners)
        return os.EX_CONFIG
    try:
        return _Supervisor(daemon, generation, listeners, signals).run()
    finally:
        _close(listeners)


def _ownership(generation: Generation[LoadedT]) -> Ownership:
    account = generation.account
    if account is None or os.geteuid() != 0:
        return Ownership(generation.socket_mode)
    return Ownership(generation.socket_mode, account.user, account.group)


def _close(listeners: list[Listener]) -> None:
    for listener in listeners:
        listener.close()
    listeners.clear()


def _needs_restart(first: Generation[LoadedT], new: Generation[LoadedT]) -> Iterator[str]:
    """What of a new configuration was settled at the start."""
    if new.listen != first.listen:
        yield "listen address"
    if new.socket_mode != first.socket_mode:
        yield "socket_mode"
    if new.account != first.account:
        yield "user or group"


class _Supervisor(Generic[LoadedT]):
    """The loop. `_current` serves; `_candidate` is a generation whose workers do not all serve yet."""

    def __init__(
        self,
        daemon: DaemonSpec[LoadedT],
        generation: Generation[LoadedT],
        listeners: list[Listener],
        signals: Signals,
    ) -> None:
        self._daemon = daemon
        self._first = generation
        self._listeners = listeners
        self._workers: list[Worker[LoadedT]] = []
        self._current: Crew[LoadedT] | None = None
        self._candidate: Crew[LoadedT] | None = None
        self._stopping = False
        self._status = 0
        self._signals = signals
        signals.handle_all()
        self._start(Crew(generation))

    def run(self) -> int:
        while self._workers or not self._stopping:
            self._step()
        log.info("%s stopped", self._daemon.name)
        return self._status

    # -- starting ------------------------------------------------------------------------------------

    def _start(self, crew: Crew[LoadedT]) -> None:
        self._candidate = crew
        self._fill(crew)

    def _fill(self, crew: Crew[LoadedT]) -> None:
        try:
            for _ in range(crew.generation.workers - len(self._active(crew))):
                self._fork(crew)
        except OSError as error:
            crew.wait_for_the_system(time.monotonic())
            log.error("no worker could be started: %s", error.strerror)  # noqa: TRY400 -- the system's trouble

    def _active(self, crew: Crew[LoadedT]) -> list[Worker[LoadedT]]:
        return [one for one in self._workers if one.crew is crew and one.state is not State.RETIRING]

    def _fork(self, crew: Crew[LoadedT]) -> None:
        ours, theirs = socket.socketpair()
        sys.stdout.flush()
        sys.stderr.flush()
        # A signal that comes before the child has its own mind about signals would wake the parent.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        try:
            pid = os.fork()
            if pid == 0:
                self._be_worker(crew, ours, theirs)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            theirs.close()
        now = time.monotonic()
        self._workers.append(Worker(pid, crew, ours, now, now + START_SECONDS))

    def _be_worker(self, crew: Crew[LoadedT], ours: socket.socket, theirs: socket.socket) -> None:
        def serve() -> None:
            # Copies of the parent's ends would hide the parent's death from the other workers.
            for inherited in (ours, *(one.control for one in self._workers)):
                inherited.close()
            self._signals.close()
            context = WorkerContext(theirs, crew.generation.drain_seconds)
            sockets = [listener.socket for listener in self._listeners]
            self._daemon.serve(context, crew.generation.loaded, sockets)

        run_worker(serve)

    # -- one turn of the loop ------------------------------------------------------------------------

    def _step(self) -> None:
        starting = [one for one in self._workers if one.state is State.STARTING and one.heard_of]
        waiting = [self._signals.socket, *(one.control for one in starting)]
        readable, _, _ = select.select(waiting, [], [], self._seconds_to_next_duty())
        if self._signals.socket in readable:
            self._obey(self._signals.read())
        for worker in starting:
            if worker.control in readable:
                self._hear(worker)
        self._reap()
        self._kill_overdue()
        self._settle()

    def _seconds_to_next_duty(self) -> float | None:
        due = min((one.deadline for one in self._workers), default=inf)
        due = min([due, *(crew.next_start for crew in self._short_of_workers())])
        return None if due == inf else max(0.0, due - time.monotonic())

    def _short_of_workers(self) -> list[Crew[LoadedT]]:
        crews = () if self._stopping else (self._current, self._candidate)
        return [crew for crew in crews if crew and len(self._active(crew)) < crew.generation.workers]

    def _obey(self, numbers: set[int]) -> None:
        if numbers & STOPPING:
            self._stop()
        if signal.SIGHUP in numbers and not self._stopping:
            self._reload()
        if signal.SIGUSR1 in numbers:
            for worker in self._workers:
                worker.tell(REOPEN)

    def _hear(self, worker: Worker[LoadedT]) -> None:
        with suppress(OSError):
            if worker.control.recv(1) == READY:
                worker.state, worker.deadline = State.SERVING, inf
                return
        worker.heard_of = False  # its end is closed; that it died is told by waitpid

    def _settle(self) -> None:
        """Give the candidate its office when all its workers serve; replace the dead when it is time."""
        if self._stopping:
            return
        if self._candidate and self._all_serve(self._candidate):
            self._promote(self._candidate)
        now = time.monotonic()
        for crew in self._short_of_workers():
            if crew.next_start <= now:
                self._fill(crew)

    def _all_serve(self, crew: Crew[LoadedT]) -> bool:
        serving = [one for one in self._active(crew) if one.state is State.SERVING]
        return len(serving) == crew.generation.workers

    def _promote(self, crew: Crew[LoadedT]) -> None:
        first = self._current is None
        self._current, self._candidate = crew, None
        crew.has_served = True
        where = ", ".join(str(listener.address) for listener in self._listeners)
        count = crew.generation.workers
        doing = "listens at" if first else "serves with the new configuration at"
        log.info("%s %s %s with %d worker%s", self._daemon.name, doing, where, count, "s" * (count != 1))
        self._retire(one for one in self._workers if one.crew is not crew)

    # -- reloading and stopping ----------------------------------------------------------------------

    def _reload(self) -> None:
        log.info("reading the configuration anew")
        try:
            generation = self._daemon.load()
        except ConfigError as error:
            log.error("%s\nthe old configuration stays in force", error)  # noqa: TRY400 -- no bug: no traceback
            return
        except Exception:
            log.exception("the configuration could not be read: a bug; the old one stays in force")
            return
        for what in _needs_restart(self._first, generation):
            log.warning("a changed %s takes effect at the next restart", what)
        if self._candidate:
            self._retire(self._active(self._candidate))
        self._candidate = Crew(generation)
        self._fill(self._candidate)

    def _stop(self) -> None:
        if self._stopping:
            log.warning("stopping at once")
            self._kill(self._workers)
            return
        log.info("stopping: finishing what is under way")
        self._stopping = True
        _close(self._listeners)
        self._retire(self._workers)

    def _retire(self, workers: Iterable[Worker[LoadedT]]) -> None:
        for worker in workers:
            if worker.state is State.RETIRING:
                continue
            drain = worker.crew.generation.drain_seconds + KILL_GRACE_SECONDS
            worker.state, worker.deadline = State.RETIRING, time.monotonic() + drain
            worker.tell(RETIRE)

    # -- the dead ------------------------------------------------------------------------------------

    def _kill_overdue(self) -> None:
        now = time.monotonic()
        overdue = [one for one in self._workers if one.deadline <= now]
        for worker in overdue:
            log.error("worker %d is %s for too long: killed", worker.pid, worker.state.value)
        self._kill(overdue)

    def _kill(self, workers: Iterable[Worker[LoadedT]]) -> None:
        for worker in workers:
            worker.deadline = inf
            with suppress(ProcessLookupError):
                os.kill(worker.pid, signal.SIGKILL)

    def _reap(self) -> None:
        for worker in list(self._workers):
            pid, wait_status = os.waitpid(worker.pid, os.WNOHANG)
            if pid == 0:
                continue
            self._workers.remove(worker)
            worker.control.close()
            if worker.state is not State.RETIRING:
                self._mourn(worker, os.waitstatus_to_exitcode(wait_status))
            elif worker.crew.has_served and not self._stopping:
                self._say_reloaded()

    def _say_reloaded(self) -> None:
        if all(one.crew is self._current for one in self._workers):
            log.info("the last worker with the old configuration has ended")

    def _mourn(self, worker: Worker[LoadedT], code: int) -> None:
        """A worker ended that should have gone on. `code` is its exit status, or minus its signal."""
        how = f"exit status {code}" if code >= 0 else f"signal {-code}"
        if worker.crew is self._candidate:
            self._abandon(worker.crew, code, how)
            return
        now = time.monotonic()
        delay = worker.crew.delay_after_death(now - worker.started, now)
        log.error("worker %d died (%s): replaced in %g seconds", worker.pid, how, delay)

    def _abandon(self, crew: Crew[LoadedT], code: int, how: str) -> None:
        self._candidate = None
        if self._current is not None:
            log.error("no worker starts with the new configuration (%s): the old one stays in force", how)
            self._retire(self._active(crew))
            return
        log.critical("%s cannot start (%s)", self._daemon.name, how)
        self._status = code if code == os.EX_CONFIG else 1
        self._stop()
