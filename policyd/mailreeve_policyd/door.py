"""The policy daemon's door: a request's attributes in, the answer's octets out, and a line in the record.

It puts the steps in their order (DESIGN.md section 2) and measures them; each step is another module's.
No sockets here: server.py brings the attributes, the tests bring them without one.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Protocol

import msgspec
from msgspec.structs import replace

from mailreeve_policyd.audit import AuditLog
from mailreeve_policyd.blocks import Blocks, Gather
from mailreeve_policyd.postfix import DUNNO, format_answer, parse_transaction
from mailreeve_policyd.question import Question
from mailreeve_policyd.resolver import NotAtHandError
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

    def decide_each(
        self, questions: Sequence[tuple[Transaction, tuple[Stage, ...]]]
    ) -> Sequence[Verdict | Exception]:
        """As `decide` for each; a bug that one meets is its answer."""


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

    def answer_each(self, questions: Sequence[Question[PolicyConnection]]) -> None:
        """Answer the questions of several connections, with one call of the limit store: see Answerer."""
        deciding: list[tuple[Question[PolicyConnection], Asked]] = []
        for question in questions:
            try:
                asked = question.connection.ask(question.attributes)
            except NotAtHandError:
                question.wait_for = question.connection.gather
            except Exception as error:  # noqa: BLE001 -- the server tells whose it is
                question.error = error
            else:
                if isinstance(asked, Asked):
                    deciding.append((question, asked))
                else:
                    question.answer = asked
        if not deciding:
            return
        verdicts = self.policy.decide_each([(asked.transaction, asked.stages) for _, asked in deciding])
        records = self.audit.decisions()
        for (question, asked), verdict in zip(deciding, verdicts, strict=True):
            _conclude(question, asked, verdict, records.decision)
        records.write()


Record = Callable[[Transaction, Verdict, Mapping[str, float]], None]
"""Where a decision goes (audit.AuditLog.decision), with the seconds that it took."""


def _conclude(
    question: Question[PolicyConnection], asked: Asked, verdict: Verdict | Exception, record: Record
) -> None:
    if isinstance(verdict, Exception):
        question.error = verdict
        return
    try:
        question.answer = question.connection.conclude(asked, verdict, record)
    except Exception as error:  # noqa: BLE001 -- as above
        question.error = error


class Asked(msgspec.Struct, gc=False):
    """A request that is to be decided: by these blocks. Times are the stopwatch's."""

    transaction: Transaction
    stages: tuple[Stage, ...]
    started: float
    gathered: float = 0.0


class PolicyConnection:
    """One policy connection. Its requests are answered one after another."""

    __slots__ = ("_blocks", "_door", "_gathering", "_trouble")

    def __init__(self, door: PolicyDoor) -> None:
        self._door = door
        self._blocks = Blocks(door.decides)
        self._gathering: Asked | None = None
        self._trouble: Exception | None = None

    def answer(self, attributes: Mapping[str, str]) -> bytes:
        """The answer to one request, decided and recorded, in a thread that may wait for DNS.

        Raises:
            ProtocolError: the request is none. The connection is closed without an answer, as it is
                for any other exception, which is a bug of ours.
        """
        asked = self.ask(attributes)
        if not isinstance(asked, Asked):
            return asked
        verdict = self._door.policy.decide(asked.transaction, asked.stages)
        return self.conclude(asked, verdict, self._door.audit.decision)

    def ask(self, attributes: Mapping[str, str]) -> Asked | bytes:
        """What a request wants to have decided, with its evidence; or its answer, where that is nothing.

        Raises:
            NotAtHandError: DNS must be asked, and this thread does not wait for it. Another one calls
                `gather`, and then this is asked again.
            ProtocolError: the request is none.
        """
        asked = self._gathering or self._begin(attributes)
        if not isinstance(asked, Asked):
            return asked
        self._gathering = asked
        if self._trouble is not None:
            raise self._trouble
        door = self._door
        if not asked.gathered:
            needs = door.needs(asked.stages)
            asked.transaction = self._blocks.with_evidence(asked.transaction, needs, door.gather)
            asked.gathered = door.stopwatch()
        self._gathering = None
        return asked

    def gather(self) -> None:
        """Look up the evidence that `ask` could not wait for. Never raises: `ask` will."""
        asked, door = self._gathering, self._door
        if asked is None:
            return
        try:
            needs = door.needs(asked.stages)
            asked.transaction = self._blocks.with_evidence(asked.transaction, needs, door.gather)
        except Exception as error:  # noqa: BLE001 -- as it says
            self._trouble = error
        asked.gathered = door.stopwatch()

    def conclude(self, asked: Asked, verdict: Verdict, record: Record) -> bytes:
        """The octets of the answer; it is remembered and recorded."""
        door, transaction = self._door, asked.transaction
        answer = format_answer(verdict, transaction.stage)
        if not answer.too_early:
            self._blocks.remember(transaction, asked.stages, verdict)
        if answer.skipped:
            skipped = tuple(dict.fromkeys((*verdict.skipped, *answer.skipped)))
            verdict = replace(verdict, edits=answer.prepended, copies=answer.copied, skipped=skipped)
        done = door.stopwatch()
        spent = {
            "total": done - asked.started,
            "evidence": asked.gathered - asked.started,
            "decision": done - asked.gathered,
        }
        record(transaction, verdict, spent)
        return answer.octets

    def _begin(self, attributes: Mapping[str, str]) -> Asked | bytes:
        started = self._door.stopwatch()
        transaction = parse_transaction(attributes)
        if transaction is None:
            return DUNNO
        stages = self._blocks.begin(transaction)
        refusal = self._blocks.refusal
        if refusal is not None and transaction.stage is Stage.RCPT:
            return self._repeat(transaction, refusal, started)
        return Asked(transaction, stages, started) if stages else DUNNO

    def _repeat(self, transaction: Transaction, refusal: Verdict, started: float) -> bytes:
        answer = format_answer(refusal, transaction.stage)
        spent = {"total": self._door.stopwatch() - started}
        self._door.audit.decision(transaction, refusal, spent, repeated=True)
        return answer.octets
