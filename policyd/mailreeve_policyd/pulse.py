"""Whether workers are there: they are asked, their loops answer, and the service manager's watchdog is told.

Kills nobody and reads nothing: the supervisor does. Times are monotonic.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mailreeve_policyd.crew import Crew, Worker
from mailreeve_policyd.systemd import Notifier
from mailreeve_policyd.worker import ASK

BEAT_SECONDS = 5.0
"""How often workers are asked; more often where they or we are given less time to answer."""

MIN_BEAT_SECONDS = 0.05

RECENT_BEATS = 4
"""A worker is there if it answered within so many beats, or within the time after which it is hung."""


class Pulse:
    """Asks at each beat; tells the watchdog only while each daemon has a worker that answers."""

    def __init__(self, notifier: Notifier) -> None:
        self._notifier = notifier
        self._interval = BEAT_SECONDS
        self.next_beat = 0.0

    def beat(self, now: float, workers: Sequence[Worker], crews: Sequence[Crew]) -> None:
        """Do what is due. `crews` are those that should serve."""
        if now < self.next_beat:
            return
        self._interval = self._shortest(crews)
        self.next_beat = now + self._interval
        for worker in workers:
            if worker.serves and worker.asked_at is None:
                worker.asked_at = now
                worker.tell(ASK)
        if crews and all(self._answers(crew, workers, now) for crew in crews if crew.daemon.is_vital):
            self._notifier.alive()

    def hurry(self) -> None:
        """Other crews serve now, who may have less time to answer: the next beat is due at once."""
        self.next_beat = 0.0

    def _shortest(self, crews: Iterable[Crew]) -> float:
        bounds = [crew.generation.hung_after_seconds for crew in crews]
        watchdog = self._notifier.watchdog_seconds
        quarters = [bound / 4 for bound in (*bounds, watchdog) if bound]
        return max(MIN_BEAT_SECONDS, min([BEAT_SECONDS, *quarters]))

    def _answers(self, crew: Crew, workers: Iterable[Worker], now: float) -> bool:
        bound = max(crew.generation.hung_after_seconds, RECENT_BEATS * self._interval)
        times = (one.answered_at for one in workers if one.crew is crew and one.serves)
        return now - max(times, default=float("-inf")) <= bound

    def hung(self, now: float, workers: Iterable[Worker]) -> list[Worker]:
        """Those that have not answered in their time; nobody, where it was we who were not there.

        A parent that was stopped (Ctrl-Z, a suspended machine) finds questions that nobody had time to
        answer: it asks again. It was away if a whole beat passed without it.
        """
        was_away = now - self.next_beat > self._interval
        silent = [one for one in workers if one.is_hung(now)]
        if not was_away:
            return silent
        for worker in silent:
            worker.asked_at = None
        return []
