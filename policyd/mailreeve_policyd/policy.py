"""The one decision point: what the rules and the limits together make of a transaction.

Knows neither how rules are written nor where limits are counted. DESIGN.md section 4 (fine print) has the
order in which exceeded limits win, section 5 the promises that it keeps for the stores.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta
from operator import attrgetter

import msgspec
from msgspec.structs import replace

from mailreeve_policyd.errors import StoreError
from mailreeve_policyd.facts import Door
from mailreeve_policyd.judgement import (
    BlockJudgement,
    Decision,
    Judge,
    Judgement,
    OnUnknown,
    Outcome,
    Pending,
    Remark,
    Step,
    Wait,
)
from mailreeve_policyd.limits import Charged, LimitStore, Usage
from mailreeve_policyd.smtp import EnhancedStatus, Reply, Stage
from mailreeve_policyd.transaction import Transaction
from mailreeve_policyd.verdict import Action, LimitUsage, Verdict

LIMITS_UNKNOWN = "limits"
"""Stands in `Verdict.unknown` where the store could not say."""

STORE_AWAY = Reply(451, EnhancedStatus(4, 3, 0), "Temporary failure, please try again later")

# What an exceeded limit that lets mail in may decide, the stronger first.
_LETTING = (Action.DISCARD, Action.HOLD)


class Explanation(msgspec.Struct, frozen=True, gc=False):
    """A verdict and the rules that led to it, in their order."""

    verdict: Verdict
    steps: tuple[Step, ...]


class Policy:
    """Decides by a ruleset and a limit store, for one door. Safe from any thread; holds no state."""

    def __init__(
        self, ruleset: Judge, store: LimitStore, door: Door, on_unknown: OnUnknown = OnUnknown.DEFER
    ) -> None:
        self._ruleset = ruleset
        self._store = store
        self._door = door
        self._on_unknown = on_unknown

    def needs(self, stages: Iterable[Stage]) -> frozenset[str]:
        """The evidence that the rules of these stages ask: of spf, spf_helo, iprev."""
        return self._ruleset.needs(stages)

    def decide(self, transaction: Transaction, stages: Iterable[Stage] | None = None) -> Verdict:
        """The verdict by the rules of `stages` (by default the transaction's own), in the order of stages.

        Stages that run together are one charge. `accept` ends its stage's block only; a refusal ends all.
        A request that is refused is counted nowhere. Never raises StoreError: where the store cannot
        say, mail that needs it is deferred (4.3.0) and `unknown` says so.
        """
        ordered = _in_order(stages, transaction)
        judgement = self._ruleset.judge(transaction, ordered, self._on_unknown)
        settled = self._settle(transaction, judgement)
        return _for_door(settled, self._door)

    def decide_each(
        self, questions: Sequence[tuple[Transaction, Sequence[Stage]]]
    ) -> list[Verdict | Exception]:
        """As `decide` for each, with one call of the store for all. A bug that one meets is its answer."""
        answers: list[Verdict | Exception] = []
        counting: list[tuple[int, Judgement]] = []
        for transaction, stages in questions:
            try:
                judgement = self._ruleset.judge(transaction, _in_order(stages, transaction), self._on_unknown)
                if judgement.charges and not _may_refuse(judgement):
                    counting.append((len(answers), judgement))
                    answers.append(_NOT_COUNTED)
                else:
                    answers.append(_for_door(self._settle(transaction, judgement), self._door))
            except Exception as error:  # noqa: BLE001 -- the door tells whose it is
                answers.append(error)
        charged = self._store.charge_each([judgement.charges for _, judgement in counting])
        for (place, judgement), usages in zip(counting, charged, strict=True):
            answers[place] = self._after_charge(questions[place][0], judgement, usages)
        return answers

    def _after_charge(
        self, transaction: Transaction, judgement: Judgement, charged: Charged
    ) -> Verdict | Exception:
        try:
            if isinstance(charged, StoreError):
                return _for_door(_without_store(transaction, judgement), self._door)
            if isinstance(charged, ValueError):
                return charged
            return _for_door(_settle(transaction, judgement, charged), self._door)
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
        return Explanation(verdict, tuple(_with_usage(step, verdict) for step in steps))

    def _settle(self, transaction: Transaction, judgement: Judgement) -> _Settled:
        charges = judgement.charges
        if not charges:
            return _settle(transaction, judgement, ())
        try:
            if _may_refuse(judgement):
                # A reject below limits: nothing may be counted, unless a limit above lets the mail in.
                settled = _settle(transaction, judgement, self._store.usage(charges))
                if settled.refuses:
                    return settled
            return _settle(transaction, judgement, self._store.charge(charges))
        except StoreError:
            return _without_store(transaction, judgement)


_NOT_COUNTED = StoreError("not asked yet")


def _may_refuse(judgement: Judgement) -> bool:
    """Does a rule below the limits refuse?"""
    return any(block.decision and block.decision.action.refuses for block in judgement.blocks)


_POSITION = attrgetter("position")


def _in_order(stages: Iterable[Stage] | None, transaction: Transaction) -> list[Stage]:
    return [transaction.stage] if stages is None else sorted(stages, key=_POSITION)


class _Settled(msgspec.Struct, frozen=True, gc=False):
    """A verdict whose remarks still stand with their rules."""

    verdict: Verdict
    remarks: tuple[Remark, ...] = ()

    @property
    def refuses(self) -> bool:
        return self.verdict.action.refuses


class _Block(msgspec.Struct, frozen=True, gc=False):
    """A block with its limits that are exceeded, and the store's answers to them."""

    judged: BlockJudgement
    exceeded: Sequence[tuple[Pending, Usage]]


def _settle(transaction: Transaction, judgement: Judgement, usages: Sequence[Usage]) -> _Settled:
    blocks = _blocks(judgement, usages)
    longest = _longest_wait(blocks)
    decisions: list[Decision] = []
    remarks: list[Remark] = []
    for block in blocks:
        decision = block.judged.decision
        if block.exceeded:
            decision = _refusal(transaction, block, longest) or _decision(transaction, block)
        if block.exceeded or block.judged.remarks:
            remarks += _remarks(transaction, block)
        if decision is not None and decision.action.refuses:
            return _Settled(_verdict(transaction, judgement, usages, decision), tuple(remarks))
        if decision is not None:
            decisions.append(decision)
    verdict = _verdict(transaction, judgement, usages, _strongest(transaction, decisions))
    return _Settled(verdict, tuple(remarks))


def _blocks(judgement: Judgement, usages: Sequence[Usage]) -> list[_Block]:
    answers = iter(usages)
    return [
        _Block(block, [(each, usage) for each in block.pending if (usage := next(answers)).exceeded])
        for block in judgement.blocks
    ]


def _longest_wait(blocks: Sequence[_Block]) -> timedelta | None:
    waits = [
        usage.retry_after
        for block in blocks
        for pending, usage in block.exceeded
        if pending.charge.refuses and usage.retry_after is not None
    ]
    return max(waits, default=None)


def _refusal(transaction: Transaction, block: _Block, longest: timedelta | None) -> Decision | None:
    """Of exceeded limits that refuse: reject wins over defer, then the first in the file."""
    refusals = [
        pending.consequence.decide(transaction, Wait(longest, usage.can_never_pass))
        for pending, usage in block.exceeded
        if pending.charge.refuses
    ]
    return min(refusals, key=lambda refusal: refusal.action is not Action.REJECT, default=None)


def _decision(transaction: Transaction, block: _Block) -> Decision | None:
    """Exceeded limits that let mail in stand above the block's rule that decides, so they go first."""
    letting = [pending for pending, _ in block.exceeded if pending.consequence.action in _LETTING]
    if not letting:
        return block.judged.decision
    first = min(letting, key=lambda pending: pending.consequence.action is not Action.DISCARD)
    return first.consequence.decide(transaction, Wait(None))


def _remarks(transaction: Transaction, block: _Block) -> list[Remark]:
    """Those above the place where the block ended, in the order of the file."""
    found = list(block.judged.remarks)
    end: int | None = None
    for pending, _ in block.exceeded:
        if pending.consequence.action is None:
            found.append((pending.position, pending.consequence.remark(transaction)))
        elif end is None:
            end = pending.position
    found.sort(key=lambda pair: pair[0])
    return [remark for position, remark in found if end is None or position < end]


def _strongest(transaction: Transaction, decisions: Sequence[Decision]) -> Decision | None:
    """What stands of several blocks that let the mail on.

    A discard or hold of an earlier stage has no later chance to be said. An earlier accept or permit
    ended its own block and says nothing of this stage: a permit for MAIL must not permit a recipient.
    """
    for action in _LETTING:
        for decision in decisions:
            if decision.action is action:
                return decision
    here = [decision for decision in decisions if decision.stage is transaction.stage]
    return here[0] if here else None


def _verdict(
    transaction: Transaction, judgement: Judgement, usages: Sequence[Usage], decision: Decision | None
) -> Verdict:
    limits = tuple(
        LimitUsage(charge.rule, usage.used, usage.maximum, usage.exceeded, usage.retry_after, usage.degraded)
        for charge, usage in zip(judgement.charges, usages, strict=True)
    )
    if decision is None:
        return Verdict(Action.CONTINUE, transaction.stage, limits=limits, unknown=judgement.unknown)
    return Verdict(
        decision.action,
        decision.stage,
        decision.rule,
        decision.reply,
        decision.reason,
        limits=limits,
        unknown=judgement.unknown,
    )


def _without_store(transaction: Transaction, judgement: Judgement) -> _Settled:
    """No limit can be asked: what a rule refuses is refused all the same, all else may come again."""
    unknown = (*judgement.unknown, LIMITS_UNKNOWN)
    for block in judgement.blocks:
        decision = block.decision
        if decision is not None and decision.action.refuses:
            if any(pending.consequence.action in _LETTING for pending in block.pending):
                break  # a limit above it might have let the mail in
            verdict = _verdict(transaction, Judgement((), unknown), (), decision)
            return _Settled(verdict)
    return _Settled(Verdict(Action.DEFER, transaction.stage, reply=STORE_AWAY, unknown=unknown))


def _for_door(settled: _Settled, door: Door) -> Verdict:
    """The verdict with what this door can carry out of the remarks (DESIGN.md section 4, fine print).

    A policy reply carries one action: the first field to add, when no other action is said. Mail that
    is refused gets no fields, and nobody misses them.
    """
    verdict = settled.verdict
    if not settled.remarks:
        return verdict
    warnings = tuple(
        f"{remark.rule}: {remark.warning}" for remark in settled.remarks if remark.warning is not None
    )
    fields = [(remark.rule, remark.edit) for remark in settled.remarks if remark.edit is not None]
    if verdict.action.refuses:
        fields = []
    room = len(fields)
    if door is Door.POLICY:
        room = 1 if verdict.action in (Action.CONTINUE, Action.ACCEPT) else 0
    return replace(
        verdict,
        edits=tuple(edit for _, edit in fields[:room]),
        warnings=warnings,
        skipped=tuple(rule for rule, _ in fields[room:]),
    )


def _with_usage(step: Step, verdict: Verdict) -> Step:
    for usage in verdict.limits:
        if usage.rule == step.rule:
            outcome = Outcome.EXCEEDED if usage.exceeded else Outcome.WITHIN
            return replace(step, outcome=outcome, detail=f"{usage.used} of {usage.maximum}")
    return step
