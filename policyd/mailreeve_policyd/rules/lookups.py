"""What stands in a table under a fact, as a thing that conditions and texts ask: `roles[sasl_username]`."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_address
from typing import TypeVar

from mailreeve_policyd.errors import ProtocolError
from mailreeve_policyd.facts import Fact, FactType, FactValue
from mailreeve_policyd.rules.networks import NetworkSet, parse_network
from mailreeve_policyd.rules.nodes import Subject
from mailreeve_policyd.rules.sets import normal_mailbox, normal_text
from mailreeve_policyd.rules.source import Mistake, Place, quote
from mailreeve_policyd.rules.tables import Finder, LiveTable, Table
from mailreeve_policyd.smtp import parse_domain
from mailreeve_policyd.transaction import Transaction, parse_address

ValueT = TypeVar("ValueT")

_NOWHERE = Place(1, 1)
"""Whoever reads tables knows the row, and says it."""

MAX_DIGITS = 15
"""Of a number in a table: as in the rules file."""

Lookup = Callable[[Transaction], ValueT | None]
"""Raises StoreError where a live table cannot say."""


def key_reader(fact: Fact) -> Callable[[Transaction], str | None]:
    """A fact in the form in which tables have their keys."""
    read = fact.read

    def key(transaction: Transaction) -> str | None:
        value = read(transaction)
        return None if value is None else normal_text(str(value))

    return key


def lookup_fact(subject: Subject, key: Fact, table: Table | LiveTable) -> Fact:
    """What stands in the table under `key`, as a text.

    Raises:
        Mistake: a table cannot be asked by this fact.
        ConfigError: a row's key is nothing that the fact can be.
    """
    return Fact(
        f"{table.name}[{key.name}]",
        FactType.TEXT,
        "what a table has for a fact",
        key.known_from,
        lookup(subject, key, table, str),
        needs=key.needs,
        is_live=isinstance(table, LiveTable),
    )


def lookup(
    subject: Subject, key: Fact, table: Table | LiveTable, read: Callable[[str], ValueT]
) -> Lookup[ValueT]:
    """The same, read as something else by `read`, which raises Mistake.

    Raises:
        Mistake: a table cannot be asked by this fact.
        ConfigError: a row is nothing that `read` takes.
    """
    if key.type in (FactType.LIST, FactType.WORD):
        problem = f"{quote(key.name)} is a {key.type.value}"
        raise Mistake(subject.at, problem, "a table is asked by one address, name or number")
    finder: Finder[ValueT] = table.finder(key.type, read)
    read_key = key_reader(key)

    def find(transaction: Transaction) -> ValueT | None:
        value = read_key(transaction)
        return None if value is None else finder.find(value)

    return find


# What a value is read as


def as_number(text: str) -> int:
    """A value that is compared with a number."""
    if text.isascii() and text.isdigit() and len(text) <= MAX_DIGITS:
        return int(text)
    raise Mistake(_NOWHERE, f"{quote(text)} is no number")


def as_constant(kind: FactType) -> Callable[[str], FactValue]:
    """A value that is compared by `is` with a fact of this type."""
    if kind is FactType.NUMBER:
        return as_number
    if kind is FactType.NETWORK_ADDRESS:
        return _address
    return _text_as(kind)


def as_members(kind: FactType) -> Callable[[str], frozenset[FactValue] | NetworkSet]:
    """A value whose words, between spaces, are compared by `in` with a fact of this type."""
    if kind is FactType.NETWORK_ADDRESS:
        return _networks
    read = as_constant(kind)
    return lambda text: frozenset(read(word) for word in text.split())


def _address(text: str) -> FactValue:
    try:
        ip_address(text)
    except ValueError as error:
        raise Mistake(_NOWHERE, f"{quote(text)} is no address") from error
    return str(parse_address(text))


def _networks(text: str) -> NetworkSet:
    try:
        return NetworkSet(parse_network(word) for word in text.split())
    except ValueError as error:
        hint = "write 192.0.2.0/24 2001:db8::/32"
        raise Mistake(_NOWHERE, f"{quote(text)} holds no networks", hint) from error


def _text_as(kind: FactType) -> Callable[[str], FactValue]:
    if kind is FactType.DOMAIN:
        return _domain
    return normal_mailbox if kind is FactType.MAILBOX else normal_text


def _domain(text: str) -> FactValue:
    try:
        return parse_domain(text)
    except ProtocolError as error:
        raise Mistake(_NOWHERE, f"{quote(text)} is no domain", "write it as example.org") from error
