"""The parent of all workers: binds, forks, reloads, drains, restarts the dead; it serves nothing.

Both daemons run under it, each alone or both together. It knows signals, processes and listening sockets, and
nothing of mail. It starts no thread: a fork copies only the thread that forks.

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
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from math import inf
from typing import Any

from mailreeve_policyd.activation import assign
from mailreeve_policyd.bulletin import Bulletin
from mailreeve_policyd.crew import Crew, DaemonSpec, Generation, State, Worker
from mailreeve_policyd.errors import ConfigError
from mailreeve_policyd.forking import fork_worker, share_memory
from mailreeve_policyd.listen import Listener, Ownership, bind
from mailreeve_policyd.metrics_ledger import Ledger
from mailreeve_policyd.metrics_parent import ParentMetrics
from mailreeve_policyd.privileges import drop_privileges
from mailreeve_policyd.pulse import Pulse
from mailreeve_policyd.signals import STOPPING, Signals
from mailreeve_policyd.systemd import Notifier, take_sockets
from mailreeve_policyd.worker import ALIVE, READY, REOPEN, RETIRE, WORN

__all__ = ["DaemonSpec", "Generation", "run"]

log = logging.getLogger(__name__)

START_SECONDS = 60.0
"""A worker that does not serve by then is taken for dead: it may have many keys to load, but no more."""

KILL_GRACE_SECONDS = 1.0
"""What a worker has beyond its drain time, to say itself that it did not finish."""

Crews = tuple[Crew, ...]
"""One for each daemon: what one reading of the configuration came to."""


def run(*daemons: DaemonSpec[Any], ledger: Ledger | None = None) -> int:
    """Run daemons until they are told to stop. The exit status: 0, 78 (EX_CONFIG) or 1. Main thread only.

    Several have one configuration, start and reload together or not at all. A process runs daemons once and
    then ends: signals that come after it are ignored, or the exit status of a daemon that has drained would
    tell of the second SIGTERM instead. `ledger` is where all processes keep their numbers, if they are to.
    """
    notifier = Notifier.from_environment(os.environ)
    with Signals() as signals:
        return _run(daemons, signals, notifier, ledger)


def _run(
    daemons: Sequence[DaemonSpec[Any]], signals: Signals, notifier: Notifier, ledger: Ledger | None
) -> int:
    listeners: list[Listener] = []
    try:
        passed = take_sockets(os.environ)
        generations = {daemon.name: daemon.load() for daemon in daemons}
        opened = assign(passed, {name: generation.listen for name, generation in generations.items()})
        listeners.extend(listener for those in opened.values() for listener in those)
        crews = tuple(_crew(daemon, generations[daemon.name], opened, listeners) for daemon in daemons)
        drop_privileges(crews[-1].generation.account)
    except ConfigError as error:
        log.critical("%s", error)
        notifier.status(str(error))
        _close(listeners)
        return os.EX_CONFIG
    try:
        return _Supervisor(crews, signals, notifier, ParentMetrics(ledger)).run()
    finally:
        _close(listeners)


def _crew(
    daemon: DaemonSpec[Any],
    generation: Generation[Any],
    opened: dict[str, list[Listener]],
    listeners: list[Listener],
) -> Crew:
    """With the sockets that were passed, or those that are bound now and added to `listeners`."""
    own = opened.get(daemon.name, [])
    if not own:
        ownership = _ownership(generation)
        for address in generation.listen:
            own.append(bind(address, ownership))
            listeners.append(own[-1])  # at once: what is bound is closed if the next one fails
    return Crew(generation, daemon, own)


def _ownership(generation: Generation[Any]) -> Ownership:
    account, group = generation.account, generation.socket_group
    if account is None or os.geteuid() != 0:
        return Ownership(generation.socket_mode, group=group)
    return Ownership(generation.socket_mode, account.user, account.group if group < 0 else group)


def _close(listeners: Iterable[Listener]) -> None:
    for listener in listeners:
        listener.close()


def _needs_restart(first: Generation[Any], new: Generation[Any]) -> Iterator[str]:
    """What of a new configuration was settled at the start."""
    if new.listen != first.listen:
        yield "listen address"
    if new.socket_mode != first.socket_mode:
        yield "socket_mode"
    if new.socket_group != first.socket_group:
        yield "socket_group"
    if new.account != first.account:
        yield "user or group"


class _Supervisor:
    """The loop. `_current` serves; `_candidate` is a generation whose workers do not all serve yet."""

    def __init__(self, crews: Crews, signals: Signals, notifier: Notifier, metrics: ParentMetrics) -> None:
        self._first = crews
        self._workers: list[Worker] = []
        self._current: Crews = ()
        self._candidate: Crews = ()
        self._stopping = False
        self._status = 0
        self._signals = signals
        self._bulletin = Bulletin(notifier)
        self._pulse = Pulse(notifier)
        self._metrics = metrics
        signals.handle_all()
        self._start(crews)

    def run(self) -> int:
        while self._workers or not self._stopping:
            self._step()
        log.info("%s stopped", _names(self._first))
        return self._status

    # -- starting ------------------------------------------------------------------------------------

    def _start(self, crews: Crews) -> None:
        self._candidate = crews
        share_memory()
        for crew in crews:
            self._fill(crew)

    def _fill(self, crew: Crew) -> None:
        try:
            for _ in range(crew.generation.workers - len(self._active(crew))):
                self._fork(crew)
        except OSError as error:
            crew.wait_for_the_system(time.monotonic())
            log.error("no worker could be started: %s", error.strerror)  # noqa: TRY400 -- the system's trouble

    def _active(self, crew: Crew) -> list[Worker]:
        return [one for one in self._workers if one.crew is crew and one.state in _COUNTED]

    def _fork(self, crew: Crew) -> None:
        page = self._metrics.take_page()
        try:
            pid, control = fork_worker(
                crew, self._foreign_to(crew), self._signals, lambda: self._metrics.open_page(page)
            )
        except OSError:
            self._metrics.give_back(page)
            raise
        now = time.monotonic()
        self._workers.append(Worker(pid, crew, control, now, now + START_SECONDS, page=page))
        self._metrics.started(crew)

    def _foreign_to(self, crew: Crew) -> list[socket.socket]:
        """What the parent holds and a worker must not: the ways to the others, and the others' listeners."""
        others = [one for one in self._first if one.daemon is not crew.daemon]
        listening = [listener.socket for other in others for listener in other.listeners]
        return [*(one.control for one in self._workers), *listening]

    # -- one turn of the loop ------------------------------------------------------------------------

    def _step(self) -> None:
        heard_of = [one for one in self._workers if one.heard_of]
        waiting = [self._signals.socket, *(one.control for one in heard_of)]
        readable, _, _ = select.select(waiting, [], [], self._seconds_to_next_duty())
        if self._signals.socket in readable:
            self._obey(self._signals.read())
        for worker in heard_of:
            if worker.control in readable:
                self._hear(worker)
        self._reap()
        self._kill_overdue()
        self._settle()

    def _seconds_to_next_duty(self) -> float | None:
        due = min((one.deadline for one in self._workers), default=inf)
        due = min([due, *(crew.next_start for crew in self._short_of_workers())])
        if not self._stopping:
            due = min(due, self._pulse.next_beat)
        return None if due == inf else max(0.0, due - time.monotonic())

    def _short_of_workers(self) -> list[Crew]:
        crews = () if self._stopping else (*self._current, *self._candidate)
        return [crew for crew in crews if len(self._active(crew)) < crew.generation.workers]

    def _obey(self, numbers: set[int]) -> None:
        if numbers & STOPPING:
            self._stop()
        if signal.SIGHUP in numbers and not self._stopping:
            self._reload()
        if signal.SIGUSR1 in numbers:
            for worker in self._workers:
                worker.tell(REOPEN)

    def _hear(self, worker: Worker) -> None:
        try:
            words = worker.control.recv(64)
        except OSError:
            words = b""
        if not words:
            worker.heard_of = False  # its end is closed; that it died is told by waitpid
        now = time.monotonic()
        if READY in words and worker.state is State.STARTING:
            worker.state, worker.deadline, worker.answered_at = State.SERVING, inf, now
        if ALIVE in words:
            worker.asked_at, worker.answered_at = None, now
        if WORN in words and worker.state is State.SERVING:
            worker.state = State.WORN

    def _settle(self) -> None:
        """Give the candidates their office when all their workers serve; replace the dead when it is time."""
        if self._stopping:
            return
        if self._candidate and all(map(self._all_serve, self._candidate)):
            self._promote(self._candidate)
        now = time.monotonic()
        for crew in self._short_of_workers():
            if crew.next_start <= now:
                self._fill(crew)
        for crew in (*self._current, *self._candidate):
            self._retire(self._replaced(crew))
        self._pulse.beat(now, self._workers, self._current)
        self._metrics.look(now, self._workers, self._current)
        if not self._candidate:
            self._bulletin.tell(self._serving(), self._current)

    def _all_serve(self, crew: Crew) -> bool:
        serving = [one for one in self._active(crew) if one.state is State.SERVING]
        return len(serving) == crew.generation.workers

    def _replaced(self, crew: Crew) -> list[Worker]:
        """The worn in whose places others serve, the oldest first."""
        worn = [one for one in self._workers if one.crew is crew and one.state is State.WORN]
        serving = [one for one in self._active(crew) if one.state is State.SERVING]
        return worn[: max(0, len(worn) + len(serving) - crew.generation.workers)]

    def _serving(self) -> int:
        return sum(one.serves and one.crew.daemon.is_vital for one in self._workers)

    def _promote(self, crews: Crews) -> None:
        self._metrics.loaded(is_reload=bool(self._current))
        doing = "serves with the new configuration at" if self._current else "listens at"
        self._current, self._candidate = crews, ()
        for crew in crews:
            crew.has_served = True
            where = ", ".join(str(listener.address) for listener in crew.listeners)
            count = crew.generation.workers
            log.info("%s %s %s with %d worker%s", crew.daemon.name, doing, where, count, "s" * (count != 1))
        self._retire(one for one in self._workers if one.crew not in crews)
        self._pulse.hurry()
        self._bulletin.loaded(self._serving(), crews)

    # -- reloading and stopping ----------------------------------------------------------------------

    def _reload(self) -> None:
        log.info("reading the configuration anew")
        self._bulletin.loading()
        try:
            new = tuple(Crew(old.daemon.load(), old.daemon, old.listeners) for old in self._first)
        except ConfigError as error:
            log.error("%s\nthe old configuration stays in force", error)  # noqa: TRY400 -- no bug: no traceback
            self._metrics.not_loaded()
            self._bulletin.not_loaded(str(error))
            return
        except Exception:
            log.exception("the configuration could not be read: a bug; the old one stays in force")
            self._metrics.not_loaded()
            self._bulletin.not_loaded("a bug")
            return
        for old, crew in zip(self._first, new, strict=True):
            for what in _needs_restart(old.generation, crew.generation):
                log.warning("a changed %s takes effect at the next restart", what)
        self._retire_crews(self._candidate)
        self._start(new)

    def _stop(self) -> None:
        if self._stopping:
            log.warning("stopping at once")
            self._kill(self._workers)
            return
        log.info("stopping: finishing what is under way")
        self._bulletin.stopping()
        self._stopping = True
        for crew in self._first:
            _close(crew.listeners)
        self._retire(self._workers)

    def _retire_crews(self, crews: Crews) -> None:
        """All their workers, also those that are worn already and still serve."""
        self._retire(one for one in self._workers if one.crew in crews)

    def _retire(self, workers: Iterable[Worker]) -> None:
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
        hung = [] if self._stopping else self._pulse.hung(now, self._workers)
        for worker in hung:
            bound = worker.crew.generation.hung_after_seconds
            log.error("worker %d has not answered for %g seconds: killed", worker.pid, bound)
        self._kill([*overdue, *hung])

    def _kill(self, workers: Iterable[Worker]) -> None:
        for worker in workers:
            worker.deadline, worker.asked_at = inf, None
            with suppress(ProcessLookupError):
                os.kill(worker.pid, signal.SIGKILL)

    def _reap(self) -> None:
        for worker in list(self._workers):
            pid, wait_status = os.waitpid(worker.pid, os.WNOHANG)
            if pid == 0:
                continue
            self._workers.remove(worker)
            worker.control.close()
            self._metrics.give_back(worker.page)
            if worker.state is not State.RETIRING:
                self._mourn(worker, os.waitstatus_to_exitcode(wait_status))
            elif worker.crew.has_served and not self._stopping:
                self._say_retired(worker)

    def _say_retired(self, worker: Worker) -> None:
        if worker.crew in self._current:
            log.info("worker %d has ended, another took its place", worker.pid)
        elif all(one.crew in self._current for one in self._workers):
            log.info("the last worker with the old configuration has ended")

    def _mourn(self, worker: Worker, code: int) -> None:
        """A worker ended that should have gone on. `code` is its exit status, or minus its signal."""
        self._metrics.died(worker.crew)
        how = f"exit status {code}" if code >= 0 else f"signal {-code}"
        if worker.crew in self._candidate:
            self._abandon(worker.crew, code, how)
            return
        now = time.monotonic()
        delay = worker.crew.delay_after_death(now - worker.started, now)
        log.error("worker %d died (%s): replaced in %g seconds", worker.pid, how, delay)

    def _abandon(self, failed: Crew, code: int, how: str) -> None:
        candidates, self._candidate = self._candidate, ()
        if self._current:
            log.error("no worker starts with the new configuration (%s): the old one stays in force", how)
            self._metrics.not_loaded()
            self._bulletin.not_loaded(f"no worker starts ({how})")
            self._retire_crews(candidates)
            return
        log.critical("%s cannot start (%s)", failed.daemon.name, how)
        self._status = code if code == os.EX_CONFIG else 1
        self._stop()


_COUNTED = (State.STARTING, State.SERVING)
"""Workers of these states are what a crew has; the others are on their way out."""


def _names(crews: Crews) -> str:
    return " and ".join(crew.daemon.name for crew in crews)
