from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailreeve_policyd.audit import AuditCounts
from mailreeve_policyd.audit_record import Occurrence, Signature
from mailreeve_policyd.authres import MethodResult
from mailreeve_policyd.errors import StoreError
from mailreeve_policyd.limits import Charge, Charged, Limit, Unit, Usage, limit_key
from mailreeve_policyd.limits_outage import Outage
from mailreeve_policyd.metrics import NO_RULE, WorkerMetrics, metrics_of
from mailreeve_policyd.metrics_catalogue import SECONDS
from mailreeve_policyd.metrics_followed import Followed
from mailreeve_policyd.metrics_ledger import Ledger, Tally
from mailreeve_policyd.metrics_text import add_up, format_metrics
from mailreeve_policyd.resolver_statistics import DnsStatistics
from mailreeve_policyd.smtp import Stage
from mailreeve_policyd.transaction import Evidence, Session, Transaction
from mailreeve_policyd.verdict import Action, LimitUsage, Observed, Verdict
from tests.policyd.metrics_read import Exposition

LIMIT = Limit(10, Unit.MESSAGES, timedelta(hours=1))
CHARGE = Charge("burst", limit_key("burst", LIMIT, ["bob"]), LIMIT, 1)


@pytest.fixture
def ledger() -> Iterator[Ledger]:
    made = Ledger()
    yield made
    made.close()


@pytest.fixture
def metrics(ledger: Ledger) -> WorkerMetrics:
    return WorkerMetrics(ledger.open(ledger.take()), "policyd")


def read(ledger: Ledger) -> Exposition:
    return Exposition(format_metrics(add_up(ledger.read())).decode())


def occurrence(verdict: Verdict, results: Sequence[MethodResult] = (), **more: Any) -> Occurrence:
    transaction = Transaction(verdict.stage, Session(), evidence=Evidence(tuple(results)))
    values: dict[str, Any] = {
        "spent": {"total": 0.003, "evidence": 0.001, "decision": 0.002},
        "event": "decision",
    } | more
    return Occurrence(time="", daemon="policyd", transaction=transaction, verdict=verdict, **values)


def test_overruns_are_counted_by_their_bound(ledger: Ledger, metrics: WorkerMetrics) -> None:
    """All of them, also those of which the record does not tell."""
    for bound in ("policyd.max_connections", "policyd.idle_timeout_seconds", "policyd.max_connections"):
        metrics.bound_exceeded(bound)
    metrics_of(None, "policyd").bound_exceeded("policyd.max_connections")

    told = read(ledger)
    assert (
        told.value("mailreeve_bounds_exceeded_total", daemon="policyd", bound="policyd.max_connections") == 2
    )
    assert told.total("mailreeve_bounds_exceeded_total") == 3


def test_decisions_are_counted_by_rule_and_action(ledger: Ledger, metrics: WorkerMetrics) -> None:
    """And by the stage that was asked at; what no rule decided stands under a name that no rule has."""
    for rule in ("burst", "burst", None):
        action = Action.DEFER if rule else Action.CONTINUE
        metrics.observe(occurrence(Verdict(action, Stage.RCPT, rule)))
    told = read(ledger)
    labels = {"daemon": "policyd", "stage": "rcpt"}

    assert told.value("mailreeve_decisions_total", **labels, action="defer", rule="burst") == 2
    assert told.value("mailreeve_decisions_total", **labels, action="continue", rule=NO_RULE) == 1
    assert told.value("mailreeve_duration_seconds_count", **labels) == 3
    assert told.value("mailreeve_duration_seconds_sum", **labels) == pytest.approx(0.009)
    assert told.value("mailreeve_spent_seconds_total", **labels, part="decision") == pytest.approx(0.006)


def test_messages_are_counted_apart_from_decisions(ledger: Ledger, metrics: WorkerMetrics) -> None:
    """With the signatures made, the forged fields removed, and what went wrong."""
    verdict = Verdict(Action.HOLD, Stage.END_OF_MESSAGE, "doubtful")
    signed = (Signature("example.org", "s1", "rsa-sha256"), Signature("example.org", "s2", "ed25519-sha256"))
    metrics.observe(
        occurrence(verdict, event="message", signatures=signed, removed=("Authentication-Results",) * 3)
    )
    metrics.observe(occurrence(verdict, event="message", error="an error inside"))
    told = read(ledger)

    assert told.value("mailreeve_messages_total", action="hold", rule="doubtful") == 2
    assert told.total("mailreeve_decisions_total") == 0
    assert told.value("mailreeve_signatures_total", algorithm="rsa-sha256") == 1
    assert told.value("mailreeve_fields_removed_total") == 3
    assert told.value("mailreeve_errors_total", daemon="policyd") == 1


def test_a_refusal_given_again_is_no_decision(ledger: Ledger, metrics: WorkerMetrics) -> None:
    """But it took its time."""
    metrics.observe(occurrence(Verdict(Action.REJECT, Stage.RCPT, "a"), repeated=True))
    told = read(ledger)

    assert told.value("mailreeve_repeated_refusals_total", daemon="policyd") == 1
    assert told.total("mailreeve_decisions_total") == 0
    assert told.total("mailreeve_duration_seconds_count") == 1


def test_results_are_counted_by_method_and_word(ledger: Ledger, metrics: WorkerMetrics) -> None:
    """SPF of the HELO name apart from that of the sender; a word that is none of RFC 8601 has no name."""
    results = (
        MethodResult("spf", "pass", {"smtp.mailfrom": "example.org"}),
        MethodResult("spf", "none", {"smtp.helo": "mail.example.org"}),
        MethodResult("dmarc", "fail"),
        MethodResult("dmarc", 'x"\n'),
        MethodResult("chance", "pass"),
    )
    metrics.observe(occurrence(Verdict(Action.CONTINUE, Stage.RCPT), results))
    told = read(ledger)
    counted = {
        tuple(value for key, value in sorted(labels) if key != "daemon")
        for (name, labels), _ in told.samples.items()
        if name == "mailreeve_results_total"
    }

    assert counted == {
        ("spf", "pass"),
        ("spf-helo", "none"),
        ("dmarc", "fail"),
        ("dmarc", "other"),
        ("other", "pass"),
    }


def test_limits_and_observed_rules_stand_apart(ledger: Ledger, metrics: WorkerMetrics) -> None:
    """Exceeded limits by rule, those under observe by themselves; what was decided without the store."""
    limits = (
        LimitUsage("day", 9, 10, exceeded=False),
        LimitUsage("hour", 9, 9, exceeded=True, degraded=True),
        LimitUsage("test", 3, 3, exceeded=True, observed=True),
    )
    verdict = Verdict(
        Action.DEFER,
        Stage.RCPT,
        "hour",
        limits=limits,
        unknown=("spf",),
        skipped=("copy",),
        observed=(Observed("test", Stage.RCPT, "reject"),),
    )
    metrics.observe(occurrence(verdict))
    told = read(ledger)

    assert told.value("mailreeve_limits_exceeded_total", daemon="policyd", rule="hour", observed="no") == 1
    assert told.value("mailreeve_limits_exceeded_total", daemon="policyd", rule="test", observed="yes") == 1
    assert told.total("mailreeve_limits_exceeded_total") == 2
    assert told.value("mailreeve_degraded_decisions_total", daemon="policyd") == 1
    assert told.value("mailreeve_observed_total", daemon="policyd", rule="test", action="reject") == 1
    assert told.value("mailreeve_unknown_facts_total", daemon="policyd", fact="spf") == 1
    assert told.value("mailreeve_skipped_rules_total", daemon="policyd", rule="copy") == 1


@settings(max_examples=50)
@given(st.lists(st.floats(0, 100), max_size=50), st.lists(st.floats(0, 100), max_size=10))
def test_histograms_are_monotone(first: list[float], later: list[float]) -> None:
    """Over the bounds, and over time; the last bucket is the count, and each time falls into its bucket."""
    ledger = Ledger()
    metrics = WorkerMetrics(ledger.open(ledger.take()), "milter")
    buckets = []
    for some in (first, later):
        for seconds in some:
            metrics.dns_asked(seconds)
        told = read(ledger)
        bounds = (*map(float, SECONDS), float("inf"))
        by_bound = {
            float(dict(labels)["le"]): value
            for (name, labels), value in told.samples.items()
            if name == "mailreeve_dns_asking_seconds_bucket"
        }
        buckets.append([by_bound[bound] for bound in bounds])
        assert buckets[-1][-1] == told.total("mailreeve_dns_asking_seconds_count")
    ledger.close()

    assert all(lower <= upper for told in buckets for lower, upper in pairwise(told))
    assert all(before <= after for before, after in zip(*buckets, strict=True))
    seen = [*first, *later]
    assert buckets[-1] == [sum(seconds <= bound for seconds in seen) for bound in bounds]


def test_threads_lose_no_count(ledger: Ledger, metrics: WorkerMetrics) -> None:
    """The milter answers in several."""
    seen = occurrence(Verdict(Action.ACCEPT, Stage.RCPT, "office"))

    def observe() -> None:
        for _ in range(2000):
            metrics.observe(seen)

    threads = [threading.Thread(target=observe) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert read(ledger).total("mailreeve_decisions_total") == 8000


@dataclass
class ShakyStore:
    """Answers what it is told to, or is away."""

    is_away: bool = False
    closed: bool = False

    @property
    def outage(self) -> Outage:
        return Outage(self.is_away, int(self.is_away), 2 * int(self.is_away))

    def charge(self, charges: Sequence[Charge]) -> tuple[Usage, ...]:
        if self.is_away:
            raise StoreError("away")
        return tuple(Usage(1, one.limit.maximum, exceeded=False) for one in charges)

    usage = charge

    def charge_each(self, calls: Sequence[Sequence[Charge]]) -> list[Charged]:
        return [StoreError("away") if self.is_away else self.charge(charges) for charges in calls]

    def close(self) -> None:
        self.closed = True


def test_calls_of_the_store_are_measured(ledger: Ledger, metrics: WorkerMetrics) -> None:
    """Each call once, however many charges it has; an error of one of several is one error."""
    shaky = ShakyStore()
    store = metrics.timed(shaky)
    assert store.charge([CHARGE]) == store.usage([CHARGE]) == (Usage(1, 10, exceeded=False),)
    shaky.is_away = True
    with pytest.raises(StoreError):
        store.charge([CHARGE])
    assert len(store.charge_each([[CHARGE], [CHARGE]])) == 2
    assert store.charge_each([]) == []
    store.close()
    told = read(ledger)

    assert shaky.closed
    assert store.outage.is_away
    assert told.value("mailreeve_store_call_seconds_count", daemon="policyd") == 4
    assert told.value("mailreeve_store_errors_total", daemon="policyd") == 3


@dataclass(frozen=True)
class Told:
    """Notices of one target."""

    target: str = "mail"
    waiting: int = 3
    sent: int = 5
    failed: int = 1
    dropped: int = 0
    retried: int = 2


def live(tally: Tally) -> None:
    """What a worker sees others count in its life: at its begin, and some time later."""
    dns, records, store = [DnsStatistics(hits=5, asked=2, remembered=2)], AuditCounts(3, 1), ShakyStore()
    followed = Followed(tally, "policyd", lambda: dns[-1], store, records, lambda: (Told(),))
    followed.look()
    dns.append(DnsStatistics(hits=9, asked=2, timeouts=1, errors=1, over_tcp=1, remembered=1))
    records.written, store.is_away = 10, True
    followed.look()
    followed.look()


def test_what_others_count_is_carried_over(ledger: Ledger) -> None:
    """Only what came on top since the last look; a worker that follows a dead one adds to it."""
    page = ledger.take()
    live(ledger.open(page))
    live(ledger.open(page))
    told = read(ledger)

    assert told.value("mailreeve_dns_questions_total", daemon="policyd", answered="hit") == 18
    assert told.value("mailreeve_dns_failures_total", daemon="policyd", kind="timeout") == 2
    assert told.value("mailreeve_dns_remembered", daemon="policyd") == 1
    assert told.value("mailreeve_audit_records_total", daemon="policyd", outcome="written") == 20
    assert told.value("mailreeve_audit_records_total", daemon="policyd", outcome="lost") == 2
    assert told.value("mailreeve_store_away", daemon="policyd") == 1
    assert told.value("mailreeve_store_degraded_calls_total", daemon="policyd") == 4
    assert told.value("mailreeve_notices_queued", daemon="policyd", target="mail") == 3
    assert told.value("mailreeve_notices_total", daemon="policyd", target="mail", outcome="sent") == 10
    assert (told.value("mailreeve_workers_resident_bytes", daemon="policyd") or 0) > 1_000_000


def test_the_last_look_is_at_the_end(ledger: Ledger, metrics: WorkerMetrics) -> None:
    """What was counted in the last second of a worker is not lost."""
    records = AuditCounts()
    metrics.follow(dns=DnsStatistics, store=ShakyStore(), records=records)
    records.written = 4
    metrics.finish()

    assert read(ledger).total("mailreeve_audit_records_total", outcome="written") == 4


def test_without_a_tally_nothing_is_counted() -> None:
    """Metrics are off: the same calls do nothing, and the store is the store itself."""
    off, store = metrics_of(None, "milter"), ShakyStore()
    off.observe(occurrence(Verdict(Action.ACCEPT, Stage.RCPT)))
    off.dns_asked(1.0)
    off.follow(dns=DnsStatistics, store=store, records=AuditCounts())
    off.finish()

    assert off.timed(store) is store
