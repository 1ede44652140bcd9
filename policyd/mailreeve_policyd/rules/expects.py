"""The expect lines: a rules file's own tests, run before it takes force.

Each line has a store of its own in memory and a clock of its own, and asks no network.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta

from mailreeve_policyd.facts import Door
from mailreeve_policyd.judgement import OnUnknown, Outcome, Step
from mailreeve_policyd.limits_memory import MemoryStore
from mailreeve_policyd.policy import Explanation, Policy
from mailreeve_policyd.rules.compiler import Names, compile_rules, deciding
from mailreeve_policyd.rules.given import transaction_from
from mailreeve_policyd.rules.nodes import After, ExpectNode, RulesFile, Word
from mailreeve_policyd.rules.quota import period_of
from mailreeve_policyd.rules.ruleset import Ruleset
from mailreeve_policyd.rules.scope import Scope
from mailreeve_policyd.rules.source import Mistake, one_of, quote, suggest
from mailreeve_policyd.smtp import Stage
from mailreeve_policyd.transaction import Transaction
from mailreeve_policyd.verdict import Action

MAX_TIMES = 100_000
"""All `after N times` of a file together: some seconds, and a reload waits for them."""

MAX_EXPECTS = 2000
"""Lines of one file."""

_START = 1_000_000_000.0
"""When every expect line begins: any moment does, as long as it is always the same."""


@dataclass(slots=True)
class _Clock:
    """Seconds since the epoch that pass only as an expect line says."""

    now: float = _START

    def __call__(self) -> float:
        return self.now


@dataclass(frozen=True, slots=True)
class _Context:
    """What all expect lines of a file share."""

    parsed: RulesFile
    ruleset: Ruleset
    doors: Mapping[Stage, Door]
    names: Names
    on_unknown: OnUnknown


def run_expects(
    parsed: RulesFile, ruleset: Ruleset, doors: Mapping[Stage, Door], names: Names, on_unknown: OnUnknown
) -> None:
    """Run every expect line, in order.

    Raises:
        Mistake: the first that means nothing, or that the rules do not fulfil.
    """
    if len(parsed.expects) > MAX_EXPECTS:
        raise Mistake(parsed.expects[MAX_EXPECTS].at, f"more than {MAX_EXPECTS} expect lines")
    _check_times(parsed)
    context = _Context(parsed, ruleset, doors, names, on_unknown)
    for node in parsed.expects:
        _run(node, context)


def _check_times(parsed: RulesFile) -> None:
    total = 0
    for node in parsed.expects:
        if node.after is None:
            continue
        total += node.after.times.value
        if total > MAX_TIMES:
            problem = f"the expect lines ask for more than {MAX_TIMES} messages together"
            raise Mistake(node.after.times.at, problem, "a smaller limit proves the same")


def _run(node: ExpectNode, context: _Context) -> None:
    expected = _action(node.action)
    stage, door = deciding(node.stage, context.doors)
    scope = Scope(stage, door, context.names.sets, context.names.tables)
    transaction = transaction_from(node.givens, scope)
    ruleset = _with_members(node, context)
    explanation = _play(node.after, transaction, ruleset, door, context.on_unknown)
    if explanation.verdict.action is not expected:
        raise _failure(node, expected, explanation)


def _action(word: Word) -> Action:
    try:
        return Action(word.text)
    except ValueError:
        actions = [action.value for action in Action]
        hint = suggest(word.text, actions) or f"here may stand {one_of(actions)}"
        raise Mistake(word.at, f"{quote(word.text)} is nothing that a line can expect", hint) from None


def _with_members(node: ExpectNode, context: _Context) -> Ruleset:
    """The rules with what `where SET has "..."` adds; sets are compiled in, so they are compiled again."""
    if not node.members:
        return context.ruleset
    added: dict[str, list[str]] = {}
    at = node.members[0].entry.at
    for member in node.members:
        if member.set_name.text not in context.names.sets:
            hint = suggest(member.set_name.text, context.names.sets)
            raise Mistake(member.set_name.at, f"there is no set {quote(member.set_name.text)}", hint)
        added.setdefault(member.set_name.text, []).append(member.entry.text)
    names = context.names.with_members(added, at)
    return compile_rules(context.parsed, context.ruleset.file, context.doors, names)


def _play(
    after: After | None, transaction: Transaction, ruleset: Ruleset, door: Door, on_unknown: OnUnknown
) -> Explanation:
    """The last of the messages: N come before it, each a new one, evenly over the time that is said."""
    times, within = _times(after)
    clock = _Clock()
    policy = Policy(ruleset, MemoryStore(clock), door, on_unknown)
    for number in range(times):
        clock.now = _START + (within * number / times) / timedelta(seconds=1)
        policy.decide(replace(transaction, instance=f"expect-{number}"))
    clock.now = _START + within / timedelta(seconds=1)
    return policy.decide_traced(replace(transaction, instance="expect-last"))


def _times(after: After | None) -> tuple[int, timedelta]:
    if after is None:
        return 0, timedelta(0)
    if after.word.text not in ("times", "time"):
        raise Mistake(after.word.at, f"unexpected {quote(after.word.text)}", "write `after 60 times`")
    return after.times.value, period_of(after.within) if after.within else timedelta(0)


def _failure(node: ExpectNode, expected: Action, explanation: Explanation) -> Mistake:
    verdict = explanation.verdict
    by = f" by rule {quote(verdict.rule)}" if verdict.rule else ""
    problem = f"expected {expected.value} at {node.stage.text}, but it is {verdict.action.value}{by}"
    return Mistake(node.at, problem, "\n        ".join(["rule by rule:", *_told(explanation.steps)]))


MAX_TOLD = 30
"""Rules that a failure tells: a screen."""


def _told(steps: tuple[Step, ...]) -> list[str]:
    reached = [str(step) for step in steps if step.outcome is not Outcome.NOT_REACHED]
    more = len(reached) - MAX_TOLD
    return [*reached[:MAX_TOLD], *([f"and {more} more"] if more > 0 else [])] or ["there is no rule"]
