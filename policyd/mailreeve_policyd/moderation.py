"""How often the same thing is said: so many times in a minute, and then how many times it was not.

For records and log lines that a peer can bring about as fast as it likes. What is said is others' to know.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

WINDOW_SECONDS = 60.0

MAX_KEYS = 100
"""Kinds of things are words of ours and far fewer. Of further ones nothing is said."""


class Moderation:
    """Counts by kind, for one process; safe from any thread. `clock` gives seconds that never go back."""

    __slots__ = ("_clock", "_lock", "_most", "_windows")

    def __init__(self, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = most
        self._clock = clock
        self._lock = threading.Lock()
        self._windows: dict[str, _Window] = {}

    def admit(self, kind: str) -> int | None:
        """May it be said? None: no. Else how many of its kind were not said since the last one that was."""
        now = self._clock()
        with self._lock:
            window = self._windows.get(kind)
            if window is None:
                if len(self._windows) >= MAX_KEYS:
                    return None
                window = self._windows[kind] = _Window(now)
            return window.admit(now, self._most)


class _Window:
    """A minute of one kind."""

    __slots__ = ("_began", "_said", "_unsaid")

    def __init__(self, now: float) -> None:
        self._began = now
        self._said = 0
        self._unsaid = 0

    def admit(self, now: float, most: int) -> int | None:
        if now - self._began >= WINDOW_SECONDS:
            self._began, self._said = now, 0
        if self._said >= most:
            self._unsaid += 1
            return None
        self._said += 1
        unsaid, self._unsaid = self._unsaid, 0
        return unsaid
