"""What a judgement and the store's answers come to: the pure half of the decision point.

Knows neither how rules are written nor where limits are counted. DESIGN.md section 4 (fine print) has the
order in which exceeded limits win.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import msgspec
from msgspec.structs import replace

from mailreeve_policyd.facts import Door
from mailreeve_policyd.judgement import (
    BlockJudgement,
    Decision,
    Exceeded,
    Judgement,
    Pending,
    Remark,
)
from mailreeve_policyd.limits import Usage
from mailreeve_policyd.notice import Notice
from mailreeve_policyd.smtp import EnhancedStatus, Reply
from mailreeve_policyd.transaction import Transaction
from mailreeve_policyd.verdict import LIMITS_UNKNOWN, RULES_UNKNOWN, Action, AddHeader, LimitUsage, Verdict

STORE_AWAY = RULES_UNREAD = Reply(451, EnhancedStatus(4, 3, 0), "Temporary failure, please try again later")

BLOCKED = Reply(550, EnhancedStatus(5, 7, 1), "Refused by local policy")
"""To whom an administrator has blocked: it tells neither that nor why."""

# What an exceeded limit that lets mail in may decide, the stronger first.
_LETTING = (Action.DISCARD, Action.HOLD, Action.REDIRECT, Action.FILTER)


class Settled(msgspec.Struct, frozen=True, gc=False):
    """A verdict whose remarks still stand with their rules."""

    verdict: Verdict
    remarks: tuple[Remark, ...] = ()

    @property
    def refuses(self) -> bool:
        """Is the mail refused?"""
        return self.verdict.action.refuses


class _Block(msgspec.Struct, frozen=True, gc=False):
    """A block with its limits that are exceeded, and the store's answers to them."""

    judged: BlockJudgement
    exceeded: Sequence[tuple[Pending, Usage]]


def settle(transaction: Transaction, judgement: Judgement, usages: Sequence[Usage]) -> Settled:
    """The verdict by a judgement and the answers to its charges, in their order."""
    blocks = _blocks(judgement, usages)
    decisions: list[Decision] = []
    remarks: list[Remark] = []
    for block in blocks:
        decision = block.judged.decision
        if block.exceeded:
            longest = _longest_wait(blocks)
            refusal = _blocked(block) or _refusal(transaction, block, longest)
            decision = refusal or _decision(transaction, block)
            remarks += _remarks(transaction, block, longest)
        elif block.judged.remarks:
            remarks += [remark for _, remark in block.judged.remarks]
        if decision is not None and decision.action.refuses:
            return Settled(_verdict(transaction, judgement, usages, decision), tuple(remarks))
        if decision is not None:
            decisions.append(decision)
    verdict = _verdict(transaction, judgement, usages, _strongest(transaction, decisions))
    return Settled(verdict, tuple(remarks))


def _blocks(judgement: Judgement, usages: Sequence[Usage]) -> list[_Block]:
    if not _has_exceeded(usages):  # nearly always
        return [_Block(block, ()) for block in judgement.blocks]
    answers = iter(usages)
    return [
        _Block(block, [(each, usage) for each in block.pending if (usage := next(answers)).exceeded])
        for block in judgement.blocks
    ]


def _has_exceeded(usages: Sequence[Usage]) -> bool:
    for usage in usages:  # noqa: SIM110 -- any() with a generator costs twice as much
        if usage.exceeded:
            return True
    return False


def _longest_wait(blocks: Sequence[_Block]) -> timedelta | None:
    waits = [
        usage.retry_after
        for block in blocks
        for pending, usage in block.exceeded
        if pending.charge.refuses and usage.retry_after is not None
    ]
    return max(waits, default=None)


def _blocked(block: _Block) -> Decision | None:
    """Of limits whose key an administrator has blocked: the first."""
    for pending, usage in block.exceeded:
        if usage.blocked:
            return Decision(block.judged.stage, pending.charge.rule, Action.REJECT, BLOCKED)
    return None


def _refusal(transaction: Transaction, block: _Block, longest: timedelta | None) -> Decision | None:
    """Of exceeded limits that refuse: reject wins over defer, then the first in the file."""
    refusals = [
        pending.consequence.decide(transaction, Exceeded(longest, pending.charge, usage))
        for pending, usage in block.exceeded
        if pending.charge.refuses
    ]
    return min(refusals, key=lambda refusal: refusal.action is not Action.REJECT, default=None)


def _decision(transaction: Transaction, block: _Block) -> Decision | None:
    """Exceeded limits that let mail in stand above the block's rule that decides, so they go first."""
    letting = [each for each in block.exceeded if _lets(each[0])]
    if not letting:
        return block.judged.decision
    pending, usage = min(letting, key=_strength)
    return pending.consequence.decide(transaction, Exceeded(None, pending.charge, usage))


def _lets(pending: Pending) -> bool:
    return not pending.observed and pending.consequence.action in _LETTING


def _strength(exceeded: tuple[Pending, Usage]) -> int:
    action = exceeded[0].consequence.action
    return _LETTING.index(action) if action is not None else len(_LETTING)


def _remarks(transaction: Transaction, block: _Block, longest: timedelta | None) -> list[Remark]:
    """Those above the place where the block ended, in the order of the file."""
    found = list(block.judged.remarks)
    end: int | None = None
    for pending, usage in block.exceeded:
        exceeded = Exceeded(usage.retry_after or longest, pending.charge, usage)
        if usage.blocked:
            end = pending.position if end is None else end
        elif pending.observed:
            observed = pending.consequence.observed(transaction, exceeded)
            found.append((pending.position, Remark(observed.rule, observed=observed)))
        elif pending.consequence.action is None:
            found.append((pending.position, pending.consequence.remark(transaction, exceeded)))
        elif end is None:
            end = pending.position
    found.sort(key=lambda pair: pair[0])
    return [remark for position, remark in found if end is None or position < end]


def _strongest(transaction: Transaction, decisions: Sequence[Decision]) -> Decision | None:
    """What stands of several blocks that let the mail on.

    A discard or hold of an earlier stage has no later chance to be said. An earlier accept or permit
    ended its own block and says nothing of this stage: a permit for MAIL must not permit a recipient.
    """
    if not decisions:
        return None
    for action in _LETTING:
        for decision in decisions:
            if decision.action is action:
                return decision
    here = [decision for decision in decisions if decision.stage is transaction.stage]
    return here[0] if here else None


def _verdict(
    transaction: Transaction, judgement: Judgement, usages: Sequence[Usage], decision: Decision | None
) -> Verdict:
    pending = judgement.pending
    limits = tuple([_limit(each, usage) for each, usage in zip(pending, usages, strict=True)])
    if decision is None:
        notices = _notices(transaction, pending, usages, refuses=False)
        return Verdict(
            Action.CONTINUE, transaction.stage, limits=limits, unknown=judgement.unknown, notices=notices
        )
    return Verdict(
        decision.action,
        decision.stage,
        decision.rule,
        decision.reply,
        decision.reason,
        limits=limits,
        unknown=judgement.unknown,
        target=decision.target,
        notices=_notices(transaction, pending, usages, refuses=decision.action.refuses),
    )


def _limit(pending: Pending, usage: Usage) -> LimitUsage:
    return LimitUsage(
        pending.charge.rule,
        usage.used,
        usage.maximum,
        usage.exceeded,
        usage.retry_after,
        usage.degraded,
        pending.observed,
        usage.blocked,
    )


def _notices(
    transaction: Transaction, pending: Sequence[Pending], usages: Sequence[Usage], *, refuses: bool
) -> tuple[Notice, ...]:
    """What limits tell people. Of mail that is refused nothing was counted, so nothing was reached."""
    found = []
    for each, usage in zip(pending, usages, strict=True):
        if each.observed or usage.blocked:
            continue
        if usage.exceeded and each.consequence.action is not None:
            found.append(each.teller.exceeded(transaction, each.charge, usage))
        elif usage.added and each.teller.percent and not refuses:
            warning = each.teller.warning(transaction, each.charge, usage)
            if warning is not None:
                found.append(warning)
    return tuple(found)


def settle_without_store(transaction: Transaction, judgement: Judgement) -> Settled:
    """No limit can be asked: what a rule refuses is refused all the same, all else may come again.

    Mail whose limits are all under `observe` goes on: those never act.
    """
    blocks = judgement.blocks
    unknown = (*judgement.unknown, LIMITS_UNKNOWN)
    binding = any(not pending.observed for pending in judgement.pending)
    unlimited = Judgement(tuple(replace(block, pending=()) for block in blocks), unknown)
    for block in blocks:
        if block.decision is not None and block.decision.action.refuses:
            if any(_lets(pending) for pending in block.pending):
                break  # a limit above it might have let the mail in
            return settle(transaction, unlimited, ())
    if not binding:
        return settle(transaction, unlimited, ())
    return Settled(Verdict(Action.DEFER, transaction.stage, reply=STORE_AWAY, unknown=unknown))


def settle_unread(transaction: Transaction) -> Settled:
    """The time was over before all rules were read: nobody knows what the others would say."""
    unknown = (RULES_UNKNOWN,)
    return Settled(Verdict(Action.DEFER, transaction.stage, reply=RULES_UNREAD, unknown=unknown))


def for_door(settled: Settled, door: Door) -> Verdict:
    """The verdict with what this door can carry out of the remarks (DESIGN.md section 4, fine print).

    A policy reply carries one action: the first field to add or copy to send, when no other action is
    said. Mail that is refused gets neither, and nobody misses them.
    """
    verdict, remarks = settled.verdict, settled.remarks
    if not remarks:
        return verdict
    changes = [each for each in remarks if each.edit is not None or each.copy_to is not None]
    if verdict.action.refuses:
        changes = []
    room = len(changes)
    if door is Door.POLICY:
        room = 1 if verdict.action in (Action.CONTINUE, Action.ACCEPT) else 0
    return replace(
        verdict,
        edits=tuple(_edits(changes[:room])),
        copies=tuple(each.copy_to for each in changes[:room] if each.copy_to is not None),
        warnings=tuple(f"{each.rule}: {each.warning}" for each in remarks if each.warning is not None),
        skipped=tuple(each.rule for each in changes[room:]),
        notices=(*verdict.notices, *(each.notice for each in remarks if each.notice is not None)),
        observed=tuple(each.observed for each in remarks if each.observed is not None),
    )


def _edits(changes: Sequence[Remark]) -> list[AddHeader]:
    return [each.edit for each in changes if each.edit is not None]
