"""Which notices are due: each once a key and window, on whatever machine and in whatever process it arises.

The limit store says so, in its atomic step: a notice is a limit of one in its window. What it said is
remembered here for as long as it holds, so that a flood that is refused does not ask it again each time.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from datetime import timedelta

from mailreeve_policyd.errors import StoreError
from mailreeve_policyd.limits import LimitStore
from mailreeve_policyd.notice import Notice

MAX_REMEMBERED = 10_000
"""Keys whose notice was given lately: about two megabytes. Beyond that the oldest is asked again."""

RETRY_SECONDS = 10.0
"""Until a store that could not say is asked again about the same key."""


class NoticesOnce:
    """Lets each notice through once in its window. Safe from any thread.

    `clock` gives seconds that only grow.
    """

    def __init__(self, store: LimitStore, clock: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._clock = clock
        self._lock = threading.Lock()
        self._quiet_until: dict[bytes, float] = {}

    def due(self, notices: Sequence[Notice]) -> tuple[Notice, ...]:
        """Those that nobody has given in the window; they count as given now.

        While the store cannot say, none is: rather a notice too few than one a message.
        """
        return tuple([notice for notice in notices if self._is_due(notice)])

    def _is_due(self, notice: Notice) -> bool:
        now = self._clock()
        if now < self._quiet_until.get(notice.key, 0.0):
            return False
        try:
            (usage,) = self._store.charge((notice.once,))
        except StoreError:
            self._remember(notice.key, now + RETRY_SECONDS)
            return False
        wait = usage.retry_after if usage.exceeded else notice.window
        self._remember(notice.key, now + (wait or timedelta(0)).total_seconds())
        return not usage.exceeded

    def _remember(self, key: bytes, until: float) -> None:
        with self._lock:
            self._quiet_until.pop(key, None)
            self._quiet_until[key] = until
            if len(self._quiet_until) > MAX_REMEMBERED:
                del self._quiet_until[next(iter(self._quiet_until))]
