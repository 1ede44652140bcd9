"""The embedded limit store: one SQLite file that all workers of both daemons on a machine share.

Knows when and how its file is opened, locked and written; what lies in it is limits_sqlite_batch.py's. Keeps
the promises of DESIGN.md section 5 by a write transaction (BEGIN IMMEDIATE), in which the clock is read too:
so moments never run backwards between processes.

A process has one connection, opened at the first call after a fork, and its threads queue for it. SQLite
has one writer at a time whatever the number of connections, and its own way to wait for the lock is to
sleep and look again. Whoever comes first answers all that have come by then in one transaction: to begin
and to commit cost more than to count, and a busy process shares both (measured: a third of the CPU a call
at 8 connections).
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from mailreeve_policyd.errors import StoreError
from mailreeve_policyd.limits import Charge, Charged, Usage
from mailreeve_policyd.limits_sqlite_batch import Batch
from mailreeve_policyd.limits_sqlite_file import (
    BUSY_SECONDS,
    LOOK_AGAIN_AT_MOST_SECONDS,
    LOOK_AGAIN_SECONDS,
    Sweep,
    open_file,
)
from mailreeve_policyd.limits_sqlite_rows import Known
from mailreeve_policyd.limits_window import MICROSECONDS, microseconds

PRIMARY_CODE = 0xFF
"""SQLite's extended result codes say more in the higher bits."""

MAX_BATCH = 64
"""Calls of one transaction: it lasts a few milliseconds, for which other processes wait."""


class SqliteStore:
    """A LimitStore in the file `path`, which is made at the first call, readable by its owner alone.

    `clock` gives seconds since the epoch. Errors of SQLite and of the file system, a full disk and a
    damaged file among them, are StoreError; the next call opens the file anew.
    """

    def __init__(
        self, path: Path, clock: Callable[[], float] = time.time, remember_seconds: int = 3600
    ) -> None:
        self._path = path
        self._clock = clock
        self._remember = remember_seconds * MICROSECONDS
        # By process id. What a parent opened must neither be used nor closed in its child, so it stays
        # referenced; setdefault is atomic, so no lock is needed here that a fork could leave locked.
        self._processes: dict[int, _Process] = {}

    def charge(self, charges: Sequence[Charge]) -> tuple[Usage, ...]:
        """Charge all or nothing: LimitStore.charge."""
        return self._ask_one(_Call(charges, counts=True)) if charges else ()

    def charge_each(self, calls: Sequence[Sequence[Charge]]) -> list[Charged]:
        """Charge each call, MAX_BATCH in a transaction: LimitStore.charge_each."""
        asked = [_Call(charges, counts=True) for charges in calls]
        try:
            self._ask([call for call in asked if call.charges])
        except StoreError as error:
            for call in asked:
                if not call.is_answered:
                    call.fail(error)
        return [call.error or call.usages for call in asked]

    def usage(self, charges: Sequence[Charge]) -> tuple[Usage, ...]:
        """What `charge` would answer: LimitStore.usage."""
        return self._ask_one(_Call(charges, counts=False)) if charges else ()

    def forget(self, keys: Sequence[bytes]) -> None:
        """Drop these counters. What was marked as counted stays so.

        Raises:
            StoreError: as `charge`.
        """
        process = self._processes.get(os.getpid()) or self._processes.setdefault(os.getpid(), _Process())
        with process.lock:
            try:
                connection = self._begin(process)
                for drop in ("DELETE FROM counter WHERE key = ?", "DELETE FROM member WHERE key = ?"):
                    connection.executemany(drop, [(key,) for key in keys])
                connection.execute("COMMIT")
                process.known.forget()
            except (sqlite3.Error, OSError) as error:
                process.close()
                raise StoreError(f"{self._path}: {error}") from error

    def close(self) -> None:
        """Close this process's connection."""
        process = self._processes.pop(os.getpid(), None)
        if process is not None:
            with process.lock:
                process.close()

    def _ask_one(self, call: _Call) -> tuple[Usage, ...]:
        self._ask([call])
        if call.error is not None:
            raise call.error
        return call.usages

    def _ask(self, calls: Sequence[_Call]) -> None:
        """Have them answered, in their order, by this thread or by one that waits as it does."""
        process = self._processes.get(os.getpid()) or self._processes.setdefault(os.getpid(), _Process())
        process.waiting.extend(calls)
        try:
            self._wait_for_turn(process, calls)
            try:
                while not all(call.is_answered for call in calls):
                    self._answer_next(process)
            finally:
                process.lock.release()
        except (sqlite3.Error, OSError) as error:
            raise StoreError(f"{self._path}: {error}") from error
        finally:
            for call in calls:
                if not call.is_answered:
                    process.forget(call)

    def _wait_for_turn(self, process: _Process, calls: Sequence[_Call]) -> None:
        """Have the process's lock, for no longer than BUSY_SECONDS unless a call is being answered."""
        if process.lock.acquire(timeout=BUSY_SECONDS):
            return
        under_way = [call for call in calls if not process.forget(call)]
        if not under_way:
            raise StoreError(f"{self._path}: busy for {BUSY_SECONDS:g} seconds")
        process.lock.acquire()
        process.waiting.extend(call for call in calls if not call.is_answered)

    def _answer_next(self, process: _Process) -> None:
        """One transaction for those that have waited longest. With the lock of the process.

        What SQLite cannot do is an error of all of them.
        """
        calls: list[_Call] = []
        try:
            connection = self._begin(process)
            calls = process.take()
            now = microseconds(self._clock())
            process.known.check(connection)
            batch = Batch(connection, now, self._remember, process.known)
            counted = sum(call.answer(batch) for call in calls)
            batch.write()
            process.sweep.after_charges(connection, now, counted)
            connection.execute("COMMIT")
        except BaseException as error:
            process.close()
            for call in calls:
                call.fail(StoreError(f"{self._path}: {error}"))
            raise
        for call in calls:
            call.is_answered = True

    def _begin(self, process: _Process) -> sqlite3.Connection:
        deadline = time.monotonic() + BUSY_SECONDS
        pause = LOOK_AGAIN_SECONDS
        while True:
            try:
                connection = process.open(self._path)
                connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                if (
                    error.sqlite_errorcode & PRIMARY_CODE != sqlite3.SQLITE_BUSY
                    or time.monotonic() > deadline
                ):
                    raise
                time.sleep(pause)
                pause = min(2 * pause, LOOK_AGAIN_AT_MOST_SECONDS)
            else:
                return connection


@dataclass(slots=True, eq=False)
class _Call:
    """What one thread asks; whichever thread has its turn fills in the answer."""

    charges: Sequence[Charge]
    counts: bool
    usages: tuple[Usage, ...] = ()
    error: StoreError | ValueError | None = None
    is_answered: bool = False

    def answer(self, batch: Batch) -> bool:
        """Ask for this call; True if that counted. A mistake of whoever asks is his alone."""
        try:
            self.usages = batch.charge(self.charges) if self.counts else batch.usage(self.charges)
        except ValueError as error:
            self.error = error
            return False
        return self.counts

    def fail(self, error: StoreError) -> None:
        """Nothing of it was counted."""
        self.error = self.error or error
        self.is_answered = True


@dataclass(slots=True)
class _Process:
    """What one process has open, and who waits for it. Its threads take turns by the lock."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    waiting: deque[_Call] = field(default_factory=deque)
    sweep: Sweep = field(default_factory=Sweep)
    known: Known = field(default_factory=Known)
    opened: sqlite3.Connection | None = None

    def open(self, path: Path) -> sqlite3.Connection:
        """The connection."""
        if self.opened is None:
            self.opened = open_file(path)
        return self.opened

    def close(self) -> None:
        """Roll back what is under way. Harmless when nothing is open."""
        opened, self.opened = self.opened, None
        self.known = Known()
        if opened is not None:
            with suppress(sqlite3.Error):
                opened.close()

    def take(self) -> list[_Call]:
        """Those that have waited longest. With the lock."""
        return [self.waiting.popleft() for _ in range(min(MAX_BATCH, len(self.waiting)))]

    def forget(self, call: _Call) -> bool:
        """No longer wait; False if it is not among those that do."""
        try:
            self.waiting.remove(call)
        except ValueError:
            return False
        return True
