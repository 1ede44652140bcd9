"""What the service manager is told of the daemons: that they serve, since when, and how the last reload went.

Knows words; knows no signals and no processes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

from mailreeve_policyd.crew import Crew
from mailreeve_policyd.systemd import Notifier


def _now() -> datetime:
    return datetime.now().astimezone()


class Bulletin:
    """Says each thing once: a line that is the same as the last one is not sent."""

    def __init__(self, notifier: Notifier, clock: Callable[[], datetime] = _now) -> None:
        self._notifier = notifier
        self._clock = clock
        self._since = ""
        self._trouble = ""
        self._said = ""
        self._is_ready = False

    def loaded(self, serving: int, crews: Sequence[Crew]) -> None:
        """The workers of a configuration serve: the first ones, or those of a reload."""
        self._since = self._clock().isoformat(" ", "seconds")
        self._trouble = ""
        self._is_ready = True
        self._say_ready(serving, crews)

    def _say_ready(self, serving: int, crews: Sequence[Crew]) -> None:
        self._said = self._line(serving, crews)
        self._notifier.ready(self._said)

    def loading(self) -> None:
        """A reload begins. Before the daemons serve at all there is nothing to reload."""
        if self._is_ready:
            self._said = ""
            self._notifier.reloading()

    def not_loaded(self, why: str) -> None:
        """A reload has failed; `tell` says so soon."""
        when = self._clock().isoformat(" ", "seconds")
        self._trouble = f"; the reload of {when} failed: {why}"

    def tell(self, serving: int, crews: Sequence[Crew]) -> None:
        """How many workers serve now."""
        if not self._is_ready or self._line(serving, crews) == self._said:
            return
        if self._said:
            self._said = self._line(serving, crews)
            self._notifier.status(self._said)
        else:  # a reload has ended, without new workers
            self._say_ready(serving, crews)

    def stopping(self) -> None:
        """They drain."""
        self._notifier.stopping()

    def _line(self, serving: int, crews: Sequence[Crew]) -> str:
        names = " and ".join(crew.daemon.name for crew in crews if crew.daemon.is_vital)
        return f"{names}: {serving} workers, configuration of {self._since}{self._trouble}"
