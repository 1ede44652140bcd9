"""The child's side of the supervisor: what a worker process hears from its parent and how it ends.

A worker obeys its parent alone. Signals are the parent's: a worker ignores them, because a library may
wait in C where no Python handler runs, and because Ctrl-C or a service manager may send them to all
processes of the daemon at once. Orders come over a socket instead, one octet each, to a helper thread.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NoReturn

from mailreeve_policyd.errors import ConfigError
from mailreeve_policyd.metrics_ledger import Tally

log = logging.getLogger(__name__)

READY = b"!"
"""Worker to parent: it serves now."""

ALIVE = b"."
"""Worker to parent: its loop has come round since it was asked."""

WORN = b"W"
"""Worker to parent: another should take its place. It goes on until it is told to retire."""

RETIRE = b"R"
"""Parent to worker: take nothing new, finish what you hold, end. So does the end of the parent."""

REOPEN = b"O"
"""Parent to worker: open your files anew, they were rotated."""

ASK = b"?"
"""Parent to worker: are you there?"""

WEAR_SECONDS = 1.0
"""How often a worker looks what it has done and how much memory it takes."""

EXIT_OVERDUE = 75
"""The worker's own deadline passed before it had finished (EX_TEMPFAIL of sysexits.h)."""

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGCHLD)
"""Those that the parent handles."""

ThroughLoop = Callable[[Callable[[], None]], None]
"""Has its argument called soon by what serves: from any thread."""


@dataclass(frozen=True, slots=True)
class Wear:
    """When a worker has done enough: it has answered so much, or its memory (RSS) is so large; 0 is never."""

    most_served: int = 0
    most_memory_bytes: int = 0


NEVER_WORN = Wear()


def _nothing() -> None:
    """For a worker that has no files to reopen."""


def _at_once(callback: Callable[[], None]) -> None:
    """For a worker without a loop of its own: that any of its threads runs is all that can be known."""
    callback()


class WorkerContext:
    """What a serving worker has of its parent.

    `serve` opens what it needs, calls `serving` once, and serves until the retire callback has told it
    to end; then it returns. `drain_seconds` is how long it has for that; then its process is killed.
    `tally` is where it counts what it does, if it is to.
    """

    def __init__(
        self,
        control: socket.socket,
        drain_seconds: float,
        wear: Wear = NEVER_WORN,
        tally: Tally | None = None,
    ) -> None:
        self.drain_seconds = drain_seconds
        self.tally = tally
        self._control = control
        self._wear = wear
        self._served: Callable[[], int] = lambda: 0
        self._looks_at_wear = False
        self._ends_at: float | None = None

    @property
    def seconds_left(self) -> float:
        """Of the time to drain; all of it before the worker was told to retire."""
        return self.drain_seconds if self._ends_at is None else max(0.0, self._ends_at - time.monotonic())

    def count_by(self, served: Callable[[], int]) -> None:
        """How many requests or messages this worker has answered; asked now and then, from another thread."""
        self._served = served

    def serving(
        self,
        on_retire: Callable[[], None],
        on_reopen: Callable[[], None] = _nothing,
        through_loop: ThroughLoop = _at_once,
    ) -> None:
        """Tell the parent that this worker serves; from now on it is obeyed, in a thread of its own.

        `on_retire` is called once, must not block, and also when the parent is gone. `on_reopen` is
        called whenever files were rotated. Whether the worker is there is answered `through_loop`. An order
        that was given earlier is obeyed now.
        """
        self._looks_at_wear = self._may_wear()
        orders = partial(self._obey, on_retire, on_reopen, through_loop)
        threading.Thread(target=orders, name="orders", daemon=True).start()
        if not self._tell(READY):
            log.debug("the parent is gone before this worker served")  # the thread reads its end and retires

    def _tell(self, word: bytes) -> bool:
        try:
            self._control.send(word, socket.MSG_DONTWAIT)
        except OSError:
            return False
        return True

    def _obey(
        self, on_retire: Callable[[], None], on_reopen: Callable[[], None], through_loop: ThroughLoop
    ) -> None:
        order = self._await_the_end(on_reopen, through_loop)
        if not order:
            log.warning("the parent process is gone: finishing")
        self._ends_at = deadline = time.monotonic() + self.drain_seconds
        _call(on_retire)
        while order and (left := deadline - time.monotonic()) > 0:
            order = self._next_order(left) or RETIRE
            if order == REOPEN:
                _call(on_reopen)
        threading.Event().wait(max(0.0, deadline - time.monotonic()))
        log.error("not finished after %g seconds: ending now", self.drain_seconds)
        _end(EXIT_OVERDUE)

    def _await_the_end(self, on_reopen: Callable[[], None], through_loop: ThroughLoop) -> bytes:
        """Obey until told to retire, or empty: the parent is gone."""
        while True:
            order = self._next_order(WEAR_SECONDS if self._looks_at_wear else None)
            if order is None:
                self._look_at_wear()
            elif order == REOPEN:
                _call(on_reopen)
            elif order == ASK:
                _call(lambda: through_loop(self._say_alive))
            else:
                return order

    def _say_alive(self) -> None:
        self._tell(ALIVE)

    def _next_order(self, seconds: float | None) -> bytes | None:
        """One octet; empty when the parent is gone; None when the time is over."""
        poller = select.poll()
        poller.register(self._control, select.POLLIN)
        if not poller.poll(None if seconds is None else int(seconds * 1000) + 1):
            return None
        try:
            return self._control.recv(1)
        except OSError:
            return b""

    # -- wear ----------------------------------------------------------------------------------------

    def _may_wear(self) -> bool:
        """Who takes more memory than it may before it has done anything would be replaced for ever."""
        most = self._wear.most_memory_bytes
        if most and (taken := memory_bytes()) > most:
            log.warning(
                "a worker takes %d MB from the start, max_worker_memory_mb is %d: not replaced for that",
                taken >> 20,
                most >> 20,
            )
            self._wear = Wear(self._wear.most_served)
        return self._wear != NEVER_WORN

    def _look_at_wear(self) -> None:
        served, taken = self._served(), memory_bytes()
        if 0 < self._wear.most_served <= served:
            log.info("this worker has answered %d times: another takes its place", served)
        elif 0 < self._wear.most_memory_bytes < taken:
            log.warning("this worker takes %d MB of memory: another takes its place", taken >> 20)
        else:
            return
        self._looks_at_wear = False
        self._tell(WORN)


def memory_bytes() -> int:
    """What this process takes of the machine's memory (RSS); 0 where the system does not say."""
    try:
        pages = Path("/proc/self/statm").read_bytes().split()[1]  # proc(5): resident
    except (OSError, IndexError):
        return 0
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def _call(callback: Callable[[], None]) -> None:
    try:
        callback()
    except Exception:
        log.exception("a worker could not carry out its parent's order")


def run_worker(serve: Callable[[], None]) -> NoReturn:
    """Be a worker, right after the fork and with the parent's signals blocked: serve, then end the process.

    The exit status is 0, or 78 after a ConfigError (EX_CONFIG), or 1 after a bug.
    """
    status = 1
    try:
        _leave_signals_to_the_parent()
        _leave_the_terminal_to_the_parent()
        serve()
        status = 0
    except ConfigError as error:
        log.critical("%s", error)
        status = os.EX_CONFIG
    except BaseException:
        log.critical("a worker ends: this is a bug", exc_info=True)
    finally:
        _end(status)


def _leave_signals_to_the_parent() -> None:
    signal.set_wakeup_fd(-1)
    for number in SIGNALS:
        signal.signal(number, signal.SIG_DFL if number is signal.SIGCHLD else signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


def _leave_the_terminal_to_the_parent() -> None:
    """In a terminal, Ctrl-C and Ctrl-Z are for the foreground's process group: the parent's alone.

    Elsewhere all stay in one group: who started the daemon may want to end it with all that it started.
    """
    if not any(os.isatty(descriptor) for descriptor in range(3)):
        return
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)  # `stty tostop` would stop who writes from the background
    with suppress(OSError):  # it leads a session
        os.setpgid(0, 0)


def _end(status: int) -> NoReturn:
    """Without the parent's atexit handlers, which this process inherited."""
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            continue
    os._exit(status)
