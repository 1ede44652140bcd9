"""The embedded limit store: one SQLite file that all workers of both daemons on a machine share.

Knows how counters, members and marks lie in the file; knows no rules and no other store. Keeps the promises
of DESIGN.md section 5 by one write transaction a call (BEGIN IMMEDIATE), in which the clock is read too: so
moments never run backwards between processes.

A process has one connection, opened at the first call after a fork, and its threads queue for it. SQLite
has one writer at a time whatever the number of connections, and its own way to wait for the lock is to
sleep and look again.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from struct import pack, unpack

from mailreeve_policyd.errors import StoreError
from mailreeve_policyd.limits import Charge, Unit, Usage
from mailreeve_policyd.limits_judge import Judgement, judge
from mailreeve_policyd.limits_sqlite_file import BUSY_SECONDS, Sweep, open_file
from mailreeve_policyd.limits_window import (
    MICROSECONDS,
    Buckets,
    bucket_of,
    bucket_to_leave,
    leaves_at,
    microseconds,
    period_seconds,
    units_in,
    with_units,
    within_window,
)

PRIMARY_CODE = 0xFF
"""SQLite's extended result codes say more in the higher bits."""


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
        if not charges:
            return ()
        with self._transaction() as process:
            now = microseconds(self._clock())
            judgement = self._judge(process.connection, charges, now)
            if not judgement.refused:
                self._write(process.connection, judgement, now)
                process.sweep.after_charge(process.connection, now)
            return judgement.usages

    def usage(self, charges: Sequence[Charge]) -> tuple[Usage, ...]:
        """What `charge` would answer: LimitStore.usage."""
        if not charges:
            return ()
        with self._transaction() as process:
            return self._judge(process.connection, charges, microseconds(self._clock())).usages

    def close(self) -> None:
        """Close this process's connection."""
        process = self._processes.pop(os.getpid(), None)
        if process is not None:
            with process.lock:
                process.close()

    def _judge(self, connection: sqlite3.Connection, charges: Sequence[Charge], now: int) -> _Judgement:
        def window_of(charge: Charge) -> _Counter | _Members:
            if charge.limit.unit is Unit.DISTINCT:
                return _Members(connection, charge, now)
            return _Counter(connection, charge, now)

        def is_marked(key: bytes, mark: bytes) -> bool:
            row = connection.execute("SELECT ends FROM mark WHERE id = ?", (_mark_id(key, mark),)).fetchone()
            # later than a whole time from now: written before the clock was set back
            return row is not None and now < row[0] <= now + 2 * self._remember

        return judge(charges, now, window_of, is_marked)

    def _write(self, connection: sqlite3.Connection, judgement: _Judgement, now: int) -> None:
        for window in judgement.windows.values():
            window.write()
        ends = now + self._remember
        for key, mark in judgement.marks:
            connection.execute("INSERT OR REPLACE INTO mark VALUES (?, ?)", (_mark_id(key, mark), ends))

    @contextmanager
    def _transaction(self) -> Iterator[_Process]:
        process = self._processes.setdefault(os.getpid(), _Process())
        if not process.lock.acquire(timeout=BUSY_SECONDS):
            raise StoreError(f"{self._path}: busy for {BUSY_SECONDS:g} seconds")
        try:
            self._begin(process)
            yield process
            process.connection.execute("COMMIT")
        except (sqlite3.Error, OSError) as error:
            process.close()
            raise StoreError(f"{self._path}: {error}") from error
        except BaseException:
            process.close()
            raise
        finally:
            process.lock.release()

    def _begin(self, process: _Process) -> None:
        deadline = time.monotonic() + BUSY_SECONDS
        while True:
            try:
                process.open(self._path)
                process.connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                if (
                    error.sqlite_errorcode & PRIMARY_CODE != sqlite3.SQLITE_BUSY
                    or time.monotonic() > deadline
                ):
                    raise
            else:
                return


@dataclass(slots=True)
class _Process:
    """What one process has open. Its threads take turns by the lock."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    sweep: Sweep = field(default_factory=Sweep)
    opened: sqlite3.Connection | None = None

    @property
    def connection(self) -> sqlite3.Connection:
        if self.opened is None:
            raise StoreError("the file is not open")
        return self.opened

    def open(self, path: Path) -> None:
        if self.opened is None:
            self.opened = open_file(path)

    def close(self) -> None:
        """Roll back what is under way. Harmless when nothing is open."""
        opened, self.opened = self.opened, None
        if opened is not None:
            with suppress(sqlite3.Error):
                opened.close()


class _Counter:
    """A key that counts messages, recipients or bytes (limits_judge.Window)."""

    __slots__ = ("_buckets", "_connection", "_current", "_key", "_period", "added", "held")

    def __init__(self, connection: sqlite3.Connection, charge: Charge, now: int) -> None:
        self._connection = connection
        self._key = charge.key
        self._period = period_seconds(charge.limit)
        self._current = bucket_of(now, self._period)
        row = connection.execute("SELECT buckets FROM counter WHERE key = ?", (charge.key,)).fetchone()
        self._buckets = [] if row is None else within_window(unpack_buckets(row[0]), self._current)
        self.held = units_in(self._buckets)
        self.added = 0

    def weight(self, charge: Charge) -> int:
        return charge.amount

    def asked(self, charge: Charge) -> int:
        return self.added + charge.amount

    def add(self, charge: Charge) -> None:
        self.added += charge.amount

    def frees(self, charge: Charge, surplus: int) -> int:
        del charge
        return leaves_at(bucket_to_leave(self._buckets, surplus), self._period)

    def write(self) -> None:
        if self.added:
            self._connection.execute(
                "INSERT OR REPLACE INTO counter VALUES (?, ?, ?)",
                (
                    self._key,
                    leaves_at(self._current, self._period),
                    pack_buckets(with_units(self._buckets, self._current, self.added)),
                ),
            )


class _Members:
    """A key that counts distinct values, each by when it was last let through (limits_judge.Window).

    A member is in the window up to and including `ends`, one period after it was last seen.
    """

    __slots__ = ("_connection", "_ends", "_key", "_now", "_seen", "added", "held")

    def __init__(self, connection: sqlite3.Connection, charge: Charge, now: int) -> None:
        self._connection = connection
        self._key = charge.key
        self._now = now
        self._ends = now + period_seconds(charge.limit) * MICROSECONDS
        self._seen: set[bytes] = set()
        (self.held,) = connection.execute(
            "SELECT count(*) FROM member WHERE key = ? AND ends >= ?", (charge.key, now)
        ).fetchone()
        self.added = 0

    def weight(self, charge: Charge) -> int:
        member = _member(charge)
        return 0 if member in self._seen or self._is_held(member) else 1

    def add(self, charge: Charge) -> None:
        self.added += self.weight(charge)
        self._seen.add(_member(charge))

    def asked(self, charge: Charge) -> int:
        return len(self._seen | {_member(charge)})

    def frees(self, charge: Charge, surplus: int) -> int:
        staying = self._seen | {_member(charge)}
        oldest_first = self._connection.execute(
            "SELECT member, ends FROM member WHERE key = ? AND ends >= ? ORDER BY ends LIMIT ?",
            (self._key, self._now, surplus + len(staying)),
        )
        leaving = [ends for member, ends in oldest_first if member not in staying]
        soonest: int = min(leaving[surplus - 1], self._ends)
        return soonest + 1

    def write(self) -> None:
        if not self._seen:
            return
        self._connection.execute("DELETE FROM member WHERE key = ? AND ends < ?", (self._key, self._now))
        # seen after now: before the clock was set back
        self._connection.execute(
            "UPDATE member SET ends = ? WHERE key = ? AND ends > ?", (self._ends, self._key, self._ends)
        )
        self._connection.executemany(
            "INSERT OR REPLACE INTO member VALUES (?, ?, ?)",
            [(self._key, member, self._ends) for member in self._seen],
        )

    def _is_held(self, member: bytes) -> bool:
        return (
            self._connection.execute(
                "SELECT 1 FROM member WHERE key = ? AND member = ? AND ends >= ?",
                (self._key, member, self._now),
            ).fetchone()
            is not None
        )


_Judgement = Judgement[_Counter | _Members]


def _member(charge: Charge) -> bytes:
    if charge.member is None:
        raise ValueError(f"rule {charge.rule}: a distinct limit without a member")
    return charge.member


def _mark_id(key: bytes, mark: bytes) -> int:
    """64 bits: of four million marks that live, a new one meets another once in 10^12."""
    return int.from_bytes(blake2b(key + mark, digest_size=8).digest(), "big", signed=True)


def pack_buckets(buckets: Buckets) -> bytes:
    """The newest bucket (8 bytes), the age of each before it (1 byte), the units of each (8 bytes)."""
    newest = buckets[-1][0]
    ages = [newest - bucket for bucket, _ in buckets]
    return pack(f"<q{len(buckets)}B{len(buckets)}Q", newest, *ages, *[units for _, units in buckets])


def unpack_buckets(packed: bytes) -> Buckets:
    """What `pack_buckets` packed.

    Raises:
        sqlite3.DatabaseError: the file is damaged.
    """
    count, rest = divmod(len(packed) - 8, 9)
    if count < 1 or rest:
        raise sqlite3.DatabaseError(f"a counter of {len(packed)} bytes")
    newest, *fields = unpack(f"<q{count}B{count}Q", packed)
    return [(newest - age, units) for age, units in zip(fields[:count], fields[count:], strict=True)]
