"""Threads that charge one store again and again while a test breaks what it counts in."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from mailreeve_policyd.limits import Charge, LimitStore, Usage

THREADS = 4
PAUSE_SECONDS = 0.001


class Load:
    """Charges `charges` from entry to exit; `answers` are all that came, of which one took `longest` seconds.

    What ends a thread, an error that the store must not let out, is raised at the exit.
    """

    def __init__(self, store: LimitStore, charges: Sequence[Charge]) -> None:
        self.answers: list[tuple[Usage, ...]] = []
        self.longest = 0.0
        self._store = store
        self._charges = charges
        self._is_over = threading.Event()
        self._errors: list[Exception] = []
        self._threads = [threading.Thread(target=self._run) for _ in range(THREADS)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._is_over.set()
        for thread in self._threads:
            thread.join()
        if self._errors:
            raise self._errors[0]

    def passed(self, place: int = 0, *, degraded: bool) -> int:
        """How many the limit at this place let through, counted by its store or without it."""
        found = [usages[place] for usages in self.answers]
        return sum(not usage.exceeded for usage in found if usage.degraded is degraded)

    def is_refused_by_the_store(self) -> bool:
        """Did the latest answer come from the store, and let nothing through?"""
        usages = self.answers[-1]
        return any(usage.exceeded for usage in usages) and not any(usage.degraded for usage in usages)

    def _run(self) -> None:
        try:
            while not self._is_over.wait(PAUSE_SECONDS):
                begun = time.monotonic()
                self.answers.append(self._store.charge(self._charges))
                self.longest = max(self.longest, time.monotonic() - begun)
        except Exception as error:  # noqa: BLE001 raised in the test's own thread
            self._errors.append(error)
