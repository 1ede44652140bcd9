"""The policy daemon's door: a request's attributes in, the answer's octets out, and a line in the record.

It puts the steps in their order (DESIGN.md section 2) and measures them; each step is another module's.
No sockets here: server.py brings the attributes, the tests bring them without one.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from functools import cache
from typing import Protocol

from msgspec.structs import replace

from mailreeve_policyd.audit import AuditLog
from mailreeve_policyd.blocks import Blocks, Gather
from mailreeve_policyd.postfix import DUNNO, format_answer, parse_transaction
from mailreeve_policyd.smtp import Stage
from mailreeve_policyd.transaction import Transaction
from mailreeve_policyd.verdict import Verdict

log = logging.getLogger(__name__)


Needs = Callable[[tuple[Stage, ...]], frozenset[str]]
"""The evidence that the rules of these blocks ask for (rules.Ruleset.needs)."""


class Decider(Protocol):
    """The one decision point: policy.Policy. Safe from any thread."""

    def decide(self, transaction: Transaction, stages: tuple[Stage, ...]) -> Verdict:
        """Run these blocks, in order, as one decision and one charge."""


class PolicyDoor:
    """What all connections share. `decides` are the stages of this daemon; others get DUNNO and no record."""

    def __init__(
        self,
        *,
        policy: Decider,
        needs: Needs,
        decides: frozenset[Stage],
        gather: Gather,
        audit: AuditLog,
        stopwatch: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.policy = policy
        self.needs = cache(needs)  # of a few combinations of blocks, asked at every request
        self.decides = decides
        self.gather = gather
        self.audit = audit
        self.stopwatch = stopwatch

    def connection(self) -> PolicyConnection:
        """For one new connection of Postfix."""
        return PolicyConnection(self)


class PolicyConnection:
    """One policy connection. Its requests are answered one after another."""

    def __init__(self, door: PolicyDoor) -> None:
        self._door = door
        self._blocks = Blocks(door.decides)

    def answer(self, attributes: Mapping[str, str]) -> bytes:
        """The answer to one request, decided and recorded.

        Raises:
            ProtocolError: the request is none. The connection is closed without an answer, as it is
                for any other exception, which is a bug of ours.
        """
        started = self._door.stopwatch()
        transaction = parse_transaction(attributes)
        if transaction is None:
            return DUNNO
        stages = self._blocks.begin(transaction)
        refusal = self._blocks.refusal
        if refusal is not None and transaction.stage is Stage.RCPT:
            return self._repeat(transaction, refusal, started)
        if not stages:
            return DUNNO
        return self._decide(transaction, stages, started)

    def _decide(self, transaction: Transaction, stages: tuple[Stage, ...], started: float) -> bytes:
        door = self._door
        transaction = self._blocks.with_evidence(transaction, door.needs(stages), door.gather)
        gathered = door.stopwatch()
        verdict = door.policy.decide(transaction, stages)
        answer = format_answer(verdict, transaction.stage)
        if not answer.too_early:
            self._blocks.remember(transaction, stages, verdict)
        if answer.skipped:
            skipped = tuple(dict.fromkeys((*verdict.skipped, *answer.skipped)))
            verdict = replace(verdict, edits=answer.prepended, skipped=skipped)
        done = door.stopwatch()
        spent = {"total": done - started, "evidence": gathered - started, "decision": done - gathered}
        door.audit.decision(transaction, verdict, spent)
        return answer.octets

    def _repeat(self, transaction: Transaction, refusal: Verdict, started: float) -> bytes:
        answer = format_answer(refusal, transaction.stage)
        spent = {"total": self._door.stopwatch() - started}
        self._door.audit.decision(transaction, refusal, spent, repeated=True)
        return answer.octets
