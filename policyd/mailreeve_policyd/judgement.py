"""What the rules say of a transaction before any limit is asked: the words between rules/ and policy.py.

Knows no rules language and no store. Structs, as the values of transaction.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta
from enum import Enum
from typing import Protocol

import msgspec

from mailreeve_policyd.limits import Charge, Usage
from mailreeve_policyd.notice import Notice
from mailreeve_policyd.rules_time import RulesTime
from mailreeve_policyd.smtp import Reply, Stage
from mailreeve_policyd.transaction import Transaction
from mailreeve_policyd.verdict import Action, AddHeader, Observed


class OnUnknown(Enum):
    """What a rule does when a fact that it needs cannot be known now."""

    DEFER = "defer"
    IGNORE = "ignore"


class Decision(msgspec.Struct, frozen=True, gc=False):
    """A rule's decision.

    `reply` stands with DEFER and REJECT, `reason` with HOLD and DISCARD, `target` with REDIRECT and FILTER.
    """

    stage: Stage
    rule: str
    action: Action
    reply: Reply | None = None
    reason: str | None = None
    target: str | None = None


class Remark(msgspec.Struct, frozen=True, gc=False):
    """What a rule does that decides nothing: one of these is given."""

    rule: str
    edit: AddHeader | None = None
    copy_to: str | None = None
    warning: str | None = None
    notice: Notice | None = None
    observed: Observed | None = None


class Exceeded(msgspec.Struct, frozen=True, gc=False):
    """The answer to a limit that is exceeded, as its texts tell it.

    `longest` is how long until the request could pass, of all limits that refuse it; None where no wait
    helps.
    """

    longest: timedelta | None
    charge: Charge
    usage: Usage

    @property
    def can_never_pass(self) -> bool:
        """Is the request larger than the limit by itself?"""
        return self.usage.can_never_pass


class Consequence(Protocol):
    """What an exceeded limit does."""

    @property
    def action(self) -> Action | None:
        """The action that it decides; None for a remark."""

    def decide(self, transaction: Transaction, exceeded: Exceeded | None) -> Decision:
        """The decision, where there is an action."""

    def remark(self, transaction: Transaction, exceeded: Exceeded | None) -> Remark:
        """The remark, where there is none."""

    def observed(self, transaction: Transaction, exceeded: Exceeded | None) -> Observed:
        """What it would do, of a rule under `observe`."""


class Teller(Protocol):
    """What a limit tells people."""

    @property
    def percent(self) -> int:
        """The share of the maximum at which it warns; 0 for never."""

    def warning(self, transaction: Transaction, charge: Charge, usage: Usage) -> Notice | None:
        """Its warning, if this call reached that share."""

    def exceeded(self, transaction: Transaction, charge: Charge, usage: Usage) -> Notice:
        """That it is exceeded, and did what it decides."""


class Pending(msgspec.Struct, frozen=True, gc=False):
    """A limit that applies and waits for the store's answer; `position` is the rule's in its block.

    `observed`: its rule is under `observe`, and what it would do is only recorded.
    """

    position: int
    charge: Charge
    consequence: Consequence
    teller: Teller
    observed: bool = False


class BlockJudgement(msgspec.Struct, frozen=True, gc=False):
    """One stage's rules down to the first that decides whatever the limits say (`decision`)."""

    stage: Stage
    pending: tuple[Pending, ...] = ()
    remarks: tuple[tuple[int, Remark], ...] = ()
    """Each with its rule's position in the block."""
    decision: Decision | None = None


class Judgement(msgspec.Struct, frozen=True, gc=False):
    """The rules of all stages that have some, in their order. `unknown` names facts that a rule needed.

    `unread` is the rule at which the time for them was over: then nothing else is said.
    """

    blocks: tuple[BlockJudgement, ...]
    unknown: tuple[str, ...] = ()
    unread: str | None = None

    @property
    def pending(self) -> tuple[Pending, ...]:
        """The limits of all blocks, in the order of `charges`."""
        return tuple([pending for block in self.blocks for pending in block.pending])

    @property
    def charges(self) -> tuple[Charge, ...]:
        """One charge for all blocks: what the store is asked."""
        return tuple([pending.charge for block in self.blocks for pending in block.pending])

    @property
    def counts(self) -> bool:
        """Is there a limit at all?"""
        for block in self.blocks:  # noqa: SIM110 -- any() with a generator costs twice as much
            if block.pending:
                return True
        return False

    @property
    def may_refuse(self) -> bool:
        """Does a rule below the limits refuse?"""
        for block in self.blocks:  # noqa: SIM110 -- as above
            if block.decision is not None and block.decision.action.refuses:
                return True
        return False


class Outcome(Enum):
    """What became of a rule."""

    HELD = "held"
    DID_NOT_HOLD = "did not hold"
    UNKNOWN = "cannot be known"
    WITHIN = "within its limit"
    EXCEEDED = "exceeded"
    DOES_NOT_COUNT = "does not count this"
    NOT_REACHED = "not reached"


class Step(msgspec.Struct, frozen=True, gc=False):
    """One rule of a decision, for a person. `detail` is printable: the facts that it asked, or the usage."""

    stage: Stage
    rule: str
    line: int
    outcome: Outcome
    detail: str = ""
    observed: bool = False
    """It stands under `observe`, and does nothing."""
    ends: bool = False
    """It is a limit that ends its block when it is exceeded: other rules below it do nothing then."""

    def __str__(self) -> str:
        head = f"{self.stage.value} {'observe ' if self.observed else ''}{self.rule}: {self.outcome.value}"
        return f"{head} ({self.detail})" if self.detail else head


class Judge(Protocol):
    """The rules, as the decision point sees them."""

    def needs(self, stages: Iterable[Stage]) -> frozenset[str]:
        """The evidence that the rules of these stages ask."""

    def judge(
        self,
        transaction: Transaction,
        stages: Iterable[Stage],
        on_unknown: OnUnknown,
        rules_time: RulesTime | None = None,
    ) -> Judgement:
        """What the rules of these stages say of a transaction; without `rules_time` they may take any."""

    def steps(
        self, transaction: Transaction, stages: Sequence[Stage], on_unknown: OnUnknown
    ) -> tuple[Step, ...]:
        """The same, rule by rule; a limit that applies is WITHIN until the store has said."""
