"""What all conversations of a process share: the policy, the checks, the record. Knows no protocol."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import Protocol

from mailreeve_milter.connection_bounds import ConnectionBounds
from mailreeve_milter.examination import Examiner
from mailreeve_policyd.audit import AuditLog
from mailreeve_policyd.audit_bound import MOST_A_MINUTE
from mailreeve_policyd.moderation import Moderation
from mailreeve_policyd.resolver_statistics import DnsStatistics
from mailreeve_policyd.smtp import Stage
from mailreeve_policyd.transaction import Transaction
from mailreeve_policyd.verdict import Verdict


class Decider(Protocol):
    """The policy: the one place that decides."""

    def decide(self, transaction: Transaction, stages: tuple[Stage, ...]) -> Verdict:
        """The verdict on a transaction by the rules of these stages."""


def instance_names() -> Callable[[], str]:
    """A source of names for messages, no two alike, whichever process of whichever machine makes them.

    Called after the fork, once a process.
    """
    prefix, numbers = secrets.token_hex(8), count(1)
    return lambda: f"{prefix}.{next(numbers):x}"


@dataclass(frozen=True, slots=True)
class Surroundings:
    """`stages` are those that this daemon decides; `stopwatch` gives seconds that never go back.

    `needs` names, by stage, what of the envelope's evidence (spf, spf_helo, iprev) its rules ask.
    `waiting` are the stages whose rules may have to wait for a live set or table.
    `never_wait_in` makes questions to DNS and to the limit store raise NotAtHandError in a thread, where they
    would have to wait.
    `dns_statistics` tells what the resolver of this process did so far.
    `breaches` says how often the log may tell of MTAs that break the protocol.
    """

    stages: frozenset[Stage]
    policy: Decider
    examiner: Examiner
    audit: AuditLog
    instances: Callable[[], str]
    needs: Mapping[Stage, frozenset[str]] = field(default_factory=dict)
    waiting: frozenset[Stage] = frozenset()
    never_wait_in: Callable[[int], None] = lambda _thread: None
    stopwatch: Callable[[], float] = time.perf_counter
    dns_statistics: Callable[[], DnsStatistics] = DnsStatistics
    bounds: ConnectionBounds = ConnectionBounds()  # noqa: RUF009 -- it is frozen
    breaches: Moderation = field(default_factory=lambda: Moderation(MOST_A_MINUTE))
