"""One comparison to a closure. Each operator has one compiler, which says for which facts it is meant.

A closure gives True, False, or None where the fact cannot be known now; of an absent fact every comparison
is False, `is not` included.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import ge, gt, le, lt
from typing import Any, TypeGuard

from mailreeve_policyd.errors import ProtocolError, StoreError
from mailreeve_policyd.facts import CANNOT_KNOW, Fact, FactType, FactValue
from mailreeve_policyd.rules.logic import Test, all_of, any_of, negate
from mailreeve_policyd.rules.lookups import as_constant, as_members, as_number
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
    LiveSet,
    NamedSet,
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

    def literals(self, wanted: str, kinds: tuple[type, ...]) -> list[Value]:
        """What stands in the rule itself to the right of `in` or `under`."""
        found: list[Value] = [value for value in _values(self.node.right) if not isinstance(value, Word)]
        for value in found:
            if not isinstance(value, kinds):
                raise Mistake(value.at, f"{quote(self.fact.name)} is compared with {wanted}")
        return found

    def known_sets(self) -> list[NamedSet]:
        """The sets named there, but those that are asked where they live."""
        named = [self.scope.named_set(value) for value in _values(self.node.right) if isinstance(value, Word)]
        return [each for each in named if isinstance(each, NamedSet)]


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
    if isinstance(comparing.node.right, Subject):
        return _equals_table(comparing, comparing.node.right, wanted_when_there)
    read, right = comparing.fact.read, _constant(comparing)
    if comparing.fact.type in _TEXTS:
        return _equals_text(read, str(right), wanted_when_there)
    normal = _normal_of(comparing.fact.type)

    def test(transaction: Transaction) -> bool | None:
        value = read(transaction)
        return value is not None and (normal(value) == right) is wanted_when_there

    return test


def _equals_text(
    read: Callable[[Transaction], FactValue | None], right: str, wanted_when_there: bool
) -> Test:
    """What most rules do, without a call for each step: `normal_text` is written out."""

    def test(transaction: Transaction) -> bool | None:
        value = read(transaction)
        if value is None:
            return False
        text = value if isinstance(value, str) else str(value)
        return (text.lower() == right) is wanted_when_there

    return test


def _equals_table(comparing: _Comparing, right: Subject, wanted_when_there: bool) -> Test:
    """Is the fact what stands in a table; where nothing does there is nothing to compare with."""
    kind, read = comparing.fact.type, comparing.fact.read
    if kind is FactType.LIST:
        raise comparing.wrong_operator()
    find, normal = comparing.scope.lookup(right, as_constant(kind)), _normal_of(kind)

    def test(transaction: Transaction) -> bool | None:
        value = read(transaction)
        if value is None:
            return False
        other = find(transaction)
        return other is not None and (normal(value) == other) is wanted_when_there

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


def _number_reader(comparing: _Comparing) -> Callable[[Transaction], FactValue | None]:
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


# in


def _in(comparing: _Comparing) -> Test:
    fact, kind, right = comparing.fact, comparing.fact.type, comparing.node.right
    if kind is FactType.WORD:
        return _word_in(fact, frozenset(_word(comparing, value) for value in _values(right)))
    if kind is FactType.LIST:
        raise comparing.wrong_operator()
    if isinstance(right, Subject):
        return _in_table(comparing, right)
    wanted, kinds, contain = _CONTAINING.get(kind, _OF_TEXTS)
    literal = [entry_of(value) for value in comparing.literals(wanted, kinds)]
    members = [contain(literal, kind)] if literal else []
    members += [_members_of(known, kind) for known in comparing.known_sets()]
    tests = [_member_of(fact, each, _normal_of(kind)) for each in members]
    tests += [guarded(asking) for _, asking in live_tests(comparing.node, comparing.scope)]
    return any_of(tests) if len(tests) > 1 else tests[0]


_Contain = Callable[[Sequence[Entry], FactType], Any]
_OF_TEXTS: tuple[str, tuple[type, ...], _Contain] = (
    "texts in quotes and sets",
    (Text,),
    lambda entries, kind: texts_for(kind, entries),
)
_CONTAINING: Mapping[FactType, tuple[str, tuple[type, ...], _Contain]] = {
    FactType.NETWORK_ADDRESS: (
        "addresses, networks and sets",
        (Text, Network),
        lambda entries, _: networks_for(entries),
    ),
    FactType.NUMBER: ("numbers and sets", (Number,), lambda entries, _: numbers_for(entries)),
}


def _members_of(known: NamedSet, kind: FactType) -> Any:
    if kind is FactType.NETWORK_ADDRESS:
        return known.networks()
    return known.numbers() if kind is FactType.NUMBER else known.texts(kind)


def _member_of(fact: Fact, members: Any, normal: Callable[[FactValue], FactValue]) -> Test:
    read = fact.read
    if fact.type is FactType.NETWORK_ADDRESS:
        normal = _itself

    def test(transaction: Transaction) -> bool | None:
        value = read(transaction)
        return value is not None and normal(value) in members

    return test


def _in_table(comparing: _Comparing, right: Subject) -> Test:
    """Is the fact one of the words that stand in a table: `sender in senders[sasl_username]`."""
    kind, read = comparing.fact.type, comparing.fact.read
    find = comparing.scope.lookup(right, as_members(kind))
    normal = _itself if kind is FactType.NETWORK_ADDRESS else _normal_of(kind)

    def test(transaction: Transaction) -> bool | None:
        value = read(transaction)
        if value is None:
            return False
        members = find(transaction)
        return members is not None and normal(value) in members  # type: ignore[operator] # each type's own

    return test


# Sets that are asked where they live


def live_tests(node: Comparison, scope: Scope) -> list[tuple[str, Test]]:
    """The live sets to the right of `in` or `under`, by their names; a test may raise StoreError."""
    if node.operator not in (Operator.IN, Operator.UNDER):
        return []
    fact = scope.fact(node.subject)
    sets = [scope.named_set(value) for value in _values(node.right) if _names_set(value, fact)]
    members = ancestors if node.operator is Operator.UNDER else _exactly(fact)
    return [(each.name, _asking(fact, each, members)) for each in sets if isinstance(each, LiveSet)]


def _names_set(value: Value, fact: Fact) -> TypeGuard[Word]:
    return isinstance(value, Word) and fact.type is not FactType.WORD


def _exactly(fact: Fact) -> Callable[[FactValue], tuple[str, ...]]:
    normal = _normal_of(fact.type)
    return lambda value: (str(normal(value)),)


def _asking(fact: Fact, live: LiveSet, members: Callable[[FactValue], tuple[str, ...]]) -> Test:
    read = fact.read

    def test(transaction: Transaction) -> bool | None:
        value = read(transaction)
        wanted = members(value) if value is not None else ()
        return bool(wanted) and live.has(*wanted)

    return test


def guarded(test: Test) -> Test:
    """A test that asks a store: what that cannot say is unknown. Here, and nowhere else in conditions."""

    def guard(transaction: Transaction) -> bool | None:
        try:
            return test(transaction)
        except StoreError:
            return None

    return guard


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
    literal = [entry_of(value) for value in comparing.literals("domains in quotes and sets", (Text,))]
    groups = [texts_for(FactType.DOMAIN, literal)] if literal else []
    groups += [known.texts(FactType.DOMAIN) for known in comparing.known_sets()]
    tests = [_under_one_of(fact, domains) for domains in groups]
    tests += [guarded(asking) for _, asking in live_tests(comparing.node, comparing.scope)]
    return any_of(tests) if len(tests) > 1 else tests[0]


def _under_one_of(fact: Fact, domains: frozenset[str]) -> Test:
    read = fact.read

    def test(transaction: Transaction) -> bool | None:
        value = read(transaction)
        return value is not None and not domains.isdisjoint(ancestors(value))

    return test


def ancestors(value: FactValue) -> tuple[str, ...]:
    """A domain and all above it, at most 127; none of what is no domain."""
    try:
        labels = parse_domain(str(value)).split(".")
    except ProtocolError:
        return ()
    return tuple(".".join(labels[start:]) for start in range(len(labels)))


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
    test = _COMPILERS[node.operator](_Comparing(scope.fact(node.subject), node, scope))
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
