"""Is an address in one of many networks?"""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailreeve_policyd.rules.networks import NetworkSet, network_around, parse_network

NETWORKS = st.one_of(
    st.tuples(st.ip_addresses(v=4), st.integers(0, 32)), st.tuples(st.ip_addresses(v=6), st.integers(0, 128))
).map(lambda pair: ip_network(pair, strict=False))


@given(st.lists(NETWORKS, max_size=5), st.ip_addresses())
def test_membership_is_that_of_any_network(networks: list[object], address: object) -> None:
    """As asking each network in turn."""
    wanted = any(address in network for network in networks)  # type: ignore[operator]

    assert (address in NetworkSet(networks)) is wanted  # type: ignore[arg-type, operator]


def test_an_ipv4_mapped_network_is_ipv4() -> None:
    """As addresses are (RFC 4291 section 2.5.5.2)."""
    assert parse_network("::ffff:192.0.2.0/120") == ip_network("192.0.2.0/24")
    assert ip_address("192.0.2.7") in NetworkSet([parse_network("::ffff:192.0.2.7")])


def test_a_network_with_host_bits_is_told_its_right_form() -> None:
    """What was meant is the network around it."""
    with pytest.raises(ValueError, match="host bits"):
        parse_network("192.0.2.1/24")
    assert network_around("192.0.2.1/24") == "192.0.2.0/24"
    assert network_around("bob") is None
