"""Organizational Domains by the public suffix list."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailreeve_milter.public_suffixes import organizational_domain
from mailreeve_policyd.smtp import is_under, parse_domain


@pytest.mark.parametrize(
    ("domain", "expected"),
    [
        ("example.com", "example.com"),
        ("a.b.example.com", "example.com"),
        ("mail.example.co.uk", "example.co.uk"),
        ("co.uk", "co.uk"),
        ("com", "com"),
        ("me.github.io", "me.github.io"),
        ("www.me.github.io", "me.github.io"),
        ("a.b.ck", "a.b.ck"),
        ("www.ck", "www.ck"),
        ("a.b.unknown-top-level", "b.unknown-top-level"),
        ("_dmarc.example.com", "example.com"),
        ("a.xn--bcher-kva.xn--fiqs8s", "xn--bcher-kva.xn--fiqs8s"),
    ],
)
def test_the_suffix_and_one_label_more(domain: str, expected: str) -> None:
    """Registries' and hosters' suffixes, wildcards and exceptions, A-labels, unknown top levels."""
    assert organizational_domain(parse_domain(domain)) == expected


LABELS = st.text("abcdefgh0123456789-_", min_size=1, max_size=12).map(lambda text: f"x{text}x")


@settings(max_examples=100, deadline=None)
@given(st.lists(LABELS, min_size=1, max_size=12).map(".".join))
def test_any_domain_is_under_its_organizational_domain(text: str) -> None:
    """Whatever the labels, the answer is the domain or one above it."""
    domain = parse_domain(text)
    assert is_under(domain, organizational_domain(domain))
