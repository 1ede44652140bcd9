"""What the parent of the workers tells Prometheus: who serves, who died, how reloads went.

Knows workers and crews. Must never hinder the parent: without room for numbers there are none.
"""

from __future__ import annotations

import logging
import platform
import time
from collections.abc import Callable, Iterable

from mailreeve_policyd import __version__
from mailreeve_policyd import metrics_catalogue as catalogue
from mailreeve_policyd.crew import Crew, Worker
from mailreeve_policyd.metrics_catalogue import Family
from mailreeve_policyd.metrics_ledger import Ledger, Tally

log = logging.getLogger(__name__)

ANSWERED_SECONDS = 20.0
"""A worker that has not answered its parent for so long is not counted as answering: four questions."""


class ParentMetrics:
    """Counts in a page of the ledger, and gives pages to workers; without a ledger does neither."""

    def __init__(self, ledger: Ledger | None = None, clock: Callable[[], float] = time.time) -> None:
        self._ledger = ledger
        self._clock = clock
        self._is_full = False
        self._tally = self.open_page(self.take_page())
        if self._tally is not None:
            self._set(catalogue.BUILD, 1.0, __version__, platform.python_version())
            self._set(catalogue.STARTED_AT, clock())
            for outcome in ("ok", "failed"):  # a rate needs the zero before the first one
                self._add(catalogue.RELOADS, outcome, amount=0.0)

    # -- pages ---------------------------------------------------------------------------------------

    def take_page(self) -> int | None:
        """A page for a worker that is about to be made; None: it counts nothing."""
        if self._ledger is None:
            return None
        try:
            return self._ledger.take()
        except OSError as error:
            if not self._is_full:
                _say_not_measured(error)
            self._is_full = True
            return None

    def open_page(self, page: int | None) -> Tally | None:
        """That page, in the worker."""
        if self._ledger is None or page is None:
            return None
        try:
            return self._ledger.open(page)
        except OSError as error:
            _say_not_measured(error)
            return None

    def give_back(self, page: int | None) -> None:
        """The worker has ended, or was not made."""
        if self._ledger is not None and page is not None:
            self._ledger.give_back(page)

    # -- events --------------------------------------------------------------------------------------

    def started(self, crew: Crew) -> None:
        """A worker was made."""
        self._add(catalogue.WORKERS_STARTED, crew.daemon.name)
        self._add(catalogue.WORKERS_DIED, crew.daemon.name, amount=0.0)

    def died(self, crew: Crew) -> None:
        """A worker ended that should have gone on."""
        self._add(catalogue.WORKERS_DIED, crew.daemon.name)

    def loaded(self, *, is_reload: bool) -> None:
        """A configuration is in force."""
        self._set(catalogue.LOADED_AT, self._clock())
        self._set(catalogue.LOADED_LAST, 1.0)
        if is_reload:
            self._add(catalogue.RELOADS, "ok")

    def not_loaded(self) -> None:
        """A reload has failed."""
        self._set(catalogue.LOADED_LAST, 0.0)
        self._add(catalogue.RELOADS, "failed")

    def look(self, now: float, workers: Iterable[Worker], crews: Iterable[Crew]) -> None:
        """How things stand at `now` (monotonic); `crews` are those that should serve."""
        if self._tally is None:
            return
        workers = tuple(workers)
        for crew in crews:
            if not crew.daemon.is_vital:
                continue
            name = crew.daemon.name
            serving = [one for one in workers if one.crew is crew and one.serves]
            answering = sum(now - one.answered_at <= ANSWERED_SECONDS for one in serving)
            self._set(catalogue.WORKERS, crew.generation.workers, name, "wanted")
            self._set(catalogue.WORKERS, len(serving), name, "serving")
            self._set(catalogue.WORKERS, answering, name, "answering")
        self._set(catalogue.LOOKED_AT, now)

    def _set(self, family: Family, value: float, *labels: str) -> None:
        if self._tally is not None:
            self._tally.numbers[self._tally.place(family, *labels)] = value

    def _add(self, family: Family, *labels: str, amount: float = 1.0) -> None:
        if self._tally is not None:
            self._tally.numbers[self._tally.place(family, *labels)] += amount


def _say_not_measured(error: OSError) -> None:
    log.warning("no room for the numbers of a process, it is not measured: %s", error.strerror)
