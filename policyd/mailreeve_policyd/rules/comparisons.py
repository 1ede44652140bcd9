"""One comparison to a closure. Each operator has one compiler, which says for which facts it is meant.

A closure gives True, False, or None where the fact cannot be known now; of an absent fact every comparison
is False, `is not` included.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from operator import ge, gt, le, lt

from mailreeve_policyd.facts import Fact, FactType, FactValue
from mailreeve_policyd.rules.comparing import TEXTS, Comparing
from mailreeve_policyd.rules.equality import compile_is, compile_is_not, present
from mailreeve_policyd.rules.logic import Test
from mailreeve_policyd.rules.lookups import as_number
from mailreeve_policyd.rules.membership import compile_has, compile_in, compile_under, guarded, live_tests
from mailreeve_policyd.rules.nodes import Comparison, Number, Operator, Subject, Text
from mailreeve_policyd.rules.regex import compile_pattern
from mailreeve_policyd.rules.scope import Scope
from mailreeve_policyd.transaction import Transaction

# < <= > >=

_ORDERS: Mapping[Operator, Callable[[int, int], bool]] = {
    Operator.BELOW: lt,
    Operator.AT_MOST: le,
    Operator.ABOVE: gt,
    Operator.AT_LEAST: ge,
}


def _ordered(comparing: Comparing) -> Test:
    right = comparing.node.right
    read, compare = _number_reader(comparing), _ORDERS[comparing.node.operator]
    if isinstance(right, Subject):
        find = comparing.scope.lookup(right, as_number)
        return _orders_two(read, find, compare)
    if not isinstance(right, Number):  # pragma: no cover -- the grammar gives a number
        raise comparing.wrong_value("a number")
    bound = right.value

    def test(transaction: Transaction) -> bool | None:
        value = read(transaction)
        return isinstance(value, int) and compare(value, bound)

    return test


def _number_reader(comparing: Comparing) -> Callable[[Transaction], FactValue | None]:
    if comparing.node.subject.table is not None:
        return comparing.scope.lookup(comparing.node.subject, as_number)
    if comparing.fact.type is not FactType.NUMBER:
        raise comparing.wrong_operator()
    return comparing.fact.read


def _orders_two(
    read: Callable[[Transaction], FactValue | None],
    find: Callable[[Transaction], int | None],
    compare: Callable[[int, int], bool],
) -> Test:
    def test(transaction: Transaction) -> bool | None:
        value = read(transaction)
        if not isinstance(value, int):
            return False
        bound = find(transaction)
        return bound is not None and compare(value, bound)

    return test


# matches


def _matches(comparing: Comparing) -> Test:
    right = comparing.node.right
    if comparing.fact.type not in TEXTS:
        raise comparing.wrong_operator()
    if not isinstance(right, Text):  # pragma: no cover -- the grammar gives a pattern
        raise comparing.wrong_value("a pattern")
    matches = compile_pattern(
        right.at, right.text, comparing.node.ignore_case, comparing.scope.outside.patterns
    )
    read = comparing.fact.read

    def test(transaction: Transaction) -> bool | None:
        value = read(transaction)
        return value is not None and matches(str(value))

    return test


_COMPILERS: Mapping[Operator, Callable[[Comparing], Test]] = {
    Operator.PRESENT: present,
    Operator.IS: compile_is,
    Operator.IS_NOT: compile_is_not,
    **dict.fromkeys(_ORDERS, _ordered),
    Operator.IN: compile_in,
    Operator.HAS: compile_has,
    Operator.UNDER: compile_under,
    Operator.MATCHES: _matches,
}


def compile_comparison(node: Comparison, scope: Scope) -> Test:
    """The comparison as a closure.

    Raises:
        Mistake: it names what is not there, or compares what cannot be compared.
        ConfigError: an entry of a set file cannot be compared with the fact.
    """
    test = _COMPILERS[node.operator](Comparing(scope.fact(node.subject), node, scope))
    sides = [side for side in (node.subject, node.right) if isinstance(side, Subject)]
    return guarded(test) if any(scope.fact(side).is_live for side in sides) else test


def facts_of(node: Comparison, scope: Scope) -> Iterable[Fact]:
    """All that a comparison asks, left to right: facts, what stands in tables, and live sets."""
    for side in (node.subject, node.right):
        if isinstance(side, Subject):
            if side.table is not None:
                yield scope.fact(replace(side, table=None))
            yield scope.fact(side)
    for name, asking in live_tests(node, scope):
        yield _membership(name, asking, scope.fact(node.subject))


def _membership(name: str, asking: Test, fact: Fact) -> Fact:
    def read(transaction: Transaction) -> FactValue:
        return "yes" if asking(transaction) else "no"

    summary = "is it in the live set"
    return Fact(name, FactType.TEXT, summary, fact.known_from, read, needs=fact.needs, is_live=True)
