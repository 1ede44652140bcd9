"""iprev (RFC 8601 section 3)."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from mailreeve_policyd.iprev import MAX_NAMES, evaluate_iprev
from mailreeve_policyd.resolver import ZoneResolver

ZONE = """
    1.2.0.192.in-addr.arpa. PTR other.example.org.
    1.2.0.192.in-addr.arpa. PTR mail.example.org.
    2.2.0.192.in-addr.arpa. PTR liar.example.org.
    3.2.0.192.in-addr.arpa. PTR down.example.org.
    3.2.0.192.in-addr.arpa. PTR mail3.example.org.
    4.2.0.192.in-addr.arpa. PTR down.example.org.
    4.2.0.192.in-addr.arpa. PTR liar.example.org.
    6.2.0.192.in-addr.arpa. PTR six.example.org.
    1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa. PTR six.example.org.
    mail.example.org. A 192.0.2.1
    mail3.example.org. A 192.0.2.3
    liar.example.org. A 203.0.113.1
    other.example.org. A 203.0.113.2
    six.example.org. AAAA 2001:db8::1
"""
FAILING = ["down.example.org", "5.2.0.192.in-addr.arpa"]


@pytest.mark.parametrize(
    ("address", "result"),
    [
        ("192.0.2.1", "pass"),
        ("192.0.2.2", "fail"),
        ("192.0.2.3", "pass"),
        ("192.0.2.4", "temperror"),
        ("192.0.2.5", "temperror"),
        ("192.0.2.6", "fail"),
        ("192.0.2.7", "permerror"),
        ("2001:db8::1", "pass"),
    ],
)
def test_a_name_must_lead_back(address: str, result: str) -> None:
    """One name that leads back is enough; without a name permerror; what DNS does not tell is temperror."""
    found = evaluate_iprev(ip_address(address), ZoneResolver(ZONE, FAILING))

    assert (found.method, found.result) == ("iprev", result)
    assert found.properties == {"policy.iprev": address}
    assert found.reason


def test_only_so_many_names_are_asked() -> None:
    """A client with a thousand names costs ten questions."""
    names = [f"n{number}.example.org" for number in range(1000)]
    resolver = ZoneResolver({"1.2.0.192.in-addr.arpa": {"PTR": names}})

    assert evaluate_iprev(ip_address("192.0.2.1"), resolver).result == "fail"
    assert resolver.count(rdtype="A") == MAX_NAMES
