"""What the parts of a worker count for themselves, carried over to its metrics now and then."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Protocol

from mailreeve_policyd import metrics_catalogue as catalogue
from mailreeve_policyd.audit import AuditCounts
from mailreeve_policyd.limits_outage import WatchedStore
from mailreeve_policyd.metrics_ledger import Tally
from mailreeve_policyd.resolver_statistics import DnsStatistics
from mailreeve_policyd.worker import memory_bytes


class Notices(Protocol):
    """What became of the notices for one target (notices_courier.NoticeCounters)."""

    @property
    def target(self) -> str:
        """Its name in the configuration."""

    @property
    def waiting(self) -> int:
        """To be tried, or tried just now."""

    @property
    def sent(self) -> int:
        """Taken by the target."""

    @property
    def failed(self) -> int:
        """Given up."""

    @property
    def dropped(self) -> int:
        """Never tried: the queue was full."""

    @property
    def retried(self) -> int:
        """Tries that are to be made again."""


def no_notices() -> Sequence[Notices]:
    """For a worker that tells none."""
    return ()


class Followed:
    """Numbers that others keep for the life of a process: what was added since the last look is counted."""

    def __init__(
        self,
        tally: Tally,
        daemon: str,
        dns: Callable[[], DnsStatistics],
        store: WatchedStore,
        records: AuditCounts,
        notices: Callable[[], Sequence[Notices]],
    ) -> None:
        self._tally, self._daemon = tally, daemon
        self._numbers = tally.numbers
        self._dns, self._store, self._records, self._notices = dns, store, records, notices
        self._seen: dict[int, float] = {}
        place = tally.place
        self._questions = [
            place(catalogue.DNS_QUESTIONS, daemon, word) for word in ("hit", "shared", "asked")
        ]
        self._dns_failures = [place(catalogue.DNS_FAILURES, daemon, word) for word in ("timeout", "error")]
        self._over_tcp = place(catalogue.DNS_OVER_TCP, daemon)
        self._remembered = place(catalogue.DNS_REMEMBERED, daemon)
        self._away = place(catalogue.STORE_AWAY, daemon)
        self._outages = place(catalogue.STORE_OUTAGES, daemon)
        self._degraded = place(catalogue.STORE_DEGRADED, daemon)
        self._lines = [place(catalogue.RECORDS, daemon, word) for word in ("written", "lost")]
        self._truncated = place(catalogue.TRUNCATED, daemon)
        self._memory = place(catalogue.WORKER_MEMORY, daemon)
        self._memory_most = place(catalogue.WORKER_MEMORY_MOST, daemon)
        self._cpu = place(catalogue.WORKER_CPU, daemon)

    def look(self) -> None:
        """Count what came on top, and take down how things stand."""
        dns, outage, records = self._dns(), self._store.outage, self._records
        self._grown(self._questions, dns.hits, dns.shared, dns.asked)
        self._grown(self._dns_failures, dns.timeouts, dns.errors)
        self._grown([self._over_tcp], dns.over_tcp)
        self._grown([self._outages, self._degraded], outage.outages, outage.degraded)
        self._grown([*self._lines, self._truncated], records.written, records.lost, records.truncated)
        for notices in self._notices():
            self._look_at(notices)
        self._grown([self._cpu], time.process_time())
        numbers, memory = self._numbers, float(memory_bytes())
        numbers[self._remembered] = float(dns.remembered)
        numbers[self._away] = float(outage.is_away)
        numbers[self._memory] = numbers[self._memory_most] = memory

    def _look_at(self, notices: Notices) -> None:
        place, daemon, target = self._tally.place, self._daemon, notices.target
        self._numbers[place(catalogue.NOTICES_QUEUED, daemon, target)] = float(notices.waiting)
        words = ("sent", "failed", "dropped", "retried")
        places = [place(catalogue.NOTICES, daemon, target, word) for word in words]
        self._grown(places, notices.sent, notices.failed, notices.dropped, notices.retried)

    def _grown(self, places: Sequence[int], *now: float) -> None:
        for place, number in zip(places, now, strict=True):
            self._numbers[place] += number - self._seen.get(place, 0.0)
            self._seen[place] = number
