"""The compiled rules, and what they say of a transaction. Asks no store and no network; holds no state."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
from msgspec.structs import replace

from mailreeve_policyd.errors import StoreError
from mailreeve_policyd.escape import escape
from mailreeve_policyd.facts import Fact, FactValue
from mailreeve_policyd.judgement import (
    BlockJudgement,
    Decision,
    Judgement,
    OnUnknown,
    Outcome,
    Pending,
    Remark,
    Step,
)
from mailreeve_policyd.rules.actions import Decide, Note, cannot_know
from mailreeve_policyd.rules.charging import Counter
from mailreeve_policyd.rules.conditions import Clause
from mailreeve_policyd.rules.index import RuleIndex, Triggers
from mailreeve_policyd.rules.logic import Test
from mailreeve_policyd.rules.scope import is_unknown, shown
from mailreeve_policyd.rules_time import RulesStopwatch, RulesTime
from mailreeve_policyd.smtp import Stage
from mailreeve_policyd.transaction import Transaction
from mailreeve_policyd.verdict import Action, Observed
from mailreeve_policyd.watched_files import Stamps, WatchedFiles

UNTIMED_WEIGHT = 64
"""Rules of so much weight are read between two looks at the clock: that costs as much as some plain rules."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule, compiled. `asks` are the facts of its condition, `facts` all that it reads.

    `on_unknown` is None where the rule does not say; then a reject rule does as the settings say, and
    any other does not apply.
    """

    name: str
    stage: Stage
    line: int
    condition: Test | None
    on_unknown: OnUnknown | None
    asks: tuple[Fact, ...]
    facts: tuple[Fact, ...]
    body: Decide | Note | Counter
    observed: bool = False
    """Under `observe` it is evaluated, counted and recorded, and does nothing."""
    clause: Clause | None = None
    """Its condition, part by part."""
    text: str = ""
    """As it stands in the file, its name included, with its line ends."""
    triggers: Triggers | None = None
    """What must be there so that it is not false; None where that cannot be told beforehand."""
    weight: int = 1
    """How much work it may be, in plain comparisons."""

    @property
    def counts(self) -> bool:
        """Is it a limit?"""
        return isinstance(self.body, Counter)

    def defers_unknown(self, default: OnUnknown) -> bool:
        """Is mail deferred when this rule's condition cannot be known?"""
        if self.on_unknown is not None:
            return self.on_unknown is OnUnknown.DEFER
        is_reject = isinstance(self.body, Decide) and self.body.verdict is Action.REJECT
        return is_reject and default is OnUnknown.DEFER

    def unknown(self, transaction: Transaction) -> tuple[str, ...]:
        """Which facts of its condition cannot be known now; of a limit also what it counts by."""
        asked = self.facts if self.counts else self.asks
        return tuple(fact.name for fact in asked if is_unknown(fact, transaction))


@dataclass(frozen=True, slots=True)
class Named:
    """A set or table of the file, and its `source`. `size` is None where it is asked in Redis."""

    kind: str
    name: str
    source: str
    size: int | None


class _Tally(msgspec.Struct, gc=False):
    """What a block's rules have come to so far."""

    pending: list[Pending] = []
    remarks: list[tuple[int, Remark]] = []


class _Progress(msgspec.Struct, gc=False):
    """What the blocks of one question have come to so far."""

    unknown: list[str] = []
    unread: str | None = None
    stopwatch: RulesStopwatch | None = None

    def is_over(self, rules_time: RulesTime) -> bool:
        """Is the time over? It begins with the first look."""
        if self.stopwatch is None:
            self.stopwatch = RulesStopwatch(rules_time)
            return False
        return self.stopwatch.is_over()


@dataclass(frozen=True, slots=True)
class Ruleset:
    """All rules of a file, by stage, in their order. `notes` are remarks of `rules check`, no mistakes.

    `file` is where they came from. `stamps` are those of the set and table files that they name, from
    before these were read; `again` makes the same rules with the files that changed read anew (raises
    ConfigError). `beside` are files that are followed without the rules. `named` are its sets and tables.
    `given` makes the same rules for a question in which these BOUND_FACTS are said. `indexes` are of the
    `blocks`, one each. Safe from any thread.
    """

    file: str
    rules: tuple[Rule, ...]
    notes: tuple[str, ...] = ()
    blocks: Mapping[Stage, tuple[Rule, ...]] = field(default_factory=dict)
    indexes: Mapping[Stage, RuleIndex] = field(default_factory=dict)
    stamps: Stamps = field(default_factory=dict)
    beside: tuple[WatchedFiles, ...] = ()
    again: Callable[[frozenset[Path]], Ruleset] | None = None
    named: tuple[Named, ...] = ()
    given: Callable[[Mapping[str, FactValue]], Ruleset] | None = None

    @property
    def stages(self) -> frozenset[Stage]:
        """Stages that have rules."""
        return frozenset(self.blocks)

    def rules_at(self, stage: Stage) -> tuple[Rule, ...]:
        """The rules of a stage, in order."""
        return self.blocks.get(stage, ())

    def needs(self, stages: Iterable[Stage]) -> frozenset[str]:
        """The evidence that the rules of these stages ask: of spf, spf_helo, iprev."""
        asked = (fact.needs for stage in stages for rule in self.rules_at(stage) for fact in rule.facts)
        return frozenset(need for need in asked if need is not None)

    def counts(self, stage: Stage) -> bool:
        """Does a rule of this stage count against a limit?"""
        return any(rule.counts for rule in self.rules_at(stage))

    def asks_live(self, stage: Stage) -> bool:
        """Does a rule of this stage ask a live set or table, so that it may have to wait for it?"""
        return any(fact.is_live for rule in self.rules_at(stage) for fact in rule.facts)

    def adders(self, stages: Iterable[Stage]) -> Iterator[tuple[Rule, str]]:
        """The rules of these stages that add a header field, each with the field's name."""
        for stage in stages:
            for rule in self.rules_at(stage):
                does = rule.body.consequence if isinstance(rule.body, Counter) else rule.body
                if isinstance(does, Note) and does.field is not None:
                    yield rule, does.field

    def judge(
        self,
        transaction: Transaction,
        stages: Iterable[Stage],
        on_unknown: OnUnknown,
        rules_time: RulesTime | None = None,
    ) -> Judgement:
        """What the rules of these stages say, in the order given, before any limit is asked."""
        progress = _Progress()
        blocks = []
        for stage in stages:
            if stage in self.blocks:
                blocks.append(self._block(transaction, stage, on_unknown, rules_time, progress))
                if progress.unread is not None:
                    return Judgement((), unread=progress.unread)
        unknown = progress.unknown
        return Judgement(tuple(blocks), tuple(dict.fromkeys(unknown)) if unknown else ())

    def _block(
        self,
        transaction: Transaction,
        stage: Stage,
        on_unknown: OnUnknown,
        rules_time: RulesTime | None,
        progress: _Progress,
    ) -> BlockJudgement:
        tally = _Tally()
        decision = None
        rules = self.blocks[stage]
        untimed = 0
        for position in self.indexes[stage].candidates(transaction):
            rule = rules[position]
            untimed += rule.weight
            if untimed > UNTIMED_WEIGHT and rules_time is not None:
                untimed = rule.weight
                if progress.is_over(rules_time):
                    progress.unread = rule.name
                    break
            held = True if rule.condition is None else rule.condition(transaction)
            if held:
                try:
                    decision = _act(rule, transaction, position, tally)
                except StoreError:  # the limit stands in a table that cannot say
                    held = None
            if held is None:
                progress.unknown += rule.unknown(transaction)
                if rule.defers_unknown(on_unknown):
                    decision = cannot_know(rule.name, stage)
                    if rule.observed:
                        tally.remarks.append((position, _would_defer(decision)))
                        decision = None
            if decision is not None:
                break
        return BlockJudgement(stage, tuple(tally.pending), tuple(tally.remarks), decision)

    def steps(
        self, transaction: Transaction, stages: Sequence[Stage], on_unknown: OnUnknown
    ) -> tuple[Step, ...]:
        """What became of each rule, in order; a limit that applies is WITHIN until the store has said."""
        return tuple(
            step for stage in stages for step in _steps(self.rules_at(stage), transaction, on_unknown)
        )


def _act(rule: Rule, transaction: Transaction, position: int, tally: _Tally) -> Decision | None:
    body = rule.body
    if isinstance(body, Counter):
        charge = body.charge(transaction)
        if charge is not None:
            pending = Pending(position, charge, body.consequence, body.teller, rule.observed)
            tally.pending.append(pending)
        return None
    if rule.observed:
        observed = body.observed(transaction, None)
        tally.remarks.append((position, Remark(rule.name, observed=observed)))
        return None
    if isinstance(body, Decide):
        return body.decide(transaction, None)
    tally.remarks.append((position, body.remark(transaction, None)))
    return None


def _would_defer(decision: Decision) -> Remark:
    text = str(decision.reply) if decision.reply else None
    return Remark(
        decision.rule, observed=Observed(decision.rule, decision.stage, decision.action.value, text)
    )


def _steps(rules: Sequence[Rule], transaction: Transaction, on_unknown: OnUnknown) -> Iterable[Step]:
    decided = False
    for rule in rules:
        if decided:
            yield Step(rule.stage, rule.name, rule.line, Outcome.NOT_REACHED, observed=rule.observed)
            continue
        step = replace(_step(rule, transaction), observed=rule.observed)
        decides = isinstance(rule.body, Decide) and step.outcome is Outcome.HELD
        defers = step.outcome is Outcome.UNKNOWN and rule.defers_unknown(on_unknown)
        decided = (decides or defers) and not rule.observed
        yield step


def _step(rule: Rule, transaction: Transaction) -> Step:
    held = True if rule.condition is None else rule.condition(transaction)
    asked = ", ".join(f"{escape(fact.name)}={shown(fact, transaction)}" for fact in rule.asks)
    outcome = Outcome.UNKNOWN if held is None else Outcome.HELD if held else Outcome.DID_NOT_HOLD
    if not held or not isinstance(rule.body, Counter):
        return Step(rule.stage, rule.name, rule.line, outcome, asked)
    try:
        counts = rule.body.charge(transaction) is not None
    except StoreError:
        return Step(rule.stage, rule.name, rule.line, Outcome.UNKNOWN, asked)
    if not counts:
        absent = ", ".join(f"{fact.name}={shown(fact, transaction)}" for fact in rule.body.keys)
        return Step(rule.stage, rule.name, rule.line, Outcome.DOES_NOT_COUNT, absent)
    ends = rule.body.consequence.action is not None and not rule.observed
    return Step(rule.stage, rule.name, rule.line, Outcome.WITHIN, asked, ends=ends)
