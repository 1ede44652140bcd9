"""Where lines go: what a place of the record or the log must be, and how long a full one may be waited for.

Mail never waits for a place: what cannot be written at once, or after a moment that is bounded, is lost and
counted by whoever wrote it.
"""

from __future__ import annotations

import select
import time
from collections.abc import Callable
from typing import Protocol

WAIT_SECONDS = 0.05
"""A reader that is only late, such as a log service in a burst, is there again by then."""

REST_SECONDS = 1.0
"""So long after one wait there is no other: a reader that hangs takes a twentieth of our time at most."""


class Sink(Protocol):
    """A place for lines. Safe from any thread; several processes may share the place."""

    def write(self, line: bytes) -> None:
        """Write one line, its LF included, in one piece. Raises OSError."""

    def reopen(self) -> None:
        """Forget what is open: it was rotated, or restarted. Never raises."""


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
