"""What rules may ask beside the transaction: sets and tables in Redis, where an address is, client networks.

A ruleset is compiled for one `Outside`; an expect line has one of its own, which asks nobody.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import NoReturn

from mailreeve_policyd.facts import Fact, FactValue
from mailreeve_policyd.live import LiveNames
from mailreeve_policyd.rules.nodes import Subject
from mailreeve_policyd.rules.regex import DEFAULT_BOUNDS, PatternBounds
from mailreeve_policyd.rules.source import Mistake, quote
from mailreeve_policyd.transaction import IPAddress, Transaction
from mailreeve_policyd.watched_files import WatchedFiles

IPV4_PREFIX = 32
"""An IPv4 address is one customer, or the many behind one translator: none can be told from the others."""

IPV6_PREFIX = 64
"""One customer's network (RFC 6177): counting single addresses would count nobody twice."""

CountryOf = Callable[[IPAddress | None], str | None]
"""The ISO 3166-1 code of where an address is, in capitals; None if that is not known."""

AsnOf = Callable[[IPAddress | None], int | None]
"""The number of the autonomous system that announces an address; None if that is not known."""


@dataclass(frozen=True, slots=True)
class Outside:
    """What is there to ask; None is what nobody configured. `given` are BOUND_FACTS of an expect line.

    `files` are to be looked at where rules are followed: what `country_of` and `asn_of` know stands there.
    """

    live: LiveNames | None = None
    country_of: CountryOf | None = None
    asn_of: AsnOf | None = None
    ipv4_prefix: int = IPV4_PREFIX
    ipv6_prefix: int = IPV6_PREFIX
    given: Mapping[str, FactValue] = field(default_factory=dict)
    files: tuple[WatchedFiles, ...] = ()
    unfound: Mapping[str, str] = field(default_factory=dict)
    """Facts that nobody finds out by this configuration, each with what would change that."""
    patterns: PatternBounds = DEFAULT_BOUNDS
    """Of `matches`."""


BOUND_FACTS = frozenset(("client_network", "client_country", "client_asn"))
"""Facts that only `bind` makes readable: they need more than a transaction."""


def bind(fact: Fact, subject: Subject, outside: Outside) -> Fact:
    """A fact of the catalogue as a rule reads it: some need what only the outside knows.

    Raises:
        Mistake: nobody configured it.
    """
    if fact.name in outside.given:
        return replace(fact, read=lambda _: outside.given[fact.name])
    match fact.name:
        case "client_network":
            return replace(fact, read=_network_reader(outside.ipv4_prefix, outside.ipv6_prefix))
        case "client_country":
            country_of = outside.country_of or _missing(subject, "country")
            return replace(fact, read=lambda t: country_of(t.session.client_address))
        case "client_asn":
            asn_of = outside.asn_of or _missing(subject, "asn")
            return replace(fact, read=lambda t: asn_of(t.session.client_address))
        case _:
            return fact


def _missing(subject: Subject, option: str) -> NoReturn:
    hint = f'in mailreeve.toml, under [geoip], write {option} = "/usr/share/GeoIP/....mmdb"'
    raise Mistake(subject.at, f"{quote(subject.name)} needs a file that says where addresses are", hint)


def _network_reader(ipv4_prefix: int, ipv6_prefix: int) -> Callable[[Transaction], str | None]:
    def network(transaction: Transaction) -> str | None:
        address = transaction.session.client_address
        return None if address is None else client_network(address, ipv4_prefix, ipv6_prefix)

    return network


def client_network(address: IPAddress, ipv4_prefix: int, ipv6_prefix: int) -> str:
    """The network of an address, in CIDR form: `192.0.2.1/32`, `2001:db8:0:1::/64`."""
    prefix = ipv4_prefix if address.version == 4 else ipv6_prefix
    host_bits = address.max_prefixlen - prefix
    return f"{type(address)(int(address) >> host_bits << host_bits)}/{prefix}"
