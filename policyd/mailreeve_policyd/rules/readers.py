"""What a limit counts by: facts as texts in the form in which they compare, IPv6 cut to a prefix."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv6Address

from mailreeve_policyd.facts import CANNOT_KNOW, Fact, FactType
from mailreeve_policyd.rules.nodes import Key
from mailreeve_policyd.rules.scope import Scope
from mailreeve_policyd.rules.sets import normal_text
from mailreeve_policyd.rules.source import Mistake, quote
from mailreeve_policyd.transaction import Transaction

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
        return None if value is None or value == CANNOT_KNOW else normal_text(str(value))

    return text


def _address_reader(fact: Fact, prefix: int) -> Reader:
    read, shift = fact.read, 128 - prefix

    def address(transaction: Transaction) -> str | None:
        value = read(transaction)
        if isinstance(value, IPv6Address):
            return f"{int(value) >> shift:x}/{prefix}"
        return None if value is None else str(value)

    return address
