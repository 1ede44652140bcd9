"""Courier: a bounded queue and one thread that brings notices to one target, tries again, and gives up.

Knows when to try, not how (a Target does). Whoever posts never waits: a full queue drops. The thread starts
with the first notice, so that it is never there before a fork, and a daemon that tells nobody has none.
"""

from __future__ import annotations

import heapq
import logging
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

from mailreeve_policyd.escape import escape
from mailreeve_policyd.notices_event import NoticeEvent, describe

log = logging.getLogger(__name__)

MAX_JITTER = 0.25
"""Of each wait, on top of it."""

HOUR_SECONDS = 3600.0

MAX_WAIT_SECONDS = 3600.0
"""Between two tries, however often the wait was doubled."""


class Fate(Enum):
    """What became of one try."""

    TAKEN = "taken"
    LATER = "not now"
    """It may go better another time."""
    NEVER = "refused"
    """Another try would find the same, or might tell somebody twice."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try and what the other side said, printable and bounded; it holds no secret."""

    fate: Fate
    said: str


class Target(Protocol):
    """Somewhere that notices go. For one thread."""

    @property
    def name(self) -> str:
        """`mail` or `webhook`, for the log and the metrics."""

    def addressees(self, event: NoticeEvent) -> Sequence[str]:
        """To whom a notice goes there, each once; each is told, and tried again, for itself."""

    def deliver(self, event: NoticeEvent, addressee: str) -> Attempt:
        """Try once. Raises nothing that is not a bug."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How often it is tried, how long until the second try, and how many may wait at once."""

    tries: int = 5
    retry_seconds: float = 30.0
    queue_size: int = 1000
    most_an_hour: int | None = None
    """To one addressee, who may be a person; None for a program, which is told of everything."""

    def wait(self, tried: int, chance: float) -> float:
        """Seconds until the next try after so many; `chance` is from 0 to 1."""
        doubled = self.retry_seconds * 2.0 ** min(tried - 1, 30)
        return min(doubled, MAX_WAIT_SECONDS) * (1 + MAX_JITTER * chance)


@dataclass(frozen=True, slots=True)
class NoticeCounters:
    """What became of the notices for one target in this process, for the metrics.

    All but `waiting` only grow. `sent` were taken, `failed` given up, `dropped` never tried because the queue
    was full, `retried` counts tries that are to be made again. One notice to two people counts twice.
    """

    target: str
    waiting: int = 0
    sent: int = 0
    failed: int = 0
    dropped: int = 0
    retried: int = 0


@dataclass(order=True, slots=True)
class _Errand:
    """A notice on its way to one addressee; sorted by when it is due."""

    due: float
    number: int
    event: NoticeEvent = field(compare=False)
    addressee: str = field(compare=False)
    tried: int = field(default=0, compare=False)


@dataclass(slots=True)
class _Tally:
    sent: int = 0
    failed: int = 0
    dropped: int = 0
    retried: int = 0


class Courier:
    """Brings notices to a target. `post` and `counters` from any thread; `begin_to_close` and `finish` once.

    `clock` gives seconds that only grow, `chance` a number from 0 to 1.
    """

    def __init__(
        self,
        target: Target,
        patience: Patience,
        *,
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._target = target
        self._patience = patience
        self._clock = clock
        self._chance = chance
        self._changed = threading.Condition()
        self._errands: list[_Errand] = []
        self._under_way: _Errand | None = None
        self._numbers = 0
        self._tally = _Tally()
        self._has_said_full = False
        self._hour_ends = 0.0
        self._in_hour: Counter[str] = Counter()
        self._thread: threading.Thread | None = None
        self._closing_until: float | None = None

    def post(self, event: NoticeEvent) -> None:
        """Have a notice brought to all its addressees, soon. Returns at once."""
        addressees = self._target.addressees(event)
        if not addressees:
            return
        with self._changed:
            for addressee in addressees:
                if self._has_had_enough(addressee):
                    self._tally.dropped += 1
                else:
                    self._add(event, addressee)
            if self._thread is None:
                self._start()
            self._changed.notify()

    def _has_had_enough(self, addressee: str) -> bool:
        """Count one more notice in this hour; the first that is too much is logged."""
        most = self._patience.most_an_hour
        if most is None:
            return False
        now = self._clock()
        if now >= self._hour_ends:
            self._hour_ends = now + HOUR_SECONDS
            self._in_hour.clear()
        self._in_hour[addressee] += 1
        if self._in_hour[addressee] == most + 1:
            log.warning(
                "%s has had %d notices by %s in an hour (notices.most_an_hour): further ones are dropped",
                escape(addressee),
                most,
                self._target.name,
            )
        return self._in_hour[addressee] > most

    def _add(self, event: NoticeEvent, addressee: str) -> None:
        if len(self._errands) >= self._patience.queue_size:
            self._tally.dropped += 1
            if not self._has_said_full:
                self._has_said_full = True
                log.error(
                    "%d notices wait for the %s (notices.queue_size): further ones are dropped",
                    len(self._errands),
                    self._target.name,
                )
            return
        self._numbers += 1
        heapq.heappush(self._errands, _Errand(self._clock(), self._numbers, event, addressee))

    def _start(self) -> None:
        try:
            self._thread = threading.Thread(
                target=self._run, name=f"notices by {self._target.name}", daemon=True
            )
            self._thread.start()
        except RuntimeError:  # "can't start new thread": the next notice tries again
            self._thread = None
            log.error("no thread for notices by %s can be started", self._target.name)  # noqa: TRY400 -- the system's trouble

    def counters(self) -> NoticeCounters:
        """How things stand."""
        with self._changed:
            tally = self._tally
            waiting = len(self._errands) + (self._under_way is not None)
            return NoticeCounters(
                self._target.name, waiting, tally.sent, tally.failed, tally.dropped, tally.retried
            )

    def begin_to_close(self, seconds: float) -> None:
        """Try what waits once more, now and within this time."""
        with self._changed:
            self._closing_until = self._clock() + seconds
            self._changed.notify()

    def finish(self) -> None:
        """Wait for that, after `begin_to_close`; what is left then is logged and counted as failed."""
        with self._changed:
            thread, until = self._thread, self._closing_until or self._clock()
        if thread is not None:
            thread.join(max(0.0, until - self._clock()))
        self._give_up()

    def _give_up(self) -> None:
        with self._changed:
            left = [errand.event for errand in sorted(self._errands)]
            if self._under_way is not None:
                left.insert(0, self._under_way.event)
            self._errands.clear()
            self._tally.failed += len(left)
        if left:
            log.error(
                "%d notices by %s are lost at the end: %s", len(left), self._target.name, describe(left)
            )

    # -- the thread -----------------------------------------------------------------------------------

    def _run(self) -> None:
        while (errand := self._next()) is not None:
            attempt = self._try(errand)
            self._conclude(errand, attempt)

    def _next(self) -> _Errand | None:
        """The next one, as soon as it is due; None when it is time to end."""
        with self._changed:
            while True:
                if self._closing_until is not None:
                    return self._next_at_the_end(self._closing_until)
                wait = self._errands[0].due - self._clock() if self._errands else None
                if wait is not None and wait <= 0:
                    return self._take()
                self._changed.wait(wait)

    def _next_at_the_end(self, until: float) -> _Errand | None:
        return self._take() if self._errands and self._clock() < until else None

    def _take(self) -> _Errand:
        self._under_way = errand = heapq.heappop(self._errands)
        if not self._errands:
            self._has_said_full = False
        return errand

    def _try(self, errand: _Errand) -> Attempt:
        try:
            return self._target.deliver(errand.event, errand.addressee)
        except Exception:
            log.exception("a notice was not sent: this is a bug")
            return Attempt(Fate.NEVER, "a bug")

    def _conclude(self, errand: _Errand, attempt: Attempt) -> None:
        with self._changed:
            self._under_way = None
            errand.tried += 1
            if attempt.fate is Fate.TAKEN:
                self._tally.sent += 1
                return
            is_ending = self._closing_until is not None
            may_again = attempt.fate is Fate.LATER and errand.tried < self._patience.tries
            if may_again and not is_ending:
                self._tally.retried += 1
                errand.due = self._clock() + self._patience.wait(errand.tried, self._chance())
                heapq.heappush(self._errands, errand)
            else:
                self._tally.failed += 1
        self._say(errand, attempt, again=may_again and not is_ending)

    def _say(self, errand: _Errand, attempt: Attempt, *, again: bool) -> None:
        who, what = escape(errand.addressee), f"{errand.event.kind} by {errand.event.rule}"
        if again:
            log.info("the notice of %s was not taken for %s, it is tried again: %s", what, who, attempt.said)
        else:
            log.error("the notice of %s did not reach %s: %s", what, who, attempt.said)
