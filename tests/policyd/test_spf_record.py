"""SPF records as values. What follows from them: test_spf.py."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailreeve_policyd import spf_record
from mailreeve_policyd.spf_record import (
    MAX_RECORD_OCTETS,
    MAX_REMEMBERED_TERMS,
    MAX_TERMS,
    Directive,
    RecordError,
    is_record,
    parse_record,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"v=spf1", True),
        (b"V=SPF1 -all", True),
        (b"v=spf10 -all", False),
        (b"v=spf1-all", False),
        (b"v=spf1\t-all", False),
        (b" v=spf1 -all", False),
        (b"v=spf2.0/pra", False),
        (b"", False),
    ],
)
def test_a_record_begins_with_its_version(text: bytes, expected: bool) -> None:
    """Exactly v=spf1, in any case, then a space or the end (section 4.5)."""
    assert is_record(text) is expected


def test_networks_are_numbers_without_their_host_bits() -> None:
    """ip4 and ip6 come as what a client's address is compared with."""
    record = parse_record(b"v=spf1 ip4:192.0.2.77/24 -ip6:2001:db8::1")

    assert record.directives == (
        Directive("ip4:192.0.2.77/24", "ip4", "pass", version=4, network=0xC00002, host_bits=8),
        Directive("-ip6:2001:db8::1", "ip6", "fail", version=6, network=0x20010DB8 << 96 | 1, host_bits=0),
    )


def test_prefixes_of_both_families_are_kept() -> None:
    """A dual CIDR says how much of an IPv4 and of an IPv6 client counts."""
    (directive,) = parse_record(b"v=spf1 ~MX:example.org/28//64").directives

    assert (directive.mechanism, directive.result, directive.domain_spec) == ("mx", "softfail", "example.org")
    assert (directive.host_bits_4, directive.host_bits_6) == (4, 64)


def test_domain_specs_are_not_expanded() -> None:
    """One value serves all senders; None is the current domain."""
    record = parse_record(b"v=spf1 a exists:%{i}.%{l}.example.org exp=%{d}.why.example.org")

    assert [directive.domain_spec for directive in record.directives] == [None, "%{i}.%{l}.example.org"]
    assert [directive.names_sender for directive in record.directives] == [False, True]
    assert record.explanation == "%{d}.why.example.org"


def test_a_redirect_beside_all_is_none() -> None:
    """Section 6.1: it is ignored, wherever the all stands."""
    assert parse_record(b"v=spf1 redirect=example.org a").redirect == "example.org"
    assert parse_record(b"v=spf1 redirect=example.org ?all").redirect is None


@pytest.mark.parametrize(
    "terms",
    [
        "a:%{c}.example.org",
        "redirect=%{z}",
        "foo=%{",
        "exp=a.example.org exp=b.example.org",
        "ip4:192.0.2.1/33",
        "ip4:192.0.2",
        "ip6:2001:db8::/129",
        "a//129",
        "include",
        "include:",
        "exists",
        "all:example.org",
        "ptr/24",
        "moo",
        "=a",
        "a,",
        "a:\x01.example.org",
        "b\u00fccher",
    ],
)
def test_a_mistake_anywhere_makes_the_record_wrong(terms: str) -> None:
    """Section 4.6.1, whatever stands before it; and it is told each time."""
    for _ in range(2):
        with pytest.raises(RecordError):
            parse_record(f"v=spf1 +all {terms}".encode())


def test_records_are_bounded() -> None:
    """Octets and terms of a record have a limit."""
    assert parse_record(b"v=spf1" + b" a" * MAX_TERMS).directives
    with pytest.raises(RecordError, match="too many terms"):
        parse_record(b"v=spf1" + b" a" * (MAX_TERMS + 1))
    with pytest.raises(RecordError, match="too long"):
        parse_record(b"v=spf1 " + b" " * MAX_RECORD_OCTETS)


def test_a_record_is_read_once_unless_it_is_large() -> None:
    """What comes again is the same value; records of very many terms are not kept."""
    text = b"v=spf1 a:once.example.org -all"
    large = b"v=spf1" + b" a:large.example.org" * (MAX_REMEMBERED_TERMS + 1)

    assert parse_record(text) is parse_record(bytes(bytearray(text)))
    assert parse_record(large) is not parse_record(large)


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=80))
def test_any_octets_are_a_record_or_wrong(octets: bytes) -> None:
    """Nothing but RecordError is raised, and the shared reader keeps nothing of what it read."""
    with suppress(RecordError):
        parse_record(b"v=spf1 " + octets)
    assert spf_record._GRAMMAR.d == spf_record._CURRENT
    assert spf_record._GRAMMAR.expand_domain("example.org") == "example.org"
