"""Sets of IP networks: is an address in one of them, in a time that does not grow with their number."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Network, ip_network

from mailreeve_policyd.transaction import IPAddress

IPNetwork = IPv4Network | IPv6Network

_MAPPED_BITS = 96
"""::ffff:0:0/96 holds the IPv4-mapped addresses (RFC 4291 section 2.5.5.2)."""


def parse_network(text: str) -> IPNetwork:
    """An address or a network in CIDR form; an IPv4-mapped one is IPv4, as addresses are.

    Raises:
        ValueError: it is none, or has bits set to the right of its prefix.
    """
    network = ip_network(text)
    if isinstance(network, IPv6Network) and network.prefixlen >= _MAPPED_BITS:
        mapped = network.network_address.ipv4_mapped
        if mapped is not None:
            return IPv4Network((mapped, network.prefixlen - _MAPPED_BITS))
    return network


def network_around(text: str) -> str | None:
    """The network that an address with a prefix lies in, or None: what `192.0.2.1/24` was meant to be."""
    try:
        return str(ip_network(text, strict=False))
    except ValueError:
        return None


class NetworkSet:
    """Networks, kept by version and prefix length: one look-up for each length that occurs."""

    __slots__ = ("_v4", "_v6")

    def __init__(self, networks: Iterable[IPNetwork]) -> None:
        self._v4: dict[int, set[int]] = {}
        self._v6: dict[int, set[int]] = {}
        for network in networks:
            by_shift = self._v4 if network.version == 4 else self._v6
            shift = network.max_prefixlen - network.prefixlen
            by_shift.setdefault(shift, set()).add(int(network.network_address) >> shift)

    def __contains__(self, address: IPAddress) -> bool:
        by_shift = self._v4 if isinstance(address, IPv4Address) else self._v6
        if not by_shift:
            return False
        bits = int(address)
        for shift, members in by_shift.items():  # noqa: SIM110 -- any() with a generator costs twice as much
            if bits >> shift in members:
                return True
        return False
