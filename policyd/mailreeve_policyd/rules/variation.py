"""Other values of a fact: what `after 300 times with other recipient` makes of each message.

The same ones in every run, as many as are asked for, and no two alike. Knows types of facts, no messages.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from ipaddress import IPv6Address, ip_address

from mailreeve_policyd.facts import Fact, FactType, FactValue
from mailreeve_policyd.smtp import Domain

SUBNET_BITS = 64
"""Of an IPv6 address: another one is in another customer's network, too (outside.IPV6_PREFIX)."""

# Names and addresses that nobody has (RFC 2606, RFC 2544: a hundred thousand of them).
_BASES: Mapping[FactType, FactValue] = {
    FactType.TEXT: "someone",
    FactType.MAILBOX: "someone@example.net",
    FactType.DOMAIN: Domain("example.net"),
    FactType.NETWORK_ADDRESS: ip_address("198.18.0.1"),
    FactType.NUMBER: 1,
}


def can_vary(fact: Fact) -> bool:
    """Has it other values without end? A word has few, and a list is no single value."""
    return fact.type in _VARIATIONS


def other(fact: Fact, given: FactValue | None, number: int) -> FactValue:
    """Another value like the one that is given, or like one that nobody has; with 0 that one itself."""
    base = _BASES[fact.type] if given is None else given
    return _VARIATIONS[fact.type](base, number) if number else base


def _text(base: FactValue, number: int) -> str:
    return f"{base}{number}"


def _mailbox(base: FactValue, number: int) -> str:
    local, at, domain = str(base).rpartition("@")
    quote = '"' if local.endswith('"') else ""
    return f"{local.removesuffix(quote)}{number}{quote}{at}{domain}" if at else _text(base, number)


def _domain(base: FactValue, number: int) -> Domain:
    return Domain(f"n{number}.{base}")


def _address(base: FactValue, number: int) -> FactValue:
    """What would lie behind the last address goes on at the first."""
    address = ip_address(str(base))
    step = number << SUBNET_BITS if isinstance(address, IPv6Address) else number
    return type(address)((int(address) + step) % (1 << address.max_prefixlen))


def _number(base: FactValue, number: int) -> int:
    return int(str(base)) + number


_VARIATIONS: Mapping[FactType, Callable[[FactValue, int], FactValue]] = {
    FactType.TEXT: _text,
    FactType.MAILBOX: _mailbox,
    FactType.DOMAIN: _domain,
    FactType.NETWORK_ADDRESS: _address,
    FactType.NUMBER: _number,
}
