"""How several charges are judged together on what a store has read: promises 2 to 4 of DESIGN.md section 5.

Pure: a store reads a `Window` a key, calls `judge`, and writes the windows and marks that have grown.
Knows no store. limits.lua does the same inside Redis.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Generic, NamedTuple, Protocol, TypeVar

from mailreeve_policyd.limits import Charge, Usage
from mailreeve_policyd.limits_window import (
    MAX_UNITS,
    Buckets,
    bucket_of,
    bucket_to_leave,
    leaves_at,
    period_seconds,
    units_in,
    with_units,
    within_window,
)


class Window(Protocol):
    """What one key holds, read at the start of a call, and what the call adds to it."""

    held: int
    """Units (for distinct: members) in the window before the call."""
    added: int
    """Units (for distinct: new members) that the call adds."""

    def weight(self, charge: Charge) -> int:
        """What a charge would add: nothing for a member that is there."""

    def asked(self, charge: Charge) -> int:
        """What the call asks for under this key, a charge included: what it needs room for at once."""

    def add(self, charge: Charge) -> None:
        """Take a charge into the call."""

    def frees(self, charge: Charge, surplus: int) -> int:
        """When so much of what was held, and is not asked for, has left: microseconds since the epoch."""


W = TypeVar("W", bound=Window)


class CountedWindow:
    """A key that counts messages, recipients or bytes; a store's own class adds how it is kept (`write`).

    `kept` are the key's buckets as they were stored, those that have left the window among them.
    """

    __slots__ = ("_buckets", "_current", "_period", "added", "held", "was_ahead")

    def __init__(self, charge: Charge, now: int, kept: Buckets) -> None:
        self._period = period_seconds(charge.limit)
        self._current = bucket_of(now, self._period)
        self._buckets = within_window(kept, self._current)
        self.held = units_in(self._buckets)
        self.added = 0
        self.was_ahead = kept.newest > self._current
        """Was some of it counted before the clock was set back?"""

    def weight(self, charge: Charge) -> int:
        """See Window."""
        return charge.amount

    def asked(self, charge: Charge) -> int:
        """See Window."""
        return self.added + charge.amount

    def add(self, charge: Charge) -> None:
        """See Window."""
        self.added += charge.amount

    def frees(self, charge: Charge, surplus: int) -> int:
        """See Window."""
        del charge
        return leaves_at(bucket_to_leave(self._buckets, surplus), self._period)

    @property
    def ends(self) -> int:
        """When what is added now leaves the window."""
        return leaves_at(self._current, self._period)

    @property
    def buckets(self) -> Buckets:
        """What is to be kept: the window with what was added."""
        return with_units(self._buckets, self._current, self.added)

    @property
    def held_buckets(self) -> Buckets:
        """What is to be kept if nothing is added."""
        return self._buckets


@dataclass(slots=True)
class Judgement(Generic[W]):
    """What a call comes to: whether it charges, and what it then writes."""

    usages: tuple[Usage, ...]
    refused: bool
    windows: dict[bytes, W]
    marks: set[tuple[bytes, bytes]]
    """(key, mark) of each charge that is counted for the first time."""


class _Answer(NamedTuple):
    """To one charge."""

    exceeded: bool
    retry_after: timedelta | None


_PASSES = _Answer(exceeded=False, retry_after=None)


def judge(
    charges: Sequence[Charge],
    now: int,
    window_of: Callable[[Charge], W],
    is_marked: Callable[[bytes, bytes], bool],
) -> Judgement[W]:
    """Judge the charges in order, each seeing what those before it add; see LimitStore.charge.

    `now` is in microseconds. `window_of` is asked once a key, `is_marked` once a key and mark.
    """
    windows: dict[bytes, W] = {}
    marks: set[tuple[bytes, bytes]] = set()
    answers = []
    refused = False
    for charge in charges:
        window = windows.get(charge.key)
        if window is None:
            window = windows[charge.key] = window_of(charge)
        answer = _judge_one(charge, window, now, marks, is_marked)
        if answer.exceeded and charge.refuses:
            refused = True
        answers.append(answer)
    usages = [
        _usage(charge, windows[charge.key], answer, refused)
        for charge, answer in zip(charges, answers, strict=True)
    ]
    return Judgement(tuple(usages), refused, windows, marks)


def _judge_one(
    charge: Charge,
    window: Window,
    now: int,
    marks: set[tuple[bytes, bytes]],
    is_marked: Callable[[bytes, bytes], bool],
) -> _Answer:
    if charge.amount < 0:
        raise ValueError(f"an amount of {charge.amount}")
    mark = None if charge.mark is None else (charge.key, charge.mark)
    if mark is not None and (mark in marks or is_marked(*mark)):
        return _PASSES
    maximum = min(charge.limit.maximum, MAX_UNITS)
    surplus = window.held + window.added + window.weight(charge) - maximum
    if surplus <= 0:
        window.add(charge)
        if mark is not None:
            marks.add(mark)
        return _PASSES
    if window.asked(charge) > maximum:
        return _Answer(exceeded=True, retry_after=None)
    wait = timedelta(microseconds=window.frees(charge, surplus) - now)
    return _Answer(exceeded=True, retry_after=wait)


def _usage(charge: Charge, window: Window, answer: _Answer, refused: bool) -> Usage:
    added = 0 if refused else window.added
    return Usage(window.held + added, charge.limit.maximum, answer.exceeded, answer.retry_after, added=added)
