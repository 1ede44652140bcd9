"""Where lines go: what a place of the record or the log must be, and how long a full one may be waited for.

Mail never waits for a place: what cannot be written at once, or after a moment that is bounded, is lost and
counted by whoever wrote it.
"""

from __future__ import annotations

import select
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

WAIT_SECONDS = 0.05
"""A reader that is only late, such as a log service in a burst, is there again by then."""

PIPE_OCTETS = 4096
"""So much goes into a pipe in one piece, whoever else writes to it (PIPE_BUF on Linux)."""

REST_SECONDS = 1.0
"""So long after one wait there is no other: a reader that hangs takes a twentieth of our time at most."""


class Sink(Protocol):
    """A place for lines. Safe from any thread; several processes may share the place."""

    def write(self, line: bytes) -> None:
        """Write one line, its LF included, in one piece. Raises OSError."""

    def reopen(self) -> None:
        """Open it anew: it was rotated, or restarted. Never raises; the next line tries again."""

    def close(self) -> None:
        """Forget what is open; a line opens it anew. Never raises."""


@runtime_checkable
class BatchSink(Sink, Protocol):
    """A place that takes several lines for little more than what one costs."""

    def write_each(self, lines: Sequence[bytes]) -> Written:
        """Write lines, each whole. Never raises OSError: that is in the answer."""


@dataclass(frozen=True, slots=True)
class Written:
    """What became of several lines: the first `count` went; the others did not, because of `error`."""

    count: int
    error: OSError | None = None


def write_grouped(lines: Sequence[bytes], most_octets: int, write: Callable[[bytes], int]) -> Written:
    """Write lines, as many at a time as come to so many octets; `write` tells how many octets went."""
    count = 0
    for group in _grouped(lines, most_octets):
        octets = b"".join(group)
        try:
            went = write(octets)
        except OSError as error:
            return Written(count, error)
        if went < len(octets):
            whole = octets.count(b"\n", 0, max(went, 0))
            return Written(count + whole, torn(went, octets))
        count += len(group)
    return Written(count)


def torn(written: int, octets: bytes) -> OSError:
    """That only the first of the octets were written: to be raised or told."""
    return OSError(f"only {written} of {len(octets)} octets were written")


def _grouped(lines: Sequence[bytes], most_octets: int) -> Iterator[list[bytes]]:
    group: list[bytes] = []
    size = 0
    for line in lines:
        size += len(line)
        if group and size > most_octets:
            yield group
            group, size = [], len(line)
        group.append(line)
    if group:
        yield group


class Patience:
    """Waits for a full pipe or socket, briefly and seldom. `clock` gives seconds that never go back."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._rests_until = 0.0

    def wait(self, descriptor: int) -> bool:
        """Can it be written now, or within WAIT_SECONDS? False at once where another wait was just now."""
        now = self._clock()
        if now < self._rests_until:
            return False
        self._rests_until = now + REST_SECONDS
        return is_writable(descriptor, WAIT_SECONDS)


def is_writable(descriptor: int, seconds: float = 0.0) -> bool:
    """Would a short write not block, now or within so many seconds?"""
    poller = select.poll()
    poller.register(descriptor, select.POLLOUT)
    return bool(poller.poll(int(seconds * 1000)))
