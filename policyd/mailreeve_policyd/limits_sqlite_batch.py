"""What one write transaction of the embedded store reads and writes: rows to windows, windows to rows.

Knows that several calls share a transaction: each counter is read once and written once, however many calls
count under it. Knows no file and no lock. limits_judge.judge says what a call comes to; the usual one, of
which nothing is exceeded and nothing known by its mark, is counted without asking it, and to the same result.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from datetime import timedelta

from mailreeve_policyd.limits import BUCKETS_PER_PERIOD, SUBJECT_OCTETS, Charge, Unit, Usage
from mailreeve_policyd.limits_judge import CountedWindow, Judgement, judge
from mailreeve_policyd.limits_sqlite_rows import (
    MARK,
    NO_COUNTER,
    Counter,
    Known,
    counter_of,
    pack_counted,
    unpack_buckets,
    unpack_counted,
)
from mailreeve_policyd.limits_window import (
    MAX_UNITS,
    MICROSECONDS,
    Buckets,
    bucket_of,
    leaves_at,
    period_seconds,
)

_READ = "SELECT content FROM counter WHERE key = ?"
# in its place where it is there: INSERT OR REPLACE would take it out of its page and put it in again
_WRITE = (
    "INSERT INTO counter VALUES (?, ?, ?)"
    " ON CONFLICT DO UPDATE SET ends = excluded.ends, content = excluded.content"
)
_WRITE_NEW = "INSERT OR IGNORE INTO counter VALUES (?, ?, ?)"


class Batch:
    """One write transaction; `now` is its moment and `remember` the time of a mark, in microseconds.

    `known` is what the process knows of the file's rows.
    """

    def __init__(
        self, connection: sqlite3.Connection, now: int, remember: int, known: Known | None = None
    ) -> None:
        known = known or Known()
        self.connection = connection
        self.now = now
        self._remember = remember
        self._cursor = connection.cursor()
        self._counters = known.counters
        self._known_marks = known.marks
        self._ends: dict[bytes, int] = {}
        """Of the counters that are to be written."""
        self._marks: dict[bytes, _Mark] = {}
        self._new_mark = (now + remember).to_bytes(8, "little", signed=True)
        self._moments: dict[timedelta, tuple[int, int]] = {}

    def charge(self, charges: Sequence[Charge]) -> tuple[Usage, ...]:
        """LimitStore.charge, seeing the calls before it. What it counts is in the file after `write`."""
        return self._count(charges) or self.charge_judged(charges)

    def charge_judged(self, charges: Sequence[Charge]) -> tuple[Usage, ...]:
        """`charge` for any call, the usual one among them."""
        judgement = judge(charges, self.now, self._window_of, self._is_marked)
        if judgement.refused:
            self._set_back(judgement)
            return judgement.usages
        for window in judgement.windows.values():
            window.write()
        for key, mark in judgement.marks:
            self._mark(key, mark).add(key)
        return judgement.usages

    def usage(self, charges: Sequence[Charge]) -> tuple[Usage, ...]:
        """LimitStore.usage, seeing the calls before it."""
        judgement = judge(charges, self.now, self._window_of, self._is_marked)
        self._set_back(judgement)
        return judgement.usages

    def _set_back(self, judgement: Judgement[_Counter | _Members]) -> None:
        """Of a call that adds nothing: what lies ahead of the clock is dated now, or it would be for ever."""
        for window in judgement.windows.values():
            window.set_back()

    def write(self) -> None:
        """Write what the calls came to."""
        rows = [(key, ends, self._counters[key].packed) for key, ends in self._ends.items()]
        for name, mark in self._marks.items():
            if mark.has_grown:
                self._known_marks[name] = packed = pack_counted(mark.counted)
                rows.append((name, max(mark.counted.values()), packed))
        self._cursor.executemany(_WRITE, rows)

    # -- the usual call --------------------------------------------------------------------------------

    def _count(self, charges: Sequence[Charge]) -> tuple[Usage, ...] | None:
        """Charge counters of different keys, none exceeded and none marked; None if it is another call."""
        grown: dict[bytes, tuple[Counter, int]] = {}
        marks: dict[bytes, bytes] = {}
        usages = []
        for charge in charges:
            limit, key, amount = charge.limit, charge.key, charge.amount
            current, ends = self._moments.get(limit.period) or self._moment(charge)
            counter = self._counters.get(key) or self._read_counter(key)
            if counter.newest != current or counter.oldest < current - BUCKETS_PER_PERIOD:
                counter = counter.within(current)
            used = counter.held + amount
            if limit.unit is Unit.DISTINCT or amount < 1 or used > limit.maximum or used > MAX_UNITS:
                return None
            grown[key] = counter.with_units(current, amount), ends
            usages.append(Usage(used, limit.maximum, False, None, False, amount))
            if charge.mark is not None:
                name = key[:SUBJECT_OCTETS] + MARK + charge.mark
                marks[name] = marks.get(name, b"") + key[SUBJECT_OCTETS:] + self._new_mark
        if len(grown) < len(charges) or not self._leave_marks(marks):
            return None
        for key, (counter, ends) in grown.items():
            self._counters[key] = counter
            self._ends[key] = ends
        return tuple(usages)

    def _leave_marks(self, marks: dict[bytes, bytes]) -> bool:
        """Leave all of these marks, or none if there is one of them."""
        for name in marks:
            if name in self._known_marks or name in self._marks:
                return False
        ends = self.now + self._remember
        left: list[tuple[bytes]] = []
        for name, packed in marks.items():
            if not self._cursor.execute(_WRITE_NEW, (name, ends, packed)).rowcount:
                self._cursor.executemany("DELETE FROM counter WHERE key = ?", left)
                return False
            left.append((name,))
        self._known_marks.update(marks)
        return True

    def _moment(self, charge: Charge) -> tuple[int, int]:
        """The bucket of now for such a period, and when that leaves the window."""
        period = period_seconds(charge.limit)
        current = bucket_of(self.now, period)
        found = self._moments[charge.limit.period] = current, leaves_at(current, period)
        return found

    # -- any call ----------------------------------------------------------------------------------------

    def buckets(self, key: bytes) -> Buckets:
        """A counter, as the file or a call before has it."""
        return (self._counters.get(key) or self._read_counter(key)).buckets

    def set_buckets(self, key: bytes, buckets: Buckets, ends: int) -> None:
        """A counter, as it is to be written."""
        self._counters[key] = counter_of(buckets)
        self._ends[key] = ends

    def _window_of(self, charge: Charge) -> _Counter | _Members:
        return _Members(self, charge) if charge.limit.unit is Unit.DISTINCT else _Counter(self, charge)

    def _is_marked(self, key: bytes, mark: bytes) -> bool:
        return self._mark(key, mark).holds(key)

    def _mark(self, key: bytes, mark: bytes) -> _Mark:
        name = key[:SUBJECT_OCTETS] + MARK + mark
        found = self._marks.get(name)
        if found is None:
            packed = self._known_marks.get(name) or self._read(name) or b""
            found = self._marks[name] = _Mark(packed, self.now, self._remember)
        return found

    def _read_counter(self, key: bytes) -> Counter:
        packed = self._read(key)
        found = NO_COUNTER if packed is None else counter_of(unpack_buckets(packed))
        self._counters[key] = found
        return found

    def _read(self, key: bytes) -> bytes | None:
        row = self._cursor.execute(_READ, (key,)).fetchone()
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

    __slots__ = ("_new_ends", "counted", "has_grown")

    def __init__(self, packed: bytes, now: int, remember: int) -> None:
        self._new_ends = now + remember
        # what ends later than a whole time from now was written before the clock was set back
        latest = now + 2 * remember
        self.counted = {key: ends for key, ends in unpack_counted(packed) if now < ends <= latest}
        self.has_grown = False

    def holds(self, key: bytes) -> bool:
        return key[SUBJECT_OCTETS:] in self.counted

    def add(self, key: bytes) -> None:
        self.counted[key[SUBJECT_OCTETS:]] = self._new_ends
        self.has_grown = True


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

    def set_back(self) -> None:
        if self.was_ahead:
            self._batch.set_buckets(self._key, self.held_buckets, self.ends)


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
        self.set_back()
        self._connection.executemany(
            "INSERT OR REPLACE INTO member VALUES (?, ?, ?)",
            [(self._key, member, self._ends) for member in self._seen],
        )

    def set_back(self) -> None:
        # seen after now: before the clock was set back
        self._connection.execute(
            "UPDATE member SET ends = ? WHERE key = ? AND ends > ?", (self._ends, self._key, self._ends)
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
