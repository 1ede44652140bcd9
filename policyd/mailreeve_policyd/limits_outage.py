"""What happens while a limit store is away: `on-unavailable local | open | closed` (DESIGN.md section 5).

Knows stores by their port only. An outage costs the requests that meet its beginning the store's timeout;
after that all go on at once without it, and a thread of the process tries again, at growing intervals.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from msgspec.structs import replace

from mailreeve_policyd.errors import StoreError
from mailreeve_policyd.escape import escape
from mailreeve_policyd.limits import (
    Charge,
    Charged,
    Limit,
    LimitStore,
    OnUnavailable,
    Unit,
    Usage,
    charge_one_by_one,
    limit_key,
)

FIRST_RETRY_SECONDS = 0.25
LAST_RETRY_SECONDS = 15.0
"""Between tries: doubled from the first to the last. A return is seen within the last, and whoever sends
once an hour does not wait for the next message to see it."""

END_SECONDS = 1.0
"""How long the end of a process waits for a try that is under way."""

PROBE_LIMIT = Limit(2**53 - 1, Unit.MESSAGES, timedelta(seconds=1))
PROBE = Charge("", limit_key("", PROBE_LIMIT, ["is it back?"]), PROBE_LIMIT, 1)
"""What is charged to see whether a store is back: a full disk and a replica answer questions, too."""

LOCAL_MEANS = "limits are counted on this machine alone"

Verb = Callable[[LimitStore, Sequence[Charge]], tuple[Usage, ...]]


def charge(store: LimitStore, charges: Sequence[Charge]) -> tuple[Usage, ...]:
    """LimitStore.charge as a verb."""
    return store.charge(charges)


def usage(store: LimitStore, charges: Sequence[Charge]) -> tuple[Usage, ...]:
    """LimitStore.usage as a verb."""
    return store.usage(charges)


@dataclass(frozen=True, slots=True)
class Outage:
    """How things stand with a store, for metrics and `doctor`."""

    is_away: bool
    outages: int
    """How often it, or a part of it, went away since the start."""
    degraded: int
    """Calls that were answered without it, or without a part of it, since the start."""


class WatchedStore(LimitStore, Protocol):
    """A store that goes on while what it counts in is away."""

    @property
    def outage(self) -> Outage:
        """How things stand."""


class Retries(Protocol):
    """Whoever tries again."""

    def begin(self, attempt: Callable[[], float | None], seconds: float) -> None:
        """Attempt after so many seconds, and again after as many as it returns, until that is None."""

    def end(self) -> None:
        """Attempt no more."""


class ThreadRetries:
    """Tries again in a thread, which lives as long as an outage."""

    def __init__(self) -> None:
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def begin(self, attempt: Callable[[], float | None], seconds: float) -> None:
        """See Retries."""
        self._thread = threading.Thread(
            target=self._run, args=(attempt, seconds), name="limit store", daemon=True
        )
        self._thread.start()

    def end(self) -> None:
        """See Retries. Waits for END_SECONDS at most."""
        self._ended.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(END_SECONDS)

    def _run(self, attempt: Callable[[], float | None], seconds: float) -> None:
        wait: float | None = seconds
        while wait is not None and not self._ended.wait(wait):
            wait = attempt()


class Circuit:
    """Whether one thing answers, seen by those who ask it and by the tries while it does not.

    `probe` asks it and raises StoreError while it is away. It is logged once when it goes and once when
    it returns: `name` is what the log calls it, `meanwhile` what it says of the time between. `clock`
    gives seconds that only grow.
    """

    def __init__(
        self,
        name: str,
        meanwhile: str,
        probe: Callable[[], object],
        log: logging.Logger,
        *,
        retries: Retries | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name = name
        self._meanwhile = meanwhile
        self._probe = probe
        self._log = log
        self._retries: Retries = retries or ThreadRetries()
        self._clock = clock
        self._lock = threading.Lock()
        self._interval = FIRST_RETRY_SECONDS
        self._returned: float | None = None
        self.is_away = False
        """Read without a lock: at worst one request more meets the outage."""
        self.outages = 0

    def went(self, error: StoreError) -> None:
        """It did not answer."""
        with self._lock:
            if self.is_away:
                return
            self.is_away = True
            self.outages += 1
            if self._returned is None or self._clock() - self._returned > LAST_RETRY_SECONDS:
                self._interval = FIRST_RETRY_SECONDS  # else it comes and goes, and is tried ever more rarely
        why = escape(str(error))
        self._log.warning("%s is away (%s): meanwhile %s", self._name, why, self._meanwhile)
        self._retries.begin(self._attempt, self._interval)

    def close(self) -> None:
        """Try no more."""
        self._retries.end()

    def _attempt(self) -> float | None:
        try:
            self._probe()
        except StoreError:
            self._interval = min(2 * self._interval, LAST_RETRY_SECONDS)
            return self._interval
        except Exception:  # noqa: BLE001 our bug, and no reason to do without the store for ever
            self._log.exception("%s could not be tried again", self._name)
            return LAST_RETRY_SECONDS
        with self._lock:
            self.is_away = False
            self._returned = self._clock()
            self._interval = min(2 * self._interval, LAST_RETRY_SECONDS)
        self._log.warning("%s is back", self._name)
        return None


class Meanwhile:
    """Answers for a store that is away, as each charge or else `mode` says; all of it is `degraded`.

    LOCAL: `local` counts, which may let N more through on each machine. OPEN: nothing is counted and
    nothing exceeded. CLOSED: StoreError, and nothing is counted of any.
    """

    def __init__(self, local: LimitStore, mode: OnUnavailable) -> None:
        self._local = local
        self._mode = mode
        self._lock = threading.Lock()
        self.calls = 0
        """How often it was asked."""

    def ask(self, verb: Verb, charges: Sequence[Charge]) -> tuple[Usage, ...]:
        """Do `verb` without the store.

        Raises:
            StoreError: one of the charges is CLOSED, or `local` is away too.
        """
        with self._lock:
            self.calls += 1
        modes = [charge.on_unavailable or self._mode for charge in charges]
        if OnUnavailable.CLOSED in modes:
            raise StoreError("the store is away")
        counted = [one for one, mode in zip(charges, modes, strict=True) if mode is OnUnavailable.LOCAL]
        answers = iter(verb(self._local, counted) if counted else ())
        return tuple(
            replace(next(answers), degraded=True)
            if mode is OnUnavailable.LOCAL
            else Usage(0, charge.limit.maximum, exceeded=False, degraded=True)
            for charge, mode in zip(charges, modes, strict=True)
        )

    def close(self) -> None:
        """Close the local store."""
        self._local.close()


class FallbackStore:
    """A LimitStore that answers without `primary` while that is away, and goes back to it by itself.

    `local` and `mode` are those of Meanwhile, the rest that of Circuit; `local_means` is what the log
    says of counting in `local`.
    """

    def __init__(
        self,
        primary: LimitStore,
        local: LimitStore,
        mode: OnUnavailable,
        log: logging.Logger,
        *,
        name: str = "the limit store",
        local_means: str = LOCAL_MEANS,
        retries: Retries | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._primary = primary
        self._meanwhile = Meanwhile(local, mode)
        self._circuit = Circuit(
            name,
            meanwhile_text(mode, local_means),
            lambda: primary.charge([PROBE]),
            log,
            retries=retries,
            clock=clock,
        )

    @property
    def outage(self) -> Outage:
        """See WatchedStore."""
        return Outage(self._circuit.is_away, self._circuit.outages, self._meanwhile.calls)

    def charge(self, charges: Sequence[Charge]) -> tuple[Usage, ...]:
        """Charge the primary, or do without: LimitStore.charge."""
        return self._ask(charge, charges)

    def charge_each(self, calls: Sequence[Sequence[Charge]]) -> list[Charged]:
        """Charge the primary with all, and do without for those that it could not answer."""
        if self._circuit.is_away:
            return charge_one_by_one(self, calls)
        answers = self._primary.charge_each(calls)
        return [
            self._do_without(charges, answer) if isinstance(answer, StoreError) else answer
            for charges, answer in zip(calls, answers, strict=True)
        ]

    def usage(self, charges: Sequence[Charge]) -> tuple[Usage, ...]:
        """Ask the primary, or do without: LimitStore.usage."""
        return self._ask(usage, charges)

    def close(self) -> None:
        """Close both."""
        self._primary.close()  # a try that is under way ends with it
        self._circuit.close()
        self._primary.close()
        self._meanwhile.close()

    def _do_without(self, charges: Sequence[Charge], error: StoreError) -> Charged:
        self._circuit.went(error)
        try:
            return self._meanwhile.ask(charge, charges)
        except StoreError as meanwhile:
            return meanwhile

    def _ask(self, verb: Verb, charges: Sequence[Charge]) -> tuple[Usage, ...]:
        if not self._circuit.is_away:
            try:
                return verb(self._primary, charges)
            except StoreError as error:
                self._circuit.went(error)
        return self._meanwhile.ask(verb, charges)


def meanwhile_text(mode: OnUnavailable, local_means: str) -> str:
    """What the log says of the time without the store."""
    text = {
        OnUnavailable.LOCAL: local_means,
        OnUnavailable.OPEN: "nothing is counted",
        OnUnavailable.CLOSED: "what has a limit is deferred",
    }
    return f"{text[mode]}, where a rule does not say otherwise"
