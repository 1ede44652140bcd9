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
from typing import NoReturn

from mailreeve_policyd.errors import ConfigError

log = logging.getLogger(__name__)

READY = b"!"
"""Worker to parent: it serves now."""

RETIRE = b"R"
"""Parent to worker: take nothing new, finish what you hold, end. So does the end of the parent."""

REOPEN = b"O"
"""Parent to worker: open your files anew, they were rotated."""

EXIT_OVERDUE = 75
"""The worker's own deadline passed before it had finished (EX_TEMPFAIL of sysexits.h)."""

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGCHLD)
"""Those that the parent handles."""


def _nothing() -> None:
    """For a worker that has no files to reopen."""


class WorkerContext:
    """What a serving worker has of its parent.

    `serve` opens what it needs, calls `serving` once, and serves until the retire callback has told it
    to end; then it returns. `drain_seconds` is how long it has for that; then its process is killed.
    """

    def __init__(self, control: socket.socket, drain_seconds: float) -> None:
        self.drain_seconds = drain_seconds
        self._control = control

    def serving(self, on_retire: Callable[[], None], on_reopen: Callable[[], None] = _nothing) -> None:
        """Tell the parent that this worker serves; from now on it is obeyed, in a thread of its own.

        `on_retire` is called once, must not block, and also when the parent is gone. `on_reopen` is
        called whenever files were rotated. An order that was given earlier is obeyed now.
        """
        threading.Thread(target=self._obey, args=(on_retire, on_reopen), name="orders", daemon=True).start()
        try:
            self._control.sendall(READY)
        except OSError:
            log.debug("the parent is gone before this worker served")  # the thread reads its end and retires

    def _obey(self, on_retire: Callable[[], None], on_reopen: Callable[[], None]) -> None:
        while (order := self._next_order(None)) == REOPEN:
            _call(on_reopen)
        if not order:
            log.warning("the parent process is gone: finishing")
        _call(on_retire)
        deadline = time.monotonic() + self.drain_seconds
        while order and (left := deadline - time.monotonic()) > 0:
            order = self._next_order(left)
            if order == REOPEN:
                _call(on_reopen)
        threading.Event().wait(max(0.0, deadline - time.monotonic()))
        log.error("not finished after %g seconds: ending now", self.drain_seconds)
        _end(EXIT_OVERDUE)

    def _next_order(self, seconds: float | None) -> bytes:
        """One octet; empty when the parent is gone; RETIRE (already obeyed) when the time is over."""
        poller = select.poll()
        poller.register(self._control, select.POLLIN)
        if not poller.poll(None if seconds is None else int(seconds * 1000) + 1):
            return RETIRE
        try:
            return self._control.recv(1)
        except OSError:
            return b""


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


def _end(status: int) -> NoReturn:
    """Without the parent's atexit handlers, which this process inherited."""
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            continue
    os._exit(status)
