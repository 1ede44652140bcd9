"""Conditions to closures: True, False, or None where what was asked cannot be known now (Kleene's logic)."""

from __future__ import annotations

from collections.abc import Iterator

from mailreeve_policyd.rules.comparisons import compile_comparison
from mailreeve_policyd.rules.logic import Test, all_of, any_of, negate
from mailreeve_policyd.rules.nodes import AllOf, AnyOf, Comparison, Condition, Not
from mailreeve_policyd.rules.scope import Scope


def compile_condition(condition: Condition, scope: Scope) -> Test:
    """The condition as one closure.

    Raises:
        Mistake: it names what is not there, or compares what cannot be compared.
        ConfigError: an entry of a set file cannot be compared with the fact.
    """
    match condition:
        case Not():
            return negate(compile_condition(condition.inner, scope))
        case AnyOf():
            return any_of([compile_condition(part, scope) for part in condition.parts])
        case AllOf():
            return all_of([compile_condition(part, scope) for part in condition.parts])
        case Comparison():
            return compile_comparison(condition, scope)


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
