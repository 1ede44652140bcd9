"""Is a fact among many: `in` (sets, networks, tables), `under` (domains), `has` (a fact that is a list).

Sets that are asked where they live are asked here, and what their store cannot say is unknown.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from ipaddress import ip_address
from socket import AF_INET6, inet_ntop
from typing import Any, TypeGuard

from mailreeve_policyd.errors import ProtocolError, StoreError
from mailreeve_policyd.facts import Fact, FactType, FactValue
from mailreeve_policyd.rules.comparing import Comparing, itself, normal_of, values_of
from mailreeve_policyd.rules.equality import word_in, word_of
from mailreeve_policyd.rules.logic import Test, any_of
from mailreeve_policyd.rules.lookups import as_members
from mailreeve_policyd.rules.nodes import Comparison, Network, Number, Operator, Subject, Text, Value, Word
from mailreeve_policyd.rules.scope import Scope
from mailreeve_policyd.rules.sets import (
    Entry,
    LiveSet,
    NamedSet,
    entry_of,
    networks_for,
    numbers_for,
    texts_for,
)
from mailreeve_policyd.rules.source import Mistake, quote
from mailreeve_policyd.smtp import parse_domain
from mailreeve_policyd.transaction import IPAddress, Transaction

SHORTEST_PREFIX = {4: 8, 6: 16}
"""A live set is asked for networks from these on: registries give IPv4 by /8 and IPv6 by /12 to /23."""

REMEMBERED_ADDRESSES = 256
"""Whose networks were spelt lately, 10 kB each: an IPv6 address is in 113."""


def compile_in(comparing: Comparing) -> Test:
    """`in`: constants, sets and live sets side by side, or the members that a table names."""
    fact, kind, right = comparing.fact, comparing.fact.type, comparing.node.right
    if kind is FactType.WORD:
        return word_in(fact, frozenset(word_of(comparing, value) for value in values_of(right)))
    if kind is FactType.LIST:
        raise comparing.wrong_operator()
    if isinstance(right, Subject):
        return _in_table(comparing, right)
    wanted, kinds, contain = _CONTAINING.get(kind, _OF_TEXTS)
    literal = [entry_of(value) for value in comparing.literals(wanted, kinds)]
    members = [contain(literal, kind)] if literal else []
    members += [_members_of(known, kind) for known in comparing.known_sets()]
    tests = [_member_of(fact, each, normal_of(kind)) for each in members]
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
        normal = itself

    def test(transaction: Transaction) -> bool | None:
        value = read(transaction)
        return value is not None and normal(value) in members

    return test


def _in_table(comparing: Comparing, right: Subject) -> Test:
    """Is the fact one of the words that stand in a table: `sender in senders[sasl_username]`."""
    kind, read = comparing.fact.type, comparing.fact.read
    find = comparing.scope.lookup(right, as_members(kind))
    normal = itself if kind is FactType.NETWORK_ADDRESS else normal_of(kind)

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
    sets = [scope.named_set(value) for value in values_of(node.right) if _names_set(value, fact)]
    members = ancestors if node.operator is Operator.UNDER else _exactly(fact)
    return [(each.name, _asking(fact, each, members)) for each in sets if isinstance(each, LiveSet)]


def _names_set(value: Value, fact: Fact) -> TypeGuard[Word]:
    return isinstance(value, Word) and fact.type is not FactType.WORD


def _exactly(fact: Fact) -> Callable[[FactValue], tuple[str, ...]]:
    if fact.type is FactType.NETWORK_ADDRESS:
        return lambda value: networks_around(str(value))
    normal = normal_of(fact.type)
    return lambda value: (str(normal(value)),)


@lru_cache(maxsize=REMEMBERED_ADDRESSES)
def networks_around(address: str) -> tuple[str, ...]:
    """An IP address and the networks that it is in, as a live set has them, the smallest first."""
    whole = ip_address(address)
    number, bits, spell = int(whole), whole.max_prefixlen, _speller(whole)
    lengths = range(bits, SHORTEST_PREFIX[whole.version] - 1, -1)
    return (address, *(f"{spell(number >> bits - length << bits - length)}/{length}" for length in lengths))


def _speller(whole: IPAddress) -> Callable[[int], str]:
    """How networks of it are spelt: by the system, six times as fast, where str() does the same."""
    if whole.version == 4 or int(whole) >> 112 == 0:  # the system spells ::192.0.2.1, Python does not
        return lambda number: str(type(whole)(number))
    return lambda number: inet_ntop(AF_INET6, number.to_bytes(16, "big"))


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


# has, under


def compile_has(comparing: Comparing) -> Test:
    """`has`: is the text in the list; None where what could not be checked may have put it there."""
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


def compile_under(comparing: Comparing) -> Test:
    """`under`: is the fact one of these domains, or below one."""
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
        domain: str = parse_domain(str(value))
    except ProtocolError:
        return ()
    found = []
    while domain:
        found.append(domain)
        domain = domain.partition(".")[2]
    return tuple(found)
