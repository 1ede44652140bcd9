"""Notices after the decision: handed to couriers, which never hold it up; and our own notices let through.

`NoticingPolicy` stands before the decision point, for both doors: what `Policy.decide` says is to be told
goes to the couriers, and mail that is a notice itself (notices_mark.py) is no matter of any rule. That each
notice is due once a key and window, on all hosts, the limit store has said by then (notice_once.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from mailreeve_policyd.notices_courier import Courier, NoticeCounters
from mailreeve_policyd.notices_event import Reporter
from mailreeve_policyd.notices_mark import NoticeMarks, may_be_marked
from mailreeve_policyd.smtp import Stage
from mailreeve_policyd.transaction import Transaction
from mailreeve_policyd.verdict import Action, Verdict

OWN_NOTICE = "(notice)"
"""In place of a rule's name, which begins with a letter: what lets our own notices through."""

CLOSING_SHARE = 0.9
"""Of the time that a worker has left: the rest is for what it does after it."""

Question = tuple[Transaction, tuple[Stage, ...]]


class Decider(Protocol):
    """The one decision point: policy.Policy. Safe from any thread."""

    def decide(self, transaction: Transaction, stages: tuple[Stage, ...]) -> Verdict:
        """See Policy.decide."""

    def decide_each(self, questions: Sequence[Question]) -> Sequence[Verdict | Exception]:
        """See Policy.decide_each."""


class NoticeOffice:
    """Tells the notices of one daemon's worker. Safe from any thread; threads start with the first notice."""

    def __init__(self, reporter: Reporter, couriers: Sequence[Courier]) -> None:
        self._reporter = reporter
        self._couriers = tuple(couriers)

    def tell(self, transaction: Transaction, verdict: Verdict) -> None:
        """Have the notices of a verdict told. Returns at once."""
        if not self._couriers:
            return
        for notice in verdict.notices:
            event = self._reporter.event(notice, transaction)
            for courier in self._couriers:
                courier.post(event)

    def counters(self) -> tuple[NoticeCounters, ...]:
        """How things stand, for each target that is configured; for the metrics."""
        return tuple(courier.counters() for courier in self._couriers)

    def close(self, seconds: float) -> None:
        """Try once more what waits, within most of this time for all together; log what is left."""
        for courier in self._couriers:
            courier.begin_to_close(CLOSING_SHARE * seconds)
        for courier in self._couriers:
            courier.finish()


class NoticingPolicy:
    """A policy whose notices are told, and for which our own notices are no mail. Safe from any thread."""

    def __init__(self, policy: Decider, office: NoticeOffice, marks: NoticeMarks) -> None:
        self._policy = policy
        self._office = office
        self._marks = marks

    def decide(self, transaction: Transaction, stages: tuple[Stage, ...]) -> Verdict:
        """As Policy.decide."""
        if may_be_marked(transaction.session) and self._marks.is_ours(transaction):
            return _let_through(transaction)
        verdict = self._policy.decide(transaction, stages)
        if verdict.notices:
            self._office.tell(transaction, verdict)
        return verdict

    def decide_each(self, questions: Sequence[Question]) -> Sequence[Verdict | Exception]:
        """As Policy.decide_each."""
        if any([may_be_marked(transaction.session) for transaction, _ in questions]):  # noqa: C419 -- faster
            return [self._decide_one(*question) for question in questions]
        answers = self._policy.decide_each(questions)
        for (transaction, _), answer in zip(questions, answers, strict=True):
            if isinstance(answer, Verdict) and answer.notices:
                self._office.tell(transaction, answer)
        return answers

    def _decide_one(self, transaction: Transaction, stages: tuple[Stage, ...]) -> Verdict | Exception:
        """Rare: a batch with what may be a notice."""
        try:
            return self.decide(transaction, stages)
        except Exception as error:  # noqa: BLE001 -- the door tells whose it is
            return error


def _let_through(transaction: Transaction) -> Verdict:
    return Verdict(Action.ACCEPT, transaction.stage, rule=OWN_NOTICE)
