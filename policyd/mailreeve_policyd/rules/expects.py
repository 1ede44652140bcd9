"""The expect lines: a rules file's own tests, run before it takes force.

Each line has a store of its own in memory and a clock of its own, and asks no network.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta

from msgspec.structs import replace

from mailreeve_policyd.facts import Door, Fact, FactValue
from mailreeve_policyd.judgement import OnUnknown, Outcome, Step
from mailreeve_policyd.limits_memory import MemoryStore
from mailreeve_policyd.policy import Explanation, Policy
from mailreeve_policyd.rules.compiler import Names, compile_rules, deciding
from mailreeve_policyd.rules.given import Description, bound_from, description_from
from mailreeve_policyd.rules.nodes import After, ExpectNode, RulesFile, Subject, Word
from mailreeve_policyd.rules.outside import BOUND_FACTS
from mailreeve_policyd.rules.quota import period_of
from mailreeve_policyd.rules.rehearsal import rehearse
from mailreeve_policyd.rules.ruleset import Ruleset
from mailreeve_policyd.rules.scope import Scope
from mailreeve_policyd.rules.source import Mistake, one_of, quote, suggest
from mailreeve_policyd.rules.variation import Prefixes, can_vary, other
from mailreeve_policyd.rules.verbs import Verb
from mailreeve_policyd.smtp import Stage
from mailreeve_policyd.transaction import Transaction
from mailreeve_policyd.verdict import Action, Verdict

MAX_STEPS = 200_000
"""All lines of a file together: some seconds, and a reload waits for them. A step takes about 50 us: a
message, each limit that it may meet, and each rule that is compiled anew for a `where` or a place."""

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
    _check_steps(parsed, ruleset)
    rehearsed = rehearse(names)
    if parsed.expects and (names.are_live or _asks_places(ruleset)):
        ruleset = compile_rules(parsed, ruleset.file, doors, rehearsed)
    context = _Context(parsed, ruleset, doors, rehearsed, on_unknown)
    for node in parsed.expects:
        _run(node, context)


def _asks_places(ruleset: Ruleset) -> bool:
    return any(fact.name in BOUND_FACTS for rule in ruleset.rules for fact in rule.facts)


def _check_steps(parsed: RulesFile, ruleset: Ruleset) -> None:
    limits = Counter(rule.stage.value for rule in ruleset.rules if rule.counts)
    total = 0
    for node in parsed.expects:
        messages = 1 + (node.after.times.value if node.after else 0)
        total += messages * (1 + limits[node.stage.text])
        total += len(ruleset.rules) if _has_rules_of_its_own(node) else 0
        if total > MAX_STEPS:
            problem = f"the expect lines take more than {MAX_STEPS} steps together"
            hint = "a smaller limit proves the same; a step is each message, and each limit that it may meet"
            raise Mistake(node.after.times.at if node.after else node.at, problem, hint)


def _has_rules_of_its_own(node: ExpectNode) -> bool:
    """Are they compiled anew for what it gives?"""
    subjects = [given.subject for given in node.givens]
    if node.after is not None and node.after.others is not None:
        subjects += node.after.others.subjects
    return bool(node.members) or any(one.name in BOUND_FACTS and not one.is_attribute for one in subjects)


def _run(node: ExpectNode, context: _Context) -> None:
    expected = _expectation(node.action)
    stage, door = deciding(node.stage, context.doors)
    scope = context.names.scope(stage, door)
    messages = _Messages.of(node, scope)
    ruleset = _for_line(node, messages.bound, context)
    policy, last = _play(node.after, messages, ruleset, door, context.on_unknown)
    verdict = policy.decide(last)
    if not _EXPECTATIONS[expected](verdict):
        raise _failure(node, expected, policy.explain(last, verdict))


def _decided(action: Action) -> Callable[[Verdict], bool]:
    return lambda verdict: verdict.action is action


_EXPECTATIONS: Mapping[str, Callable[[Verdict], bool]] = {
    **{action.value: _decided(action) for action in Action},
    Verb.BCC.value: lambda verdict: bool(verdict.copies),
    Verb.ADD_HEADER.value: lambda verdict: bool(verdict.edits),
    Verb.WARN.value: lambda verdict: bool(verdict.warnings),
    Verb.NOTIFY.value: lambda verdict: bool(verdict.notices),
}
"""What a line can expect: what was decided, or what was done beside, whatever was decided."""


def _expectation(word: Word) -> str:
    if word.text in _EXPECTATIONS:
        return word.text
    hint = suggest(word.text, _EXPECTATIONS) or f"here may stand {one_of(_EXPECTATIONS)}"
    raise Mistake(word.at, f"{quote(word.text)} is nothing that a line can expect", hint)


@dataclass(frozen=True, slots=True)
class _Messages:
    """The messages of a line: alike but for what is `other` in each.

    `bound` has the BOUND_FACTS of the message that was made last, for the rules that are compiled with it.
    """

    described: Description
    others: tuple[tuple[Subject, Fact], ...]
    bound: dict[str, FactValue]
    prefixes: Prefixes

    @classmethod
    def of(cls, node: ExpectNode, scope: Scope) -> _Messages:
        """Raises Mistake where something that is to differ would not."""
        described = description_from(node.givens, scope)
        others = _others(node.after, scope)
        prefixes = {4: scope.outside.ipv4_prefix, 6: scope.outside.ipv6_prefix}
        bound = dict(bound_from(node.givens, scope))
        unbound = [fact for _, fact in others if fact.name in BOUND_FACTS - bound.keys()]
        bound |= {fact.name: other(fact, None, 0, prefixes) for fact in unbound}
        messages = cls(described, others, bound, prefixes)
        messages.check(node.after.times.value if node.after else 0)
        return messages

    def make(self, number: int, instance: str) -> Transaction:
        """The message with this number, from 0 on."""
        described = self.described
        for subject, fact in self.others:
            described = described.other(subject, fact, number, self.prefixes)
        self.bound.update((name, described.values[name]) for name in self.bound)
        return replace(described.transaction(), instance=instance)

    def check(self, times: int) -> None:
        """Raise Mistake if a fact that is to differ is absent in the first message, or in the last."""
        ends = [self.make(number, "") for number in (0, times)]
        for subject, fact in self.others:
            if fact.name not in BOUND_FACTS and any(fact.read(message) is None for message in ends):
                problem = f"there is no other {quote(fact.name)} by what this line gives"
                raise Mistake(subject.at, problem, "give an address that has a domain, not too long a one")


def _others(after: After | None, scope: Scope) -> tuple[tuple[Subject, Fact], ...]:
    """The facts that differ from message to message, each as it is named and as the catalogue has it."""
    if after is None or after.others is None:
        return ()
    word = after.others.word
    if word.text != "other":
        raise Mistake(word.at, f"unexpected {quote(word.text)}", "write `with other recipient`")
    found = tuple((subject, scope.fact(subject)) for subject in after.others.subjects)
    for subject, fact in found:
        if not can_vary(fact):
            raise Mistake(subject.at, f"there is no other {quote(fact.name)} for each message")
    return found


def _for_line(node: ExpectNode, facts: Mapping[str, FactValue], context: _Context) -> Ruleset:
    """The rules with what this line alone gives. It is compiled in, so they are compiled again."""
    if not node.members and not facts:
        return context.ruleset
    names = rehearse(context.names, node.members, facts)
    return compile_rules(context.parsed, context.ruleset.file, context.doors, names)


def _play(
    after: After | None, messages: _Messages, ruleset: Ruleset, door: Door, on_unknown: OnUnknown
) -> tuple[Policy, Transaction]:
    """Let N messages come, each a new one, evenly over the time that is said. What to judge is the next."""
    times, within = _times(after)
    clock = _Clock()
    policy = Policy(ruleset, MemoryStore(clock), door, on_unknown, clock)
    for number in range(times):
        clock.now = _START + (within * number / times) / timedelta(seconds=1)
        policy.decide(messages.make(number, f"expect-{number}"))
    clock.now = _START + within / timedelta(seconds=1)
    return policy, messages.make(times, "expect-last")


def _times(after: After | None) -> tuple[int, timedelta]:
    if after is None:
        return 0, timedelta(0)
    if after.word.text not in ("times", "time"):
        raise Mistake(after.word.at, f"unexpected {quote(after.word.text)}", "write `after 60 times`")
    return after.times.value, period_of(after.within) if after.within else timedelta(0)


def _failure(node: ExpectNode, expected: str, explanation: Explanation) -> Mistake:
    verdict = explanation.verdict
    by = f" by rule {quote(verdict.rule)}" if verdict.rule else ""
    problem = f"expected {expected} at {node.stage.text}, but it is {verdict.action.value}{by}"
    return Mistake(node.at, problem, "\n        ".join(["rule by rule:", *_told(explanation.steps)]))


MAX_TOLD = 30
"""Rules that a failure tells: a screen."""


def _told(steps: tuple[Step, ...]) -> list[str]:
    reached = [str(step) for step in steps if step.outcome is not Outcome.NOT_REACHED]
    more = len(reached) - MAX_TOLD
    return [*reached[:MAX_TOLD], *([f"and {more} more"] if more > 0 else [])] or ["there is no rule"]
