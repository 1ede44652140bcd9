"""The one decision point: what the rules and the limits together make of a transaction.

Knows neither how rules are written nor where limits are counted. DESIGN.md section 4 (fine print) has the
order in which exceeded limits win, section 5 the promises that it keeps for the stores.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from operator import attrgetter

import msgspec
from msgspec.structs import replace

from mailreeve_policyd.audit_bound import Overrun
from mailreeve_policyd.errors import StoreError
from mailreeve_policyd.facts import Door
from mailreeve_policyd.judgement import Judge, Judgement, OnUnknown, Outcome, Step
from mailreeve_policyd.limits import Charged, LimitStore, Usage
from mailreeve_policyd.notice_once import NoticesOnce
from mailreeve_policyd.rules_time import BOUND, RulesTime
from mailreeve_policyd.settlement import Settled, for_door, settle, settle_unread, settle_without_store
from mailreeve_policyd.smtp import Stage
from mailreeve_policyd.transaction import Transaction
from mailreeve_policyd.verdict import LIMITS_UNKNOWN, Verdict


class Explanation(msgspec.Struct, frozen=True, gc=False):
    """A verdict and the rules that led to it, in their order."""

    verdict: Verdict
    steps: tuple[Step, ...]


class Policy:
    """Decides by a ruleset and a limit store, for one door. Safe from any thread.

    Holds no state but of which notices it knows that they were given. `clock` (seconds that only grow) says
    how old that knowledge is. A question whose rules take more than `rules_time` is deferred, and `overran`
    is told.
    """

    def __init__(
        self,
        ruleset: Judge,
        store: LimitStore,
        door: Door,
        on_unknown: OnUnknown = OnUnknown.DEFER,
        clock: Callable[[], float] = time.monotonic,
        *,
        rules_time: RulesTime = RulesTime(),  # noqa: B008 -- it is frozen
        overran: Callable[[Overrun], object] = lambda _overrun: None,
    ) -> None:
        self._ruleset = ruleset
        self._store = store
        self._door = door
        self._on_unknown = on_unknown
        self._once = NoticesOnce(store, clock)
        self._rules_time = rules_time
        self._overran = overran

    def needs(self, stages: Iterable[Stage]) -> frozenset[str]:
        """The evidence that the rules of these stages ask: of spf, spf_helo, iprev."""
        return self._ruleset.needs(stages)

    def decide(self, transaction: Transaction, stages: Iterable[Stage] | None = None) -> Verdict:
        """The verdict by the rules of `stages` (by default the transaction's own), in the order of stages.

        Stages that run together are one charge. `accept` ends its stage's block only; a refusal ends all.
        A request that is refused is counted nowhere. Never raises StoreError: where the store cannot
        say, mail that needs it is deferred (4.3.0) and `unknown` says so, as it is
        where the time for the rules is over.
        """
        ordered = _in_order(stages, transaction)
        return self._finish(self._settle(transaction, self._judge(transaction, ordered)))

    def decide_each(
        self, questions: Sequence[tuple[Transaction, Sequence[Stage]]]
    ) -> list[Verdict | Exception]:
        """As `decide` for each, in order, with few calls of the store for all.

        An exception is the answer of the one that met it: a bug.
        """
        answers: list[Verdict | Exception] = [_NOT_ANSWERED] * len(questions)
        counting: dict[int, Judgement] = {}
        for place, (transaction, stages) in enumerate(questions):
            try:
                judgement = self._judge(transaction, _in_order(stages, transaction))
                if judgement.counts:
                    if not judgement.may_refuse:
                        counting[place] = judgement
                        continue
                    self._charge_each(questions, counting, answers)
                answers[place] = self._finish(self._settle(transaction, judgement))
            except Exception as error:  # noqa: BLE001 -- the door tells whose it is
                answers[place] = error
        self._charge_each(questions, counting, answers)
        return answers

    def _charge_each(
        self,
        questions: Sequence[tuple[Transaction, Sequence[Stage]]],
        counting: dict[int, Judgement],
        answers: list[Verdict | Exception],
    ) -> None:
        """Charge and answer those that wait for it."""
        charged = self._store.charge_each([judgement.charges for judgement in counting.values()])
        for (place, judgement), usages in zip(counting.items(), charged, strict=True):
            answers[place] = self._after_charge(questions[place][0], judgement, usages)
        counting.clear()

    def _after_charge(
        self, transaction: Transaction, judgement: Judgement, charged: Charged
    ) -> Verdict | Exception:
        try:
            if isinstance(charged, StoreError):
                return self._finish(settle_without_store(transaction, judgement))
            if isinstance(charged, ValueError):
                return charged
            return self._finish(settle(transaction, judgement, charged))
        except Exception as error:  # noqa: BLE001 -- as above
            return error

    def decide_traced(self, transaction: Transaction, stages: Iterable[Stage] | None = None) -> Explanation:
        """As `decide`, counting as it does, with what became of each rule."""
        ordered = _in_order(stages, transaction)
        return self.explain(transaction, self.decide(transaction, ordered), ordered)

    def explain(
        self, transaction: Transaction, verdict: Verdict, stages: Iterable[Stage] | None = None
    ) -> Explanation:
        """What became of each rule when `decide` gave this verdict. Counts nothing."""
        steps = self._ruleset.steps(transaction, _in_order(stages, transaction), self._on_unknown)
        return Explanation(verdict, tuple(_reached([_with_usage(step, verdict) for step in steps], verdict)))

    def _judge(self, transaction: Transaction, stages: Iterable[Stage]) -> Judgement:
        return self._ruleset.judge(transaction, stages, self._on_unknown, self._rules_time)

    def _finish(self, settled: Settled) -> Verdict:
        """The verdict for this door, with those notices that nobody has given yet."""
        verdict = for_door(settled, self._door)
        if not verdict.notices:
            return verdict
        return replace(verdict, notices=self._once.due(verdict.notices))

    def _settle(self, transaction: Transaction, judgement: Judgement) -> Settled:
        if judgement.unread is not None:
            self._overran(_overrun(transaction, judgement.unread, self._rules_time.seconds))
            return settle_unread(transaction)
        charges = judgement.charges
        if not charges:
            return settle(transaction, judgement, ())
        try:
            if judgement.may_refuse:
                # A reject below limits: nothing may be counted, unless a limit above lets the mail in.
                looked = [_not_counted(usage) for usage in self._store.usage(charges)]
                settled = settle(transaction, judgement, looked)
                if settled.refuses:
                    return settled
            return settle(transaction, judgement, self._store.charge(charges))
        except StoreError:
            return settle_without_store(transaction, judgement)


def _overrun(transaction: Transaction, rule: str, seconds: float) -> Overrun:
    return Overrun(
        BOUND,
        seconds,
        "refused",
        f"the rules took more than {seconds:g} seconds: {rule} and what follows was not read",
        client=transaction.session.client_address,
        queue_id=transaction.queue_id,
    )


def _not_counted(usage: Usage) -> Usage:
    """What `usage` says would be counted is not, if the mail is refused by a rule."""
    return replace(usage, used=usage.used - usage.added, added=0)


_NOT_ANSWERED = RuntimeError("a question without an answer")


def _in_order(stages: Iterable[Stage] | None, transaction: Transaction) -> tuple[Stage, ...]:
    return (transaction.stage,) if stages is None else _sorted(tuple(stages))


@lru_cache(maxsize=256)  # of a few combinations of blocks, asked at every request
def _sorted(stages: tuple[Stage, ...]) -> tuple[Stage, ...]:
    return tuple(sorted(stages, key=attrgetter("position")))


def _with_usage(step: Step, verdict: Verdict) -> Step:
    for usage in verdict.limits:
        if usage.rule == step.rule:
            outcome = Outcome.EXCEEDED if usage.exceeded else Outcome.WITHIN
            ends = step.ends or usage.blocked
            return replace(step, outcome=outcome, detail=f"{usage.used} of {usage.maximum}", ends=ends)
    if step.outcome is Outcome.WITHIN and LIMITS_UNKNOWN in verdict.unknown:
        return replace(step, outcome=Outcome.UNKNOWN)
    return step


def _reached(steps: Iterable[Step], verdict: Verdict) -> Iterator[Step]:
    """As the limits leave them: below one that ended its block, and after a refusal, no other rule acts."""
    refused_at = verdict.stage if verdict.action.refuses and verdict.rule is not None else None
    ended: Stage | None = None
    for step in steps:
        is_over = step.stage is ended or (refused_at is not None and refused_at < step.stage)
        if is_over and step.outcome in (Outcome.HELD, Outcome.UNKNOWN):
            yield replace(step, outcome=Outcome.NOT_REACHED, detail="")
            continue
        if step.ends and step.outcome is Outcome.EXCEEDED:
            ended = step.stage
        yield step
