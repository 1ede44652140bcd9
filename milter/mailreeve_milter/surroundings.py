"""What all conversations of a process share: the policy, the checks, the record. Knows no protocol."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import Protocol

from mailreeve_milter.examination import Examiner
from mailreeve_policyd.audit import AuditLog
from mailreeve_policyd.smtp import Stage
from mailreeve_policyd.transaction import Transaction
from mailreeve_policyd.verdict import Verdict


class Decider(Protocol):
    """The policy: the one place that decides."""

    def needs(self, stages: tuple[Stage, ...]) -> frozenset[str]:
        """The evidence of the envelope that the rules of these stages ask for."""

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
    """`stages` are those that this daemon decides; `stopwatch` gives seconds that never go back."""

    stages: frozenset[Stage]
    policy: Decider
    examiner: Examiner
    audit: AuditLog
    instances: Callable[[], str]
    stopwatch: Callable[[], float] = time.perf_counter
