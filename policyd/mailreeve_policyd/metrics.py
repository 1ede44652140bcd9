"""What a worker counts of its own doings, for Prometheus (docs/metrics.md has the list).

It is told of each decision by whoever records it, and looks now and then at what others count. Costs a
decision one lock and some stores into memory that all processes of the daemon share (metrics_ledger.py).
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import Literal, Protocol

from mailreeve_policyd import metrics_catalogue as catalogue
from mailreeve_policyd.audit import AuditCounts
from mailreeve_policyd.audit_record import Occurrence
from mailreeve_policyd.authres import MethodResult
from mailreeve_policyd.limits_outage import WatchedStore
from mailreeve_policyd.metrics_catalogue import SECONDS, Family
from mailreeve_policyd.metrics_followed import Followed, Notices, no_notices
from mailreeve_policyd.metrics_ledger import Tally
from mailreeve_policyd.metrics_store import TimedStore
from mailreeve_policyd.resolver_statistics import DnsStatistics
from mailreeve_policyd.verdict import LIMITS_UNKNOWN, LimitUsage, Verdict

DaemonName = Literal["policyd", "milter"]

LOOK_SECONDS = 1.0
"""How often it is looked at what others count: so late may those numbers be."""

NO_RULE = "-"
"""Where no rule decided; no rule can have this name."""

OTHER = "other"
"""Instead of a word that is not in a closed set."""

RESULT_WORDS = frozenset(
    ("none", "pass", "fail", "softfail", "neutral", "policy", "temperror", "permerror", "hardfail")
)
"""RFC 8601 section 2.7: what a result may be."""

METHODS = frozenset(("spf", "dkim", "dmarc", "arc", "iprev"))


class Metrics(Protocol):
    """What the parts of a worker tell. Safe from any thread, never raises."""

    def observe(self, occurrence: Occurrence) -> None:
        """A decision was made, or a message answered."""

    def bound_exceeded(self, bound: str) -> None:
        """A peer went beyond a bound: the name of its setting."""

    def dns_asked(self, seconds: float) -> None:
        """A DNS server was asked, and took so long."""

    def timed(self, store: WatchedStore) -> WatchedStore:
        """The store, its calls measured."""

    def follow(
        self,
        *,
        dns: Callable[[], DnsStatistics],
        store: WatchedStore,
        records: AuditCounts,
        notices: Callable[[], Sequence[Notices]] = no_notices,
    ) -> None:
        """Look from now on what these count, in a thread of its own. Once, after the fork."""

    def finish(self) -> None:
        """Look a last time: this worker ends."""


def metrics_of(tally: Tally | None, daemon: DaemonName) -> Metrics:
    """What counts in the tally that the parent gave this worker; without one (they are off) nothing does."""
    return _NoMetrics() if tally is None else WorkerMetrics(tally, daemon)


class _NoMetrics:
    """Counts nothing."""

    def observe(self, occurrence: Occurrence) -> None:
        """See Metrics."""

    def bound_exceeded(self, bound: str) -> None:
        """See Metrics."""

    def dns_asked(self, seconds: float) -> None:
        """See Metrics."""

    def timed(self, store: WatchedStore) -> WatchedStore:
        """See Metrics."""
        return store

    def follow(
        self,
        *,
        dns: Callable[[], DnsStatistics],
        store: WatchedStore,
        records: AuditCounts,
        notices: Callable[[], Sequence[Notices]] = no_notices,
    ) -> None:
        """See Metrics."""

    def finish(self) -> None:
        """See Metrics."""


class WorkerMetrics:
    """Counts in a tally. `daemon` is a label of what both daemons count."""

    def __init__(self, tally: Tally, daemon: DaemonName) -> None:
        self._tally = tally
        self._numbers = tally.numbers
        self._daemon = daemon
        self._lock = threading.Lock()
        self._places: dict[object, int] = {}
        self._spent: dict[object, tuple[int, dict[str, int]]] = {}
        for family in _FROM_THE_START:  # a rate needs the zero before the first one
            tally.place(family, daemon)
        self._store_calls = tally.place(catalogue.STORE_CALLS, daemon)
        self._store_errors = tally.place(catalogue.STORE_ERRORS, daemon)
        self._dns_asking = tally.place(catalogue.DNS_ASKING, daemon)
        self._look: Callable[[], None] = lambda: None
        self._ended = threading.Event()

    # -- decisions -----------------------------------------------------------------------------------

    def observe(self, occurrence: Occurrence) -> None:
        """See Metrics."""
        verdict = occurrence.verdict
        with self._lock:
            self._count_spent(occurrence)
            if occurrence.repeated:
                self._add(catalogue.REPEATED, self._daemon)
                return
            self._count_verdict(occurrence.event, occurrence.transaction.stage._value_, verdict)
            evidence = occurrence.transaction.evidence
            if evidence is not None:
                for result in evidence.results:
                    self._count_result(result)
            for usage in verdict.limits:
                if usage.exceeded or usage.degraded:
                    self._count_limits(verdict.limits)
                    break
            if verdict.observed or verdict.unknown or verdict.skipped:
                self._count_remarks(verdict)
            if occurrence.signatures or occurrence.removed or occurrence.error:
                self._count_changes(occurrence)

    def _count_spent(self, occurrence: Occurrence) -> None:
        stage = occurrence.transaction.stage
        known = self._spent.get(stage)
        if known is None:
            known = self._tally.place(catalogue.DURATION, self._daemon, stage.value), {}
            self._spent[stage] = known
        duration, parts = known
        numbers = self._numbers
        for part, seconds in occurrence.spent.items():
            if part == "total":
                numbers[duration + bisect_left(SECONDS, seconds)] += 1.0
                numbers[duration + _SUM] += seconds
                continue
            place = parts.get(part)
            if place is None:
                place = self._tally.place(catalogue.SPENT, self._daemon, stage.value, part)
                parts[part] = place
            numbers[place] += seconds

    def _count_verdict(self, event: str, stage: str, verdict: Verdict) -> None:
        key = event, stage, verdict.action, verdict.rule
        place = self._places.get(key)
        if place is None:
            words = verdict.action.value, verdict.rule or NO_RULE
            place = self._places[key] = (
                self._tally.place(catalogue.MESSAGES, *words)
                if event == "message"
                else self._tally.place(catalogue.DECISIONS, self._daemon, stage, *words)
            )
        self._numbers[place] += 1.0

    def _count_result(self, result: MethodResult) -> None:
        is_of_helo = result.method == "spf" and "smtp.mailfrom" not in result.properties
        key = result.method, result.result, is_of_helo
        place = self._places.get(key)
        if place is None:
            method = result.method if result.method in METHODS else OTHER
            word = result.result if result.result in RESULT_WORDS else OTHER
            method = "spf-helo" if is_of_helo else method
            place = self._tally.place(catalogue.RESULTS, self._daemon, method, word)
            if OTHER not in (method, word):  # what is no word of ours is not remembered either
                self._places[key] = place
        self._numbers[place] += 1.0

    def _count_limits(self, limits: Sequence[LimitUsage]) -> None:
        for usage in limits:
            if usage.exceeded:
                observed = "yes" if usage.observed else "no"
                self._add(catalogue.EXCEEDED, self._daemon, usage.rule, observed)
        if any(usage.degraded for usage in limits):
            self._add(catalogue.DEGRADED, self._daemon)

    def _count_remarks(self, verdict: Verdict) -> None:
        for seen in verdict.observed:
            self._add(catalogue.OBSERVED, self._daemon, seen.rule, seen.action)
        for fact in verdict.unknown:
            self._add(catalogue.UNKNOWN, self._daemon, fact)
        for rule in verdict.skipped:
            self._add(catalogue.SKIPPED, self._daemon, rule)
        if LIMITS_UNKNOWN in verdict.unknown and not verdict.limits:
            self._add(catalogue.DEGRADED, self._daemon)

    def _count_changes(self, occurrence: Occurrence) -> None:
        for signature in occurrence.signatures:
            self._add(catalogue.SIGNATURES, signature.algorithm)
        self._add(catalogue.FORGED, amount=len(occurrence.removed))
        if occurrence.error:
            self._add(catalogue.ERRORS, self._daemon)

    def _add(self, family: Family, *labels: str, amount: float = 1.0) -> None:
        """For what is rare."""
        self._numbers[self._tally.place(family, *labels)] += amount

    # -- what others do ------------------------------------------------------------------------------

    def bound_exceeded(self, bound: str) -> None:
        """See Metrics."""
        with self._lock:
            self._add(catalogue.OVERRUNS, self._daemon, bound)

    def dns_asked(self, seconds: float) -> None:
        """See Metrics."""
        with self._lock:
            self._observe_at(self._dns_asking, seconds)

    def store_asked(self, seconds: float, errors: int) -> None:
        """The limit store was asked once; so many charges had no answer."""
        with self._lock:
            self._observe_at(self._store_calls, seconds)
            self._numbers[self._store_errors] += errors

    def _observe_at(self, place: int, seconds: float) -> None:
        self._numbers[place + bisect_left(SECONDS, seconds)] += 1.0
        self._numbers[place + _SUM] += seconds

    def timed(self, store: WatchedStore) -> WatchedStore:
        """See Metrics."""
        return TimedStore(store, self.store_asked)

    def follow(
        self,
        *,
        dns: Callable[[], DnsStatistics],
        store: WatchedStore,
        records: AuditCounts,
        notices: Callable[[], Sequence[Notices]] = no_notices,
    ) -> None:
        """See Metrics."""
        followed = Followed(self._tally, self._daemon, dns, store, records, notices)

        def look() -> None:
            with self._lock:
                followed.look()

        self._look = look
        threading.Thread(target=self._look_again, name="metrics", daemon=True).start()

    def _look_again(self) -> None:
        while True:
            self._look()
            if self._ended.wait(LOOK_SECONDS):
                return

    def finish(self) -> None:
        """See Metrics."""
        self._ended.set()
        self._look()


_SUM = len(SECONDS) + 1
"""Behind the buckets of a histogram."""

_FROM_THE_START = (
    catalogue.REPEATED,
    catalogue.ERRORS,
    catalogue.DEGRADED,
)
