"""What is so whenever a condition holds, as far as its form shows it. Evaluates nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from mailreeve_policyd.rules.nodes import AllOf, AnyOf, Comparison, Condition, Not, Operator


def requires(condition: Condition | None, is_enough: Callable[[Comparison], bool]) -> bool:
    """Does a comparison for which `is_enough` hold whenever the condition holds?"""
    match condition:
        case Comparison():
            return is_enough(condition)
        case AllOf():
            return any(requires(part, is_enough) for part in condition.parts)
        case AnyOf():
            return all(requires(part, is_enough) for part in condition.parts)
        case Not(inner=Not() as twice):
            return requires(twice.inner, is_enough)
        case _:
            return False


def is_there(name: str) -> Callable[[Comparison], bool]:
    """For `requires`: the fact is there. Of an absent fact every comparison is false, `is not` included."""
    return lambda comparison: asks(comparison, name)


def asks(comparison: Comparison, name: str) -> bool:
    """Does it compare this fact itself, and not what a table has for it?"""
    subject = comparison.subject
    return subject.name == name and not subject.is_attribute and subject.table is None


def conjuncts(condition: Condition | None) -> Iterator[Condition]:
    """The parts that must all hold, left to right."""
    if isinstance(condition, AllOf):
        for part in condition.parts:
            yield from conjuncts(part)
    elif condition is not None:
        yield condition


def absent(condition: Condition | None) -> Iterator[Comparison]:
    """The facts that are absent whenever the condition holds: `not FACT`."""
    for part in conjuncts(condition):
        if isinstance(part, Not) and isinstance(part.inner, Comparison):
            inner = part.inner
            if inner.operator is Operator.PRESENT and inner.subject.table is None:
                yield inner
