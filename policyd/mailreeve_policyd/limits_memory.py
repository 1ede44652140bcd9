"""A limit store in this process's memory: for the expect lines of a rules file, and for tests.

Keeps every promise of DESIGN.md section 5 for as long as it lives, but shares nothing between processes and
forgets all at its end: a daemon counts in it only while the machine's own store is away. Knows no rules.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from itertools import islice, takewhile

from mailreeve_policyd.limits import Charge, Charged, Unit, Usage, charge_one_by_one
from mailreeve_policyd.limits_judge import CountedWindow, Judgement, judge
from mailreeve_policyd.limits_window import (
    MICROSECONDS,
    NO_BUCKETS,
    Buckets,
    microseconds,
    period_seconds,
)

SWEEP_EVERY = 4096
"""Calls between two sweeps of what has expired: rare enough to cost nothing, often enough to stay small."""


class MemoryStore:
    """A LimitStore in memory. `clock` gives seconds since the epoch."""

    def __init__(self, clock: Callable[[], float], remember_seconds: int = 3600) -> None:
        self._clock = clock
        self._remember = remember_seconds * MICROSECONDS
        self._lock = threading.Lock()
        self._counters: dict[bytes, tuple[int, Buckets]] = {}
        self._members: dict[bytes, dict[bytes, int]] = {}
        self._marks: dict[tuple[bytes, bytes], int] = {}
        self._calls = 0

    def charge(self, charges: Sequence[Charge]) -> tuple[Usage, ...]:
        """Charge all or nothing: LimitStore.charge."""
        with self._lock:
            now = microseconds(self._clock())
            judgement = self._judge(charges, now)
            if judgement.refused:
                _set_back(judgement)
            else:
                self._write(judgement, now)
            return judgement.usages

    def charge_each(self, calls: Sequence[Sequence[Charge]]) -> list[Charged]:
        """Charge each call: LimitStore.charge_each."""
        return charge_one_by_one(self, calls)

    def usage(self, charges: Sequence[Charge]) -> tuple[Usage, ...]:
        """What `charge` would answer: LimitStore.usage."""
        with self._lock:
            judgement = self._judge(charges, microseconds(self._clock()))
            _set_back(judgement)
            return judgement.usages

    def forget(self, keys: Sequence[bytes]) -> None:
        """Drop these counters. What was marked as counted stays so."""
        with self._lock:
            for key in keys:
                self._counters.pop(key, None)
                self._members.pop(key, None)

    def close(self) -> None:
        """Forget everything."""
        with self._lock:
            self._counters.clear()
            self._members.clear()
            self._marks.clear()

    def _judge(self, charges: Sequence[Charge], now: int) -> _Judgement:
        def window_of(charge: Charge) -> _Counter | _Members:
            if charge.limit.unit is Unit.DISTINCT:
                return _Members(self._members, charge, now)
            return _Counter(self._counters, charge, now)

        def is_marked(key: bytes, mark: bytes) -> bool:
            # later than a whole time from now: written before the clock was set back
            return now < self._marks.get((key, mark), 0) <= now + 2 * self._remember

        return judge(charges, now, window_of, is_marked)

    def _write(self, judgement: _Judgement, now: int) -> None:
        for window in judgement.windows.values():
            window.write()
        for mark in judgement.marks:
            self._marks[mark] = now + self._remember
        self._calls += 1
        if self._calls % SWEEP_EVERY == 0:
            self._sweep(now)

    def _sweep(self, now: int) -> None:
        self._marks = {mark: ends for mark, ends in self._marks.items() if ends > now}
        self._counters = {key: kept for key, kept in self._counters.items() if kept[0] > now}
        self._members = {
            key: members for key, members in self._members.items() if max(members.values(), default=0) >= now
        }


_NOTHING = (0, NO_BUCKETS)


class _Counter(CountedWindow):
    """A key that counts messages, recipients or bytes (limits_judge.Window)."""

    __slots__ = ("_kept", "_key")

    def __init__(self, kept: dict[bytes, tuple[int, Buckets]], charge: Charge, now: int) -> None:
        super().__init__(charge, now, kept.get(charge.key, _NOTHING)[1])
        self._kept = kept
        self._key = charge.key

    def write(self) -> None:
        if self.added:
            self._kept[self._key] = (self.ends, self.buckets)

    def set_back(self) -> None:
        if self.was_ahead:
            self._kept[self._key] = (self.ends, self.held_buckets)


class _Members:
    """A key that counts distinct values (limits_judge.Window).

    Each member is kept with the last moment at which it is in the window: one period after it was seen.
    They stand in the order of these moments, so that a charge looks at those alone that have left.
    """

    __slots__ = ("_ends", "_kept", "_key", "_left", "_members", "_now", "_seen", "added", "held")

    def __init__(self, kept: dict[bytes, dict[bytes, int]], charge: Charge, now: int) -> None:
        self._kept = kept
        self._key = charge.key
        self._now = now
        self._ends = now + period_seconds(charge.limit) * MICROSECONDS
        self._members = kept.get(charge.key, {})
        self._left = list(takewhile(self._has_left, self._members))
        self._seen: set[bytes] = set()
        self.held = len(self._members) - len(self._left)
        self.added = 0

    def _has_left(self, member: bytes) -> bool:
        return self._members.get(member, -1) < self._now

    def weight(self, charge: Charge) -> int:
        member = _member(charge)
        return int(member not in self._seen and self._has_left(member))

    def asked(self, charge: Charge) -> int:
        return len(self._seen | {_member(charge)})

    def add(self, charge: Charge) -> None:
        self.added += self.weight(charge)
        self._seen.add(_member(charge))

    def frees(self, charge: Charge, surplus: int) -> int:
        staying = self._seen | {_member(charge)}
        held = islice(self._members.items(), len(self._left), None)
        leaving = (ends for member, ends in held if member not in staying)
        return min(next(islice(leaving, surplus - 1, None)), self._ends) + 1

    def write(self) -> None:
        if not self._seen:
            return
        members = self._kept.setdefault(self._key, self._members)
        for member in (*self._left, *self._seen):
            members.pop(member, None)
        self.set_back()
        members.update(dict.fromkeys(self._seen, self._ends))

    def set_back(self) -> None:
        members = self._members
        if members and next(reversed(members.values())) > self._ends:
            # one that ends later was seen before the clock was set back
            members.update((member, min(ends, self._ends)) for member, ends in members.items())


_Judgement = Judgement[_Counter | _Members]


def _set_back(judgement: _Judgement) -> None:
    """Of a call that adds nothing: what lies ahead of the clock is dated now, or it would be so for ever."""
    for window in judgement.windows.values():
        window.set_back()


def _member(charge: Charge) -> bytes:
    if charge.member is None:
        raise ValueError(f"rule {charge.rule}: a distinct limit without a member")
    return charge.member
