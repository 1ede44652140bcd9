"""Every metric: its name, what it counts, and by which labels. docs/metrics.md describes them for people.

Labels hold words of ours and names from the rules file, never a value of the wire: how many series there are
is bounded by the configuration. Knows neither who counts nor who reads.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

SECONDS = (
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1,
    0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
)  # fmt: skip
"""Upper bounds of a histogram's buckets: from a decision without any network to a whole budget's time."""


class Kind(Enum):
    """What a series is, in the words of the exposition format."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Across(Enum):
    """What the numbers of several workers come to."""

    SUM = "sum"
    MAX = "max"


@dataclass(frozen=True, slots=True, eq=False)
class Family:
    """One metric. `name` is as it is exposed; the labels' values are given in the order of `labels`."""

    name: str
    kind: Kind
    text: str
    labels: tuple[str, ...] = ()
    across: Across = Across.SUM
    is_exposed: bool = True

    @property
    def width(self) -> int:
        """Numbers a series takes. Of a histogram: one a bucket, one above the last bound, and the sum."""
        return len(SECONDS) + 2 if self.kind is Kind.HISTOGRAM else 1


def _counter(name: str, text: str, *labels: str) -> Family:
    return Family(f"mailreeve_{name}_total", Kind.COUNTER, text, labels)


def _gauge(name: str, text: str, *labels: str, across: Across = Across.SUM) -> Family:
    return Family(f"mailreeve_{name}", Kind.GAUGE, text, labels, across)


def _histogram(name: str, text: str, *labels: str) -> Family:
    return Family(f"mailreeve_{name}_seconds", Kind.HISTOGRAM, text, labels)


# -- what was decided ------------------------------------------------------------------------------------

MESSAGES = _counter(
    "messages", "Messages that the milter answered, by what became of them.", "action", "rule"
)
DECISIONS = _counter(
    "decisions",
    "Decisions before the end of the message, by stage, action and the rule that decided.",
    "daemon", "stage", "action", "rule",
)  # fmt: skip
REPEATED = _counter("repeated_refusals", "Refusals given again for a message that was refused.", "daemon")
RESULTS = _counter(
    "results", "Results of checks, of each decision or message that had them.", "daemon", "method", "result"
)
OBSERVED = _counter("observed", "What rules under `observe` would have done.", "daemon", "rule", "action")
EXCEEDED = _counter("limits_exceeded", "Limits that were exceeded, by rule.", "daemon", "rule", "observed")
DEGRADED = _counter(
    "degraded_decisions", "Decisions made while the limit store, or a part of it, was away.", "daemon"
)
UNKNOWN = _counter("unknown_facts", "Decisions in which a fact could not be known.", "daemon", "fact")
SKIPPED = _counter(
    "skipped_rules", "Rules that applied and that the door could not carry out.", "daemon", "rule"
)
ERRORS = _counter(
    "errors", "Messages and decisions in which something of ours failed (see the log).", "daemon"
)
OVERRUNS = _counter(
    "bounds_exceeded", "What was closed, refused or left out over a bound, by its setting.", "daemon", "bound"
)
SIGNATURES = _counter("signatures", "DKIM signatures made.", "algorithm")
FORGED = _counter("fields_removed", "Forged header fields removed.")

DURATION = _histogram(
    "duration", "From a request, or the end of a message, to its answer.", "daemon", "stage"
)
SPENT = _counter("spent_seconds", "What the time of answers was spent on.", "daemon", "stage", "part")

# -- what they rest on -----------------------------------------------------------------------------------

STORE_CALLS = _histogram("store_call", "Calls of the limit store, as a decision waits for them.", "daemon")
STORE_ERRORS = _counter("store_errors", "Charges that the limit store could not answer.", "daemon")
STORE_AWAY = _gauge(
    "store_away",
    "1 while a worker finds the limit store, or a part of it, away.",
    "daemon",
    across=Across.MAX,
)
STORE_OUTAGES = _counter("store_outages", "How often a worker lost the limit store.", "daemon")
STORE_DEGRADED = _counter("store_degraded_calls", "Calls answered without the limit store.", "daemon")

DNS_QUESTIONS = _counter(
    "dns_questions",
    "DNS questions: answered from memory (hit), with one under way (shared), or by a server (asked).",
    "daemon", "answered",
)  # fmt: skip
DNS_FAILURES = _counter("dns_failures", "DNS questions that a server did not answer.", "daemon", "kind")
DNS_OVER_TCP = _counter("dns_over_tcp", "DNS questions repeated over TCP.", "daemon")
DNS_ASKING = _histogram("dns_asking", "How long DNS servers took, or were waited for in vain.", "daemon")
DNS_REMEMBERED = _gauge("dns_remembered", "DNS answers held in memory.", "daemon")

RECORDS = _counter("audit_records", "Lines of the record: written, or lost.", "daemon", "outcome")
TRUNCATED = _counter("audit_truncated", "Lines of the record that were shortened.", "daemon")

NOTICES_QUEUED = _gauge("notices_queued", "Notices that wait to be sent.", "daemon", "target")
NOTICES = _counter(
    "notices",
    "Notices: sent, failed for good, dropped for want of room, or to be tried again.",
    "daemon", "target", "outcome",
)  # fmt: skip

# -- processes -------------------------------------------------------------------------------------------

BUILD = _gauge("build_info", "1, with the version.", "version", "python", across=Across.MAX)
STARTED_AT = _gauge("start_time_seconds", "When the daemon was started, in Unix time.", across=Across.MAX)
LOADED_AT = _gauge(
    "configuration_loaded_time_seconds", "When the configuration in force was loaded.", across=Across.MAX
)
LOADED_LAST = _gauge("last_reload_successful", "0 after a reload that failed, else 1.", across=Across.MAX)
RELOADS = _counter("reloads", "Reloads, by outcome.", "outcome")
WORKERS = _gauge(
    "workers",
    "Worker processes: wanted, serving, and those that answered their parent lately.",
    "daemon",
    "state",
)
WORKERS_STARTED = _counter("workers_started", "Worker processes started.", "daemon")
WORKERS_DIED = _counter("workers_died", "Worker processes that died or were killed.", "daemon")
WORKER_MEMORY = _gauge("workers_resident_bytes", "Memory (RSS) of the workers together.", "daemon")
WORKER_MEMORY_MOST = _gauge(
    "worker_resident_bytes_max", "Memory (RSS) of the largest worker.", "daemon", across=Across.MAX
)
WORKER_CPU = _counter("workers_cpu_seconds", "CPU time of the workers.", "daemon")
SERIES_REFUSED = _counter("series_refused", "Numbers not kept as there was no room for more series.")

LOOKED_AT = Family(
    "looked_at", Kind.GAUGE, "The parent's monotonic clock.", is_exposed=False, across=Across.MAX
)
"""Not exposed: that the parent is there, for /healthz."""

FAMILIES = {family.name: family for family in tuple(globals().values()) if isinstance(family, Family)}
"""All of them, in the order above."""
