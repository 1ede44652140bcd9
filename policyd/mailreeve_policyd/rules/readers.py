"""What a limit counts by: facts as texts in the form in which they compare, IPv6 cut to a prefix."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from ipaddress import IPv6Address

from mailreeve_policyd.errors import ProtocolError
from mailreeve_policyd.escape import escape
from mailreeve_policyd.facts import CANNOT_KNOW, FACTS, Fact, FactType
from mailreeve_policyd.rules.nodes import Key
from mailreeve_policyd.rules.outside import client_network
from mailreeve_policyd.rules.scope import Scope
from mailreeve_policyd.rules.sets import normal_text
from mailreeve_policyd.rules.source import Mistake, quote
from mailreeve_policyd.smtp import parse_domain
from mailreeve_policyd.transaction import Transaction, parse_address

MIN_IPV6_PREFIX = 32
"""A provider's allocation. Shorter ones are nobody's, and `/24` would be meant for IPv4."""

Reader = Callable[[Transaction], str | None]


def countable(key: Key, scope: Scope) -> Fact:
    """The fact of a key, if it can be counted by.

    Raises:
        Mistake: it is a list, not known at this stage, or has no prefix of this length.
    """
    fact = scope.fact(key.subject)
    if fact.type is FactType.LIST:
        raise Mistake(key.subject.at, f"{quote(fact.name)} is a list and cannot be counted by")
    if key.prefix is None:
        return fact
    if fact.type is not FactType.NETWORK_ADDRESS:
        raise Mistake(key.prefix.at, f"{quote(fact.name)} is no network address and has no prefix")
    if not MIN_IPV6_PREFIX <= key.prefix.value <= 128:
        problem = f"the prefix of an IPv6 address is from {MIN_IPV6_PREFIX} to 128 here"
        raise Mistake(key.prefix.at, problem, "IPv4 addresses are always counted whole")
    return fact


def reader(key: Key, scope: Scope) -> Reader:
    """How a key's value is read; None or "" where there is none. Raises as `countable`."""
    fact = countable(key, scope)
    if fact.type is FactType.NETWORK_ADDRESS:
        return _address_reader(fact, key.prefix.value if key.prefix else scope.outside.ipv6_prefix)
    read = fact.read

    def text(transaction: Transaction) -> str | None:
        value = read(transaction)
        if value is None or value == CANNOT_KNOW:
            return None
        return normal_text(value if isinstance(value, str) else str(value))

    return text


def _address_reader(fact: Fact, prefix: int) -> Reader:
    read, shift = fact.read, 128 - prefix

    def address(transaction: Transaction) -> str | None:
        value = read(transaction)
        if isinstance(value, IPv6Address):
            return f"{int(value) >> shift:x}/{prefix}"
        return None if value is None else str(value)

    return address


Speller = Callable[[str], str | None]
"""From what a person writes to what a limit counts under; None where the fact cannot be that."""


def speller(key: Key, scope: Scope) -> Speller:
    """How the key is counted that a person names: as `reader` reads it. Raises as `countable`."""
    fact = countable(key, scope)
    if fact.type is FactType.NETWORK_ADDRESS:
        prefix = key.prefix.value if key.prefix else scope.outside.ipv6_prefix
        return lambda text: _spelt_address(text, prefix)
    if fact.name == "client_network":
        outside = scope.outside
        return lambda text: _spelt_network(text, outside.ipv4_prefix, outside.ipv6_prefix)
    spell = _SPELLINGS.get(fact.type)
    if fact.type is FactType.WORD:
        return lambda text: text if text in fact.words else None
    return spell or (lambda text: normal_text(text) or None)


def table_key(text: str) -> str:
    """How a table has the key that a person names, whatever fact asks it."""
    address = parse_address(text)
    return normal_text(text) if address is None else str(address)


def shown_part(name: str, part: str) -> str:
    """A part of a key for a person: escaped, an IPv6 network as one writes it. `name` is its fact's."""
    fact, (digits, slash, prefix) = FACTS.get(name), part.partition("/")
    if fact is None or fact.type is not FactType.NETWORK_ADDRESS or not slash:
        return escape(part)
    return f"{IPv6Address(int(digits, 16) << (128 - int(prefix)))}/{prefix}"


def _spelt_address(text: str, prefix: int) -> str | None:
    address = parse_address(text.partition("/")[0])
    if isinstance(address, IPv6Address):
        return f"{int(address) >> (128 - prefix):x}/{prefix}"
    return None if address is None else str(address)


def _spelt_network(text: str, ipv4_prefix: int, ipv6_prefix: int) -> str | None:
    address = parse_address(text.partition("/")[0])
    return None if address is None else client_network(address, ipv4_prefix, ipv6_prefix)


def _spelt_domain(text: str) -> str | None:
    try:
        return parse_domain(text)
    except ProtocolError:
        return None


_SPELLINGS: Mapping[FactType, Speller] = {
    FactType.MAILBOX: lambda text: normal_text(text) if "@" in text else None,
    FactType.DOMAIN: _spelt_domain,
    FactType.NUMBER: lambda text: str(int(text)) if text.isascii() and text.isdigit() else None,
}
