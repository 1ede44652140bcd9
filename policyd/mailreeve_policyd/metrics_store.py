"""A limit store whose calls are measured. Knows stores by their port only."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from mailreeve_policyd.errors import StoreError
from mailreeve_policyd.limits import Charge, Charged, Usage
from mailreeve_policyd.limits_outage import Outage, WatchedStore


class TimedStore:
    """A limit store whose calls are told: how long each took, and how many charges it could not answer."""

    def __init__(
        self,
        store: WatchedStore,
        told: Callable[[float, int], None],
        stopwatch: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._store = store
        self._told = told
        self._stopwatch = stopwatch

    @property
    def outage(self) -> Outage:
        """WatchedStore.outage."""
        return self._store.outage

    def charge(self, charges: Sequence[Charge]) -> tuple[Usage, ...]:
        """LimitStore.charge."""
        return self._time(self._store.charge, charges)

    def usage(self, charges: Sequence[Charge]) -> tuple[Usage, ...]:
        """LimitStore.usage."""
        return self._time(self._store.usage, charges)

    def charge_each(self, calls: Sequence[Sequence[Charge]]) -> Sequence[Charged]:
        """LimitStore.charge_each."""
        if not calls:
            return self._store.charge_each(calls)
        began = self._stopwatch()
        answers = self._store.charge_each(calls)
        self._told(self._stopwatch() - began, sum(isinstance(one, StoreError) for one in answers))
        return answers

    def close(self) -> None:
        """LimitStore.close."""
        self._store.close()

    def _time(
        self, ask: Callable[[Sequence[Charge]], tuple[Usage, ...]], charges: Sequence[Charge]
    ) -> tuple[Usage, ...]:
        began, errors = self._stopwatch(), 0
        try:
            return ask(charges)
        except StoreError:
            errors = 1
            raise
        finally:
            self._told(self._stopwatch() - began, errors)
