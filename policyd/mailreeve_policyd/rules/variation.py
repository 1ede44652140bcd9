"""Other values of a fact: what `after 300 times with other recipient` makes of each message.

The same ones in every run, as many as are asked for, and no two alike. Knows types of facts, no messages.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from ipaddress import ip_address

from mailreeve_policyd.facts import Fact, FactType, FactValue
from mailreeve_policyd.smtp import Domain

Prefixes = Mapping[int, int]
"""How long the networks are that limits tell apart, by the version of IP."""

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


def other(fact: Fact, given: FactValue | None, number: int, prefixes: Prefixes) -> FactValue:
    """Another value like the one that is given, or like one that nobody has; with 0 that one itself."""
    base = _BASES[fact.type] if given is None else given
    return _VARIATIONS[fact.type](base, number, prefixes) if number else base


def _text(base: FactValue, number: int, _: Prefixes) -> str:
    """Of an address, and a login may be one, it is the local part that differs."""
    local, at, domain = str(base).rpartition("@")
    if not at:
        return f"{base}{number}"
    quote = '"' if local.endswith('"') else ""
    return f"{local.removesuffix(quote)}{number}{quote}@{domain}"


def _domain(base: FactValue, number: int, _: Prefixes) -> Domain:
    return Domain(f"n{number}.{base}")


def _address(base: FactValue, number: int, prefixes: Prefixes) -> FactValue:
    """In another network, too. What would lie behind the last address goes on at the first."""
    address = ip_address(str(base))
    bits = address.max_prefixlen
    step = number << (bits - prefixes[address.version])
    return type(address)((int(address) + step) % (1 << bits))


def _number(base: FactValue, number: int, _: Prefixes) -> int:
    return int(str(base)) + number


_VARIATIONS: Mapping[FactType, Callable[[FactValue, int, Prefixes], FactValue]] = {
    FactType.TEXT: _text,
    FactType.MAILBOX: _text,
    FactType.DOMAIN: _domain,
    FactType.NETWORK_ADDRESS: _address,
    FactType.NUMBER: _number,
}
