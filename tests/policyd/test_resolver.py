"""The resolver made from a table: it says what DNS would say."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from mailreeve_policyd.errors import ResolverError
from mailreeve_policyd.resolver import Answer, MxRecord, ZoneResolver, parse_name

ZONE = """
    example.org. 300 TXT "v=spf1 " "-all"
    example.org. MX 20 b.example.org.
    example.org. MX 10 A.example.org.
    a.example.org. A 192.0.2.1
    a.example.org. AAAA 2001:db8::1
    alias.example.org. CNAME example.org.
    away.example.org. CNAME nowhere.example.net.
    round.example.org. CNAME trip.example.org.
    trip.example.org. CNAME round.example.org.
    *.wild.example.org. A 192.0.2.2
    real.wild.example.org. TXT "real"
    deep.empty.example.org. A 192.0.2.3
    null.example.org. MX 0 .
    1.2.0.192.in-addr.arpa. PTR Mail.Example.ORG.
"""


def test_text_strings_are_joined_and_the_ttl_is_told() -> None:
    """Strings of one TXT record are joined without a space (RFC 7208 section 3.3)."""
    assert ZoneResolver(ZONE).lookup_txt("Example.ORG.") == Answer((b"v=spf1 -all",), ttl=300)


def test_addresses_and_names_come_as_values() -> None:
    """A and AAAA are addresses; PTR is a name in lower case without its dot."""
    resolver = ZoneResolver(ZONE)

    assert resolver.lookup_a("a.example.org").records == (ip_address("192.0.2.1"),)
    assert resolver.lookup_aaaa("a.example.org").records == (ip_address("2001:db8::1"),)
    assert resolver.lookup_ptr(ip_address("192.0.2.1")).records == ("mail.example.org",)


def test_exchanges_come_in_order_of_preference() -> None:
    """MX records are sorted; a null MX has an empty name (RFC 7505)."""
    resolver = ZoneResolver(ZONE)

    expected = (MxRecord(10, "a.example.org"), MxRecord(20, "b.example.org"))
    assert resolver.lookup_mx("example.org").records == expected
    assert resolver.lookup_mx("null.example.org").records == (MxRecord(0, ""),)


@pytest.mark.parametrize(
    ("name", "exists"),
    [
        ("example.org", True),
        ("empty.example.org", True),
        ("wild.example.org", True),
        ("any.wild.example.org", True),
        ("real.wild.example.org", True),
        ("below.real.wild.example.org", False),
        ("nowhere.example.org", False),
        ("away.example.org", False),
        ("example.net", False),
        ("a..example.org", False),
        (".", False),
        ("", False),
        ("x" * 64 + ".example.org", False),
        ("bücher.example.org", False),
    ],
)
def test_only_nxdomain_is_nonexistence(name: str, exists: bool) -> None:
    """A name above another exists, one below a wildcard does, one that is no DNS name does not."""
    answer = ZoneResolver(ZONE).lookup_aaaa(name)

    assert (answer.records, answer.exists) == ((), exists)


def test_a_wildcard_answers_for_names_that_are_not_there() -> None:
    """RFC 4592: the wildcard answers, but not for a name that has records of another type."""
    resolver = ZoneResolver(ZONE)

    assert resolver.lookup_a("x.y.wild.example.org").records == (ip_address("192.0.2.2"),)
    assert resolver.lookup_a("real.wild.example.org").records == ()


def test_an_alias_is_followed_and_a_loop_is_trouble() -> None:
    """A CNAME leads to the records of its target; a loop is what DNS cannot answer."""
    resolver = ZoneResolver(ZONE)

    assert resolver.lookup_txt("alias.example.org").records == (b"v=spf1 -all",)
    with pytest.raises(ResolverError):
        resolver.lookup_txt("round.example.org")


def test_failing_names_raise() -> None:
    """A name that is to fail does so for every type, or for the one that is named."""
    resolver = ZoneResolver(ZONE, failing=["example.org.", "a.example.org TXT"])

    with pytest.raises(ResolverError):
        resolver.lookup_mx("example.org")
    with pytest.raises(ResolverError):
        resolver.lookup_txt("a.example.org")
    assert resolver.lookup_a("a.example.org").records
    with pytest.raises(ResolverError):
        resolver.lookup_txt("alias.example.org")


def test_questions_are_counted() -> None:
    """What was asked is listed, by name and type; what is no name is not asked."""
    resolver = ZoneResolver(ZONE)
    resolver.lookup_a("a.example.org")
    resolver.lookup_txt("A.example.org.")
    resolver.lookup_txt("a..b")

    assert resolver.queries == [("a.example.org", "A"), ("a.example.org", "TXT")]
    assert (resolver.count(), resolver.count("a.example.org"), resolver.count(rdtype="TXT")) == (2, 2, 1)


def test_a_mapping_is_a_zone_too() -> None:
    """Records may be given as a mapping, text records as octets."""
    resolver = ZoneResolver({"example.org": {"TXT": [b"\xff"], "MX": ["5 mail.example.org."]}})

    assert resolver.lookup_txt("example.org").records == (b"\xff",)
    assert resolver.lookup_mx("example.org").records == (MxRecord(5, "mail.example.org"),)


def test_a_name_of_253_octets_is_the_longest() -> None:
    """RFC 1035 section 2.3.4."""
    longest = ".".join(["x" * 63] * 3 + ["y" * 61])

    assert parse_name(longest + ".") == longest
    assert parse_name("z" + longest) is None
