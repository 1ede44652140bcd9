"""Conditions that can never hold, as far as their form shows it: a fact that would have to be two things."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from mailreeve_policyd.facts import FACTS, FactType
from mailreeve_policyd.rules.implication import conjuncts
from mailreeve_policyd.rules.nodes import (
    AnyOf,
    Comparison,
    Condition,
    Network,
    Not,
    Number,
    Operator,
    Subject,
    Text,
    Value,
    ValueList,
    Word,
)
from mailreeve_policyd.rules.source import Mistake, Place, quote


@dataclass(slots=True)
class _Claims:
    """What the parts so far say of one fact; `at` is the first that says something."""

    at: Place
    is_there: bool = False
    is_absent: bool = False
    values: frozenset[str] | None = None
    """Those that it may have; None for any."""
    low: int = 0
    high: int | None = None

    @property
    def is_impossible(self) -> bool:
        too_narrow = self.high is not None and self.low > self.high
        return (self.is_there and self.is_absent) or self.values == frozenset() or too_narrow


@dataclass(slots=True)
class _Seen:
    claims: dict[tuple[str, bool, str], _Claims] = field(default_factory=dict)

    def of(self, subject: Subject) -> _Claims:
        table = subject.table.text if subject.table is not None else ""
        return self.claims.setdefault((subject.name, subject.is_attribute, table), _Claims(subject.at))


def contradiction(condition: Condition) -> Mistake | None:
    """Where a condition says the opposite of what it said before; None where it may hold."""
    seen = _Seen()
    for part in conjuncts(condition):
        if isinstance(part, AnyOf):
            found = [contradiction(each) for each in part.parts]
            if all(found):
                return found[0]
        elif (mistake := _claim(part, seen)) is not None:
            return mistake
    return None


def _claim(part: Condition, seen: _Seen) -> Mistake | None:
    is_negated = isinstance(part, Not)
    inner = part.inner if isinstance(part, Not) else part
    if not isinstance(inner, Comparison):
        return None
    claims = seen.of(inner.subject)
    (_deny if is_negated else _affirm)(inner, claims)
    if not claims.is_impossible:
        return None
    name = quote(inner.subject.name)
    problem = f"this can never hold: what it says of {name} contradicts line {claims.at.line}"
    if claims.at == inner.subject.at:
        problem = f"this can never hold: {name} has no such value"
    return Mistake(inner.subject.at, problem, "write `or` between values of one fact, or two rules")


def _affirm(comparison: Comparison, claims: _Claims) -> None:
    claims.is_there = True
    values = _values(comparison)
    match comparison.operator:
        case Operator.IS | Operator.IN if values is not None:
            claims.values = values if claims.values is None else claims.values & values
        case Operator.IS_NOT if values is not None:
            _exclude(comparison, claims, values)
        case Operator.BELOW | Operator.AT_MOST | Operator.ABOVE | Operator.AT_LEAST:
            _bound(comparison, claims)
        case _:
            pass


def _deny(comparison: Comparison, claims: _Claims) -> None:
    values = _values(comparison)
    if comparison.operator is Operator.PRESENT:
        claims.is_absent = True
    elif comparison.operator in (Operator.IS, Operator.IN) and values is not None and claims.is_there:
        _exclude(comparison, claims, values)  # `not x is a` alone also holds where x is absent


def _exclude(comparison: Comparison, claims: _Claims, values: frozenset[str]) -> None:
    if claims.values is not None:
        claims.values -= values
        return
    fact = FACTS.get(comparison.subject.name)
    if fact is not None and fact.type is FactType.WORD and comparison.subject.table is None:
        claims.values = fact.words - values


def _bound(comparison: Comparison, claims: _Claims) -> None:
    if not isinstance(comparison.right, Number):
        return
    value = comparison.right.value
    match comparison.operator:
        case Operator.BELOW:
            high = value - 1
        case Operator.AT_MOST:
            high = value
        case Operator.ABOVE:
            claims.low = max(claims.low, value + 1)
            return
        case _:
            claims.low = max(claims.low, value)
            return
    claims.high = high if claims.high is None else min(claims.high, high)


def _values(comparison: Comparison) -> frozenset[str] | None:
    """The single values on the right, in the form in which they compare; None where there are others."""
    right = comparison.right
    written: Iterable[Value] = right.values if isinstance(right, ValueList) else ()
    if isinstance(right, Text | Word | Number | Network):
        written = (right,)
    fact = FACTS.get(comparison.subject.name)
    is_word = fact is not None and fact.type is FactType.WORD
    found = [_value(each, is_word) for each in written]
    return frozenset(each for each in found if each is not None) if found and None not in found else None


def _value(value: Value, is_word: bool) -> str | None:
    match value:
        case Number():
            return str(value.value)
        case Network():
            return None if "/" in value.text else value.text.lower()
        case Word():
            return value.text if is_word else None
        case Text():
            return value.text.lower()
