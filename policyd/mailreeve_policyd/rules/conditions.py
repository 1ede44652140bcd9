"""Conditions to closures: True, False, or None where what was asked cannot be known now (Kleene's logic)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from mailreeve_policyd.facts import Fact
from mailreeve_policyd.rules.comparisons import compile_comparison, facts_of
from mailreeve_policyd.rules.logic import Test, all_of, any_of, negate
from mailreeve_policyd.rules.nodes import AllOf, AnyOf, Comparison, Condition, Not
from mailreeve_policyd.rules.scope import Scope
from mailreeve_policyd.rules.spelling import format_condition


@dataclass(frozen=True, slots=True)
class Clause:
    """A condition, or a part of one, that can be asked by itself: how `rules explain` tells what held.

    `text` is as it would be written, on one line. `joint` is how `parts` make it up: "and", "or", "not", or
    "" for a comparison, which has no parts.
    """

    text: str
    test: Test
    joint: str = ""
    parts: tuple[Clause, ...] = ()
    facts: tuple[Fact, ...] = ()
    """What a comparison asks."""


def compile_condition(condition: Condition, scope: Scope) -> Clause:
    """The condition as one closure, and those of its parts.

    Raises:
        Mistake: it names what is not there, or compares what cannot be compared.
        ConfigError: an entry of a set file cannot be compared with the fact.
    """
    text = format_condition(condition)
    match condition:
        case Not():
            inner = compile_condition(condition.inner, scope)
            return Clause(text, negate(inner.test), "not", (inner,))
        case AnyOf():
            parts = tuple(compile_condition(part, scope) for part in condition.parts)
            return Clause(text, any_of([part.test for part in parts]), "or", parts)
        case AllOf():
            parts = tuple(compile_condition(part, scope) for part in condition.parts)
            return Clause(text, all_of([part.test for part in parts]), "and", parts)
        case Comparison():
            return Clause(text, compile_comparison(condition, scope), facts=tuple(facts_of(condition, scope)))


def comparisons_of(condition: Condition | None) -> Iterator[Comparison]:
    """Every comparison of a condition, left to right."""
    if condition is None:
        return
    waiting = [condition]
    while waiting:
        each = waiting.pop()
        if isinstance(each, Comparison):
            yield each
        elif isinstance(each, Not):
            waiting.append(each.inner)
        else:
            waiting += reversed(each.parts)
