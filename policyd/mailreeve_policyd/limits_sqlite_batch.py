"""What one write transaction of the embedded store reads and writes: rows to windows, windows to rows.

Knows how counters, members and marks lie in the file, and that several calls share a transaction: each
counter is read once and written once, however many calls count under it. Knows no file and no lock.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from struct import Struct

from mailreeve_policyd.limits import KEY_OCTETS, SUBJECT_OCTETS, Charge, Unit, Usage
from mailreeve_policyd.limits_judge import CountedWindow, judge
from mailreeve_policyd.limits_window import (
    MICROSECONDS,
    NO_BUCKETS,
    Buckets,
    period_seconds,
)

MARK = b"m"
"""Between subject and mark in the name of a mark's row, which is longer than any counter's."""

_COUNTED = Struct(f"<{KEY_OCTETS - SUBJECT_OCTETS}sq")


class Batch:
    """One write transaction; `now` is its moment and `remember` the time of a mark, in microseconds."""

    def __init__(self, connection: sqlite3.Connection, now: int, remember: int) -> None:
        self.connection = connection
        self.now = now
        self._remember = remember
        self._buckets: dict[bytes, Buckets] = {}
        self._ends: dict[bytes, int] = {}
        self._marks: dict[tuple[bytes, bytes], _Mark] = {}

    def charge(self, charges: Sequence[Charge]) -> tuple[Usage, ...]:
        """LimitStore.charge, seeing the calls before it. What it counts is in the file after `write`."""
        judgement = judge(charges, self.now, self._window_of, self._is_marked)
        if not judgement.refused:
            for window in judgement.windows.values():
                window.write()
            for key, mark in judgement.marks:
                self._marks[key[:SUBJECT_OCTETS], mark].add(key)
        return judgement.usages

    def usage(self, charges: Sequence[Charge]) -> tuple[Usage, ...]:
        """LimitStore.usage, seeing the calls before it."""
        return judge(charges, self.now, self._window_of, self._is_marked).usages

    def write(self) -> None:
        """Write what the calls came to."""
        rows = [(key, ends, pack_buckets(self._buckets[key])) for key, ends in self._ends.items()]
        rows += [mark.row() for mark in self._marks.values() if mark.has_grown]
        self.connection.executemany("INSERT OR REPLACE INTO counter VALUES (?, ?, ?)", rows)

    def buckets(self, key: bytes) -> Buckets:
        """A counter, as the file or a call before has it."""
        found = self._buckets.get(key)
        if found is None:
            packed = self._content(key)
            found = self._buckets[key] = unpack_buckets(packed) if packed is not None else NO_BUCKETS
        return found

    def set_buckets(self, key: bytes, buckets: Buckets, ends: int) -> None:
        """A counter, as it is to be written."""
        self._buckets[key] = buckets
        self._ends[key] = ends

    def _window_of(self, charge: Charge) -> _Counter | _Members:
        return _Members(self, charge) if charge.limit.unit is Unit.DISTINCT else _Counter(self, charge)

    def _is_marked(self, key: bytes, mark: bytes) -> bool:
        return self._mark(key, mark).holds(key)

    def _mark(self, key: bytes, mark: bytes) -> _Mark:
        subject = key[:SUBJECT_OCTETS]
        found = self._marks.get((subject, mark))
        if found is None:
            name = subject + MARK + mark
            packed = self._content(name) or b""
            found = self._marks[subject, mark] = _Mark(name, packed, self.now, self._remember)
        return found

    def _content(self, key: bytes) -> bytes | None:
        row = self.connection.execute("SELECT content FROM counter WHERE key = ?", (key,)).fetchone()
        if row is None:
            return None
        (content,) = row
        if not isinstance(content, bytes):  # SQLite keeps any type in any column
            raise sqlite3.DatabaseError(f"a content that is {type(content).__name__}")
        return content


class _Mark:
    """Under which counters of one subject a mark was counted, and until when that is remembered.

    Beside those counters in the table: all rows that a request changes are then in one page mostly, and to
    write pages is most of what a charge costs.
    """

    __slots__ = ("_counted", "_name", "_new_ends", "has_grown")

    def __init__(self, name: bytes, packed: bytes, now: int, remember: int) -> None:
        self._name = name
        self._new_ends = now + remember
        # what ends later than a whole time from now was written before the clock was set back
        latest = now + 2 * remember
        self._counted = {key: ends for key, ends in unpack_counted(packed) if now < ends <= latest}
        self.has_grown = False

    def holds(self, key: bytes) -> bool:
        return key[SUBJECT_OCTETS:] in self._counted

    def add(self, key: bytes) -> None:
        self._counted[key[SUBJECT_OCTETS:]] = self._new_ends
        self.has_grown = True

    def row(self) -> tuple[bytes, int, bytes]:
        return self._name, max(self._counted.values()), pack_counted(self._counted)


class _Counter(CountedWindow):
    """A key that counts messages, recipients or bytes (limits_judge.Window)."""

    __slots__ = ("_batch", "_key")

    def __init__(self, batch: Batch, charge: Charge) -> None:
        super().__init__(charge, batch.now, batch.buckets(charge.key))
        self._batch = batch
        self._key = charge.key

    def write(self) -> None:
        if self.added:
            self._batch.set_buckets(self._key, self.buckets, self.ends)


class _Members:
    """A key that counts distinct values, each by when it was last let through (limits_judge.Window).

    A member is in the window up to and including `ends`, one period after it was last seen.
    """

    __slots__ = ("_connection", "_ends", "_key", "_now", "_seen", "added", "held")

    def __init__(self, batch: Batch, charge: Charge) -> None:
        self._connection = batch.connection
        self._key = charge.key
        self._now = batch.now
        self._ends = self._now + period_seconds(charge.limit) * MICROSECONDS
        self._seen: set[bytes] = set()
        (self.held,) = self._connection.execute(
            "SELECT count(*) FROM member WHERE key = ? AND ends >= ?", (self._key, self._now)
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
        end = leaving[surplus - 1]
        if not isinstance(end, int):
            raise sqlite3.DatabaseError(f"a member's end that is {type(end).__name__}")
        return min(end, self._ends) + 1

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


def _member(charge: Charge) -> bytes:
    if charge.member is None:
        raise ValueError(f"rule {charge.rule}: a distinct limit without a member")
    return charge.member


def pack_counted(counted: Mapping[bytes, int]) -> bytes:
    """What a mark was counted under: the end of each key and its moment (8 bytes)."""
    return b"".join(_COUNTED.pack(key, ends) for key, ends in counted.items())


def unpack_counted(packed: bytes) -> Iterator[tuple[bytes, int]]:
    """What `pack_counted` packed.

    Raises:
        sqlite3.DatabaseError: the file is damaged.
    """
    if len(packed) % _COUNTED.size:
        raise sqlite3.DatabaseError(f"a mark of {len(packed)} bytes")
    return _COUNTED.iter_unpack(packed)


_NEWEST = Struct("<q")


@lru_cache(maxsize=128)
def _units(count: int) -> Struct:
    return Struct(f"<{count}Q")


def pack_buckets(buckets: Buckets) -> bytes:
    """A counter as bytes: the newest bucket (8), the age of each (1), the units of each (8)."""
    units = buckets.units
    return _NEWEST.pack(buckets.newest) + buckets.ages + _units(len(units)).pack(*units)


def unpack_buckets(packed: bytes) -> Buckets:
    """What `pack_buckets` packed.

    Raises:
        sqlite3.DatabaseError: the file is damaged.
    """
    count, rest = divmod(len(packed) - 8, 9)
    if count < 1 or rest:
        raise sqlite3.DatabaseError(f"a counter of {len(packed)} bytes")
    (newest,) = _NEWEST.unpack_from(packed)
    return Buckets(newest, packed[8 : 8 + count], _units(count).unpack_from(packed, 8 + count))
