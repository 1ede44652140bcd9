"""Advice of `rules check`: what is right, but perhaps not what was meant. Refuses nothing."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass

from mailreeve_policyd.facts import FACTS, Door, Fact, FactType
from mailreeve_policyd.rules.conditions import comparisons_of
from mailreeve_policyd.rules.contradiction import contradiction
from mailreeve_policyd.rules.implication import absent, is_there, requires
from mailreeve_policyd.rules.nodes import (
    ActionNode,
    Cited,
    Comparison,
    Condition,
    Key,
    LimitNode,
    Operator,
    RuleNode,
    RulesFile,
    Spec,
    Subject,
    Text,
    Value,
    ValueList,
    Word,
)
from mailreeve_policyd.rules.sets import NamedSet
from mailreeve_policyd.rules.source import Mistake, Place, one_of, quote
from mailreeve_policyd.rules.spoofing import ENDS, needless
from mailreeve_policyd.smtp import Stage

MAX_ADVICE = 100
"""Lines of one file: nobody reads more, and each is a screen's part."""

_IN_TEXT = re.compile(r"\{([A-Za-z_][A-Za-z0-9_-]*)\[")

Doors = Mapping[Stage, Door]


def advise(
    parsed: RulesFile, doors: Doors, sets: Mapping[str, object], unfound: Mapping[str, str]
) -> tuple[str, ...]:
    """All advice on a file that compiles, in the order of the file, each with place, line and caret.

    `sets` are its sets by name. `unfound` are facts that nobody finds out here, each with the reason.
    """
    found = [*_unused(parsed)]
    for stage in Stage:
        nodes = [node for block in parsed.blocks if block.stage.text == stage.value for node in block.rules]
        for position, node in enumerate(nodes):
            found += _on_rule(node, nodes[:position], stage, doors)
            found += _on_condition(node.condition, sets, unfound)
    found.sort(key=lambda mistake: (mistake.at.line, mistake.at.column))
    return tuple(str(parsed.source.error(mistake)) for mistake in found[:MAX_ADVICE])


def _on_rule(node: RuleNode, earlier: Sequence[RuleNode], stage: Stage, doors: Doors) -> Iterator[Mistake]:
    above = next((each for each in earlier if _ends_always(each)), None)
    if above is not None:
        why = f"{quote(above.name.text)} in line {above.name.at.line} ends the block for all mail"
        yield Mistake(node.name.at, f"{quote(node.name.text)} is never reached", why)
    if needed := needless(node, earlier):
        yield Mistake(needed.at, "`spoofable` changes nothing here", "leave it out")
    if isinstance(node.body, LimitNode):
        yield from _on_limit(node, node.body, stage, doors)


def _ends_always(node: RuleNode) -> bool:
    is_action = isinstance(node.body, ActionNode) and node.body.verb.text in ENDS
    return is_action and node.condition is None and node.observed is None


# Limits


def _on_limit(node: RuleNode, body: LimitNode, stage: Stage, doors: Doors) -> Iterator[Mistake]:
    gone = {each.subject.name for each in absent(node.condition)}
    for key in body.keys:
        if key.subject.name in gone:
            hint = "it counts by what its condition says is absent"
            yield Mistake(key.subject.at, f"{quote(node.name.text)} never counts anything", hint)
    yield from _absent_keys(node, body, gone)
    yield from _several_recipients(body, stage)
    if _counts_too_early(node, body, stage, doors):
        yield Mistake(
            _counted_at(body),
            f"messages are counted at {stage.value}, also those that are refused or given up later",
            "write the limit `at end-of-message`, which the milter decides, to count what was sent",
        )


def _absent_keys(node: RuleNode, body: LimitNode, gone: Iterable[str]) -> Iterator[Mistake]:
    keys = [key for key in body.keys if key.subject.name not in gone and not _is_there(key, node.condition)]
    if keys:
        missing = one_of(_name(key.subject) for key in keys)
        yield Mistake(keys[0].subject.at, f"{node.name.text} does not count mail without {missing}")


def _name(subject: Subject) -> str:
    return f"{subject.table.text}[{subject.name}]" if subject.table else subject.name


def _is_there(key: Key, condition: Condition | None) -> bool:
    """Is what it counts by there whenever the condition holds?"""
    fact = FACTS.get(key.subject.name) if not key.subject.is_attribute else None
    if key.subject.table is None and fact is not None and _is_sure(fact):
        return True
    return requires(condition, is_there(key.subject.name))


def _is_sure(fact: Fact) -> bool:
    return fact.type is FactType.WORD or fact.name in ("client_address", "client_network")


def _several_recipients(body: LimitNode, stage: Stage) -> Iterator[Mistake]:
    if stage < Stage.DATA:
        return
    for key in body.keys:
        if key.subject.name in ("recipient", "recipient_domain"):
            problem = f"{quote(key.subject.name)} is absent at {stage.value} where a message has several"
            yield Mistake(key.subject.at, problem, "write the limit `at rcpt`")


def _counts_too_early(node: RuleNode, body: LimitNode, stage: Stage, doors: Doors) -> bool:
    """Does the policy daemon count messages that a milter could count once they are there?

    Strangers are better stopped early, so a limit for them alone is left alone.
    """
    spec = body.quota if isinstance(body.quota, Spec) else body.quota.default
    counts_messages = spec is not None and spec.unit is not None and spec.unit.text.startswith("message")
    is_early = stage < Stage.END_OF_MESSAGE and doors.get(stage) is Door.POLICY
    for_strangers = any(each.subject.name == "sasl_username" for each in absent(node.condition))
    has_milter = doors.get(Stage.END_OF_MESSAGE) is Door.MILTER
    return counts_messages and is_early and has_milter and not for_strangers


def _counted_at(body: LimitNode) -> Place:
    spec = body.quota if isinstance(body.quota, Spec) else body.quota.default
    return spec.maximum.at if spec is not None else body.keys[0].subject.at


# Conditions


def _on_condition(
    condition: Condition | None, sets: Mapping[str, object], unfound: Mapping[str, str]
) -> Iterator[Mistake]:
    if condition is None:
        return
    if (found := contradiction(condition)) is not None:
        yield found
    for comparison in comparisons_of(condition):
        yield from _on_comparison(comparison, sets, unfound)


def _on_comparison(
    comparison: Comparison, sets: Mapping[str, object], unfound: Mapping[str, str]
) -> Iterator[Mistake]:
    subject = comparison.subject
    fact = FACTS.get(subject.name) if not subject.is_attribute and subject.table is None else None
    if fact is not None and fact.name in unfound:
        yield Mistake(subject.at, f"{quote(fact.name)} is never found out here", unfound[fact.name])
    is_word = fact is not None and fact.type is FactType.WORD and fact.name != "dmarc_policy"
    if is_word and comparison.operator is Operator.PRESENT:
        hint = f"write `{subject.name} is pass`, or another of its words"
        yield Mistake(subject.at, f"{quote(subject.name)} is always there", hint)
    for word in _words_of(comparison.right):
        named = sets.get(word.text)
        if isinstance(named, NamedSet) and not named.entries:
            yield Mistake(word.at, f"the set {quote(word.text)} is empty: nothing is in it")


def _words_of(right: Value | ValueList | Subject | None) -> list[Word]:
    values = right.values if isinstance(right, ValueList) else (right,)
    return [value for value in values if isinstance(value, Word)]


# What nobody uses


def _unused(parsed: RulesFile) -> Iterator[Mistake]:
    used = _Uses()
    for block in parsed.blocks:
        for node in block.rules:
            used.collect((node.body, node.condition))
    used.collect((parsed.languages, [each.wordings for each in parsed.texts if each.name.text in used.texts]))
    for name in (*(each.name for each in parsed.sets), *(each.name for each in parsed.tables)):
        if name.text not in used.words:
            yield Mistake(name.at, f"{quote(name.text)} is never used")
    for text in parsed.texts:
        if text.name.text not in used.texts:
            yield Mistake(text.name.at, f"the text {quote(text.name.text)} is never used")


class _Uses:
    """The words and texts that stand anywhere in some nodes."""

    def __init__(self) -> None:
        self.words: set[str] = set()
        self.texts: set[str] = set()

    def collect(self, node: object) -> None:
        waiting: list[object] = [node]
        while waiting:
            each = waiting.pop()
            if isinstance(each, tuple | list):
                waiting += each
            elif isinstance(each, Word):
                self.words.add(each.text)
            elif isinstance(each, Text):
                self.words.update(_IN_TEXT.findall(each.text))
            elif isinstance(each, Cited):
                self.texts.add(each.name)
            elif is_dataclass(each):
                waiting += [getattr(each, field.name) for field in fields(each)]
