"""What happens while a limit store is away: `on-unavailable local | open | closed` (DESIGN.md section 5).

Knows two stores by their port only. An outage costs the requests that meet its beginning the store's
timeout; after that one request at a time tries again, at growing intervals, and all others go on at once.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from mailreeve_policyd.errors import StoreError
from mailreeve_policyd.escape import escape
from mailreeve_policyd.limits import Charge, LimitStore, OnUnavailable, Usage

FIRST_RETRY_SECONDS = 1.0
LAST_RETRY_SECONDS = 30.0
"""Between tries: doubled from the first to the last, so that a return is seen within half a minute."""


@dataclass(frozen=True, slots=True)
class Outage:
    """How things stand with a store, for metrics and `doctor`."""

    is_away: bool
    outages: int
    """How often it went away since the start."""
    degraded: int
    """Calls that were answered without it since the start."""


class FallbackStore:
    """A LimitStore that answers without `primary` while that is away, and goes back to it by itself.

    LOCAL: `local` counts meanwhile, which may let N more through on each machine. OPEN: nothing is
    counted and nothing exceeded. CLOSED: StoreError at once. What is answered without the primary is
    `degraded`. `clock` gives seconds that only grow; `name` is what the log calls the primary, and
    `local_means` what it says of counting in `local`.
    """

    def __init__(
        self,
        primary: LimitStore,
        local: LimitStore | None,
        mode: OnUnavailable,
        log: logging.Logger,
        *,
        clock: Callable[[], float] = time.monotonic,
        name: str = "the limit store",
        local_means: str = "limits are counted on this machine alone",
    ) -> None:
        if mode is OnUnavailable.LOCAL and local is None:
            raise ValueError("on-unavailable local needs a local store")
        self._primary = primary
        self._local = local
        self._mode = mode
        self._log = log
        self._name = name
        self._meanwhile = _MEANWHILE.get(mode, local_means)
        self._clock = clock
        self._lock = threading.Lock()
        self._is_away = False
        self._next_try = 0.0
        self._interval = FIRST_RETRY_SECONDS
        self._outages = 0
        self._degraded = 0

    @property
    def outage(self) -> Outage:
        """How things stand."""
        with self._lock:
            return Outage(self._is_away, self._outages, self._degraded)

    def charge(self, charges: Sequence[Charge]) -> tuple[Usage, ...]:
        """Charge the primary, or do without: LimitStore.charge."""
        return self._ask(lambda store: store.charge(charges), charges)

    def usage(self, charges: Sequence[Charge]) -> tuple[Usage, ...]:
        """Ask the primary, or do without: LimitStore.usage."""
        return self._ask(lambda store: store.usage(charges), charges)

    def close(self) -> None:
        """Close both."""
        self._primary.close()
        if self._local is not None:
            self._local.close()

    def _ask(
        self, question: Callable[[LimitStore], tuple[Usage, ...]], charges: Sequence[Charge]
    ) -> tuple[Usage, ...]:
        if self._may_try():
            try:
                answer = question(self._primary)
            except StoreError as error:
                self._went(error)
            else:
                self._answered()
                return answer
        return self._without(question, charges)

    def _without(
        self, question: Callable[[LimitStore], tuple[Usage, ...]], charges: Sequence[Charge]
    ) -> tuple[Usage, ...]:
        with self._lock:
            self._degraded += 1
        if self._mode is OnUnavailable.CLOSED:
            raise StoreError(f"{self._name} is away")
        if self._mode is OnUnavailable.OPEN or self._local is None:
            return tuple(Usage(0, charge.limit.maximum, exceeded=False, degraded=True) for charge in charges)
        return tuple(replace(usage, degraded=True) for usage in question(self._local))

    def _may_try(self) -> bool:
        if not self._is_away:  # read without the lock: at worst one request more meets the outage
            return True
        with self._lock:
            if not self._is_away:
                return True
            now = self._clock()
            if now < self._next_try:
                return False
            self._next_try = now + self._interval  # nobody else tries meanwhile
            self._interval = min(2 * self._interval, LAST_RETRY_SECONDS)
            return True

    def _went(self, error: StoreError) -> None:
        with self._lock:
            if self._is_away:
                return
            self._is_away = True
            self._outages += 1
            self._interval = FIRST_RETRY_SECONDS
            self._next_try = self._clock() + self._interval
        why = escape(str(error))
        self._log.warning("%s is away (%s): meanwhile %s", self._name, why, self._meanwhile)

    def _answered(self) -> None:
        if not self._is_away:
            return
        with self._lock:
            if not self._is_away:
                return
            self._is_away = False
        self._log.warning("%s is back", self._name)


_MEANWHILE = {
    OnUnavailable.OPEN: "nothing is counted",
    OnUnavailable.CLOSED: "what has a limit is deferred",
}
