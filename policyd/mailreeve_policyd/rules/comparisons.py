"""One comparison to a closure. Each operator has one compiler, which says for which facts it is meant.

A closure gives True, False, or None where the fact cannot be known now; of an absent fact every comparison
is False, `is not` included.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from operator import ge, gt, le, lt
from typing import Any

from mailreeve_policyd.errors import ProtocolError
from mailreeve_policyd.facts import CANNOT_KNOW, Fact, FactType, FactValue
from mailreeve_policyd.rules.logic import Test, all_of, negate
from mailreeve_policyd.rules.nodes import (
    Comparison,
    Network,
    Number,
    Operator,
    Subject,
    Text,
    Value,
    ValueList,
    Word,
)
from mailreeve_policyd.rules.regex import compile_pattern
from mailreeve_policyd.rules.scope import Scope
from mailreeve_policyd.rules.sets import (
    Entry,
    address_at,
    entry_of,
    networks_for,
    normal_text,
    numbers_for,
    texts_for,
)
from mailreeve_policyd.rules.source import Mistake, Place, one_of, quote, suggest
from mailreeve_policyd.smtp import parse_domain
from mailreeve_policyd.transaction import Transaction

_TEXTS = (FactType.TEXT, FactType.MAILBOX, FactType.DOMAIN)

_EQUALITY = "`is`, `is not`, `in`"
_APPLICABLE = {
    FactType.TEXT: f"{_EQUALITY}, `under`, `matches`",
    FactType.MAILBOX: f"{_EQUALITY}, `matches`",
    FactType.DOMAIN: f"{_EQUALITY}, `under`, `matches`",
    FactType.NETWORK_ADDRESS: f"{_EQUALITY} (a network or a set)",
    FactType.NUMBER: f"{_EQUALITY}, `<`, `<=`, `>`, `>=`",
    FactType.WORD: _EQUALITY,
    FactType.LIST: "`has`",
}
_ARTICLES = {
    FactType.TEXT: "a text", FactType.MAILBOX: "an address", FactType.DOMAIN: "a domain",
    FactType.NETWORK_ADDRESS: "a network address", FactType.NUMBER: "a number", FactType.WORD: "a word",
    FactType.LIST: "a list",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Comparing:
    """One comparison to compile, with the fact that it asks."""

    fact: Fact
    node: Comparison
    scope: Scope

    @property
    def at(self) -> Place:
        right = self.node.right
        return right.at if right is not None else self.node.subject.at

    def wrong_operator(self) -> Mistake:
        kind = self.fact.type
        problem = (
            f"`{self.node.operator.value}` is not for {quote(self.fact.name)}, which is {_ARTICLES[kind]}"
        )
        return Mistake(self.node.subject.at, problem, f"compare it with {_APPLICABLE[kind]}")

    def wrong_value(self, wanted: str) -> Mistake:
        name, kind = quote(self.fact.name), _ARTICLES[self.fact.type]
        return Mistake(
            self.at, f"{name} is {kind} and can only be compared with {wanted}", _hint_for(self.node.right)
        )

    def entries(self, wanted: str, kinds: tuple[type, ...]) -> list[Entry]:
        """The right side of `in`, sets resolved."""
        found: list[Entry] = []
        for value in _values(self.node.right):
            if isinstance(value, Word):
                found += self.scope.named_set(value).entries
            elif isinstance(value, kinds):
                found.append(entry_of(value))
            else:
                raise Mistake(value.at, f"{quote(self.fact.name)} is compared with {wanted}")
        return found


def _hint_for(value: Value | ValueList | Subject | None) -> str | None:
    if isinstance(value, Word):
        return f'a text stands in quotes: "{value.text[:40]}"; for a set write `in`'
    return None


def _values(right: Value | ValueList | Subject | None) -> Iterable[Value]:
    if right is None or isinstance(right, Subject):
        return ()
    return right.values if isinstance(right, ValueList) else (right,)


def _present(comparing: _Comparing) -> Test:
    read = comparing.fact.read

    def test(transaction: Transaction) -> bool | None:
        value = read(transaction)
        return value not in {None, "", ()}

    return test


# is, is not


def _is(comparing: _Comparing) -> Test:
    if comparing.fact.type is FactType.WORD:
        return _word_in(comparing.fact, frozenset((_word(comparing, comparing.node.right),)))
    return _equals(comparing, wanted_when_there=True)


def _is_not(comparing: _Comparing) -> Test:
    if comparing.fact.type is FactType.WORD:
        among = _word_in(comparing.fact, frozenset((_word(comparing, comparing.node.right),)))
        return all_of([_present(comparing), negate(among)])
    return _equals(comparing, wanted_when_there=False)


def _equals(comparing: _Comparing, wanted_when_there: bool) -> Test:
    read, right = comparing.fact.read, _constant(comparing)
    normal = _normal_of(comparing.fact.type)

    def test(transaction: Transaction) -> bool | None:
        value = read(transaction)
        return value is not None and (normal(value) == right) is wanted_when_there

    return test


def _constant(comparing: _Comparing) -> str | int:
    """The right side of `is`, in the form in which the fact is compared."""
    right, kind = comparing.node.right, comparing.fact.type
    if kind in _TEXTS:
        if isinstance(right, Text):
            if not right.text:
                name = comparing.node.subject.name
                raise Mistake(
                    right.at, f"{quote(comparing.fact.name)} is absent, never empty", f"write `not {name}`"
                )
            return next(iter(texts_for(kind, [entry_of(right)])))
        raise comparing.wrong_value("a text in quotes")
    if kind is FactType.NETWORK_ADDRESS:
        if isinstance(right, Text | Network):
            return address_at(right.at, right.text)
        raise comparing.wrong_value("an address")
    if kind is FactType.NUMBER:
        if isinstance(right, Number):
            return right.value
        raise comparing.wrong_value("a number")
    raise comparing.wrong_operator()


def _lowered(value: FactValue) -> str:
    return normal_text(str(value))


def _itself(value: FactValue) -> FactValue:
    return value


def _normal_of(kind: FactType) -> Callable[[FactValue], FactValue]:
    if kind in _TEXTS:
        return _lowered
    return str if kind is FactType.NETWORK_ADDRESS else _itself


def _word(comparing: _Comparing, value: Value | ValueList | Subject | None) -> str:
    fact = comparing.fact
    if not isinstance(value, Word | Text):
        raise comparing.wrong_value("one of its words")
    if value.text not in fact.words:
        words = sorted(fact.words)
        problem = f"{quote(value.text)} is no word of {quote(fact.name)}"
        raise Mistake(value.at, problem, suggest(value.text, words) or f"its words: {one_of(words)}")
    return value.text


def _word_in(fact: Fact, words: frozenset[str]) -> Test:
    read = fact.read

    def test(transaction: Transaction) -> bool | None:
        value = read(transaction)
        if value in words:
            return True
        return None if value == CANNOT_KNOW else False

    return test


# < <= > >=

_ORDERS: Mapping[Operator, Callable[[int, int], bool]] = {
    Operator.BELOW: lt,
    Operator.AT_MOST: le,
    Operator.ABOVE: gt,
    Operator.AT_LEAST: ge,
}


def _ordered(comparing: _Comparing) -> Test:
    right = comparing.node.right
    if comparing.fact.type is not FactType.NUMBER:
        raise comparing.wrong_operator()
    if not isinstance(right, Number):  # pragma: no cover -- the grammar gives a number
        raise comparing.wrong_value("a number")
    read, compare, bound = comparing.fact.read, _ORDERS[comparing.node.operator], right.value

    def test(transaction: Transaction) -> bool | None:
        value = read(transaction)
        return isinstance(value, int) and compare(value, bound)

    return test


# in


def _in(comparing: _Comparing) -> Test:
    fact, kind = comparing.fact, comparing.fact.type
    if kind is FactType.WORD:
        return _word_in(fact, frozenset(_word(comparing, value) for value in _values(comparing.node.right)))
    if kind is FactType.NETWORK_ADDRESS:
        networks = networks_for(comparing.entries("addresses, networks and sets", (Text, Network)))
        return _member_of(fact, networks, _itself)
    if kind is FactType.NUMBER:
        return _member_of(fact, numbers_for(comparing.entries("numbers and sets", (Number,))), _itself)
    if kind in _TEXTS:
        texts = texts_for(kind, comparing.entries("texts in quotes and sets", (Text,)))
        return _member_of(fact, texts, _lowered)
    raise comparing.wrong_operator()


def _member_of(fact: Fact, members: Any, normal: Callable[[FactValue], FactValue]) -> Test:
    read = fact.read

    def test(transaction: Transaction) -> bool | None:
        value = read(transaction)
        return value is not None and normal(value) in members

    return test


# has, under, matches


def _has(comparing: _Comparing) -> Test:
    fact, right = comparing.fact, comparing.node.right
    if fact.type is not FactType.LIST:
        raise comparing.wrong_operator()
    if not isinstance(right, Text):  # pragma: no cover -- the grammar gives a text
        raise comparing.wrong_value("a text in quotes")
    wanted, read, maybe = texts_for(FactType.DOMAIN, [entry_of(right)]), fact.read, fact.maybe

    def test(transaction: Transaction) -> bool | None:
        value = read(transaction)
        if isinstance(value, tuple) and not wanted.isdisjoint(value):
            return True
        return None if maybe is not None and not wanted.isdisjoint(maybe(transaction)) else False

    return test


def _under(comparing: _Comparing) -> Test:
    fact = comparing.fact
    if fact.type is FactType.MAILBOX:
        raise Mistake(
            comparing.node.subject.at,
            f"`under` compares domains, and {quote(fact.name)} is an address",
            f"write `{fact.name}_domain under ...`",
        )
    if fact.type not in (FactType.DOMAIN, FactType.TEXT):
        raise comparing.wrong_operator()
    domains = texts_for(FactType.DOMAIN, comparing.entries("domains in quotes and sets", (Text,)))
    read = fact.read

    def test(transaction: Transaction) -> bool | None:
        value = read(transaction)
        return value is not None and _is_under_one(str(value), domains)

    return test


def _is_under_one(name: str, domains: frozenset[str]) -> bool:
    try:
        rest: str = parse_domain(name)
    except ProtocolError:
        return False
    while rest not in domains:
        _, dot, rest = rest.partition(".")
        if not dot:
            return False
    return True


def _matches(comparing: _Comparing) -> Test:
    right = comparing.node.right
    if comparing.fact.type not in _TEXTS:
        raise comparing.wrong_operator()
    if not isinstance(right, Text):  # pragma: no cover -- the grammar gives a pattern
        raise comparing.wrong_value("a pattern")
    matches = compile_pattern(right.at, right.text, comparing.node.ignore_case)
    read = comparing.fact.read

    def test(transaction: Transaction) -> bool | None:
        value = read(transaction)
        return value is not None and matches(str(value))

    return test


_COMPILERS: Mapping[Operator, Callable[[_Comparing], Test]] = {
    Operator.PRESENT: _present,
    Operator.IS: _is,
    Operator.IS_NOT: _is_not,
    **dict.fromkeys(_ORDERS, _ordered),
    Operator.IN: _in,
    Operator.HAS: _has,
    Operator.UNDER: _under,
    Operator.MATCHES: _matches,
}


def compile_comparison(node: Comparison, scope: Scope) -> Test:
    """The comparison as a closure.

    Raises:
        Mistake: it names what is not there, or compares what cannot be compared.
        ConfigError: an entry of a set file cannot be compared with the fact.
    """
    return _COMPILERS[node.operator](_Comparing(scope.fact(node.subject), node, scope))
