"""Patterns of addresses."""

import fnmatch
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailreeve_policyd.address_pattern import MAX_PATTERN_CHARACTERS, parse_address_pattern, parse_glob
from mailreeve_policyd.errors import ProtocolError
from mailreeve_policyd.smtp import parse_mailbox

ADDRESSES = (
    "alice@example.org",
    "Alice@EXAMPLE.org",
    "news-1@example.org",
    "alice@a.example.org",
    "bob@a.b.example.org",
    "alice@notexample.org",
    "alice@example.com",
    "alice@xn--bcher-kva.example",
)


@pytest.mark.parametrize(
    ("pattern", "matched"),
    [
        ("*", ADDRESSES),
        ("*@*", ADDRESSES),
        ("example.org", ADDRESSES[:3]),
        ("Example.Org.", ADDRESSES[:3]),
        ("*@example.org", ADDRESSES[:3]),
        ("alice@example.org", ADDRESSES[:2]),
        ("ALICE@example.org", ADDRESSES[:2]),
        ("news-*@example.org", ADDRESSES[2:3]),
        ("*@*.example.org", ADDRESSES[3:5]),
        ("*.example.org", ADDRESSES[3:5]),
        ("*b@*.example.org", ADDRESSES[4:5]),
        ("al*e@*", [address for address in ADDRESSES if address[0] in "aA"]),
        ("bücher.example", ADDRESSES[7:]),
    ],
)
def test_what_a_pattern_matches(pattern: str, matched: list[str]) -> None:
    """A domain is that domain alone; subdomains are asked for; case makes no difference."""
    parsed = parse_address_pattern(pattern)

    assert [text for text in ADDRESSES if parsed.matches(parse_mailbox(text))] == list(matched)
    assert parsed.matches_all == (pattern in ("*", "*@*"))


@pytest.mark.parametrize("text", ["postmaster", "alice@[192.0.2.1]", ""])
def test_a_mailbox_without_a_domain_is_never_matched(text: str) -> None:
    """Not even by a pattern for all."""
    assert not parse_address_pattern("*").matches(parse_mailbox(text))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "@example.org",
        "alice@",
        "a b",
        "example..org",
        "*.*.org",
        "ex*.org",
        "*.",
        "*" * (MAX_PATTERN_CHARACTERS + 1),
    ],
)
def test_what_is_no_pattern_is_refused(text: str) -> None:
    """A wildcard inside of a domain would match more than it seems to."""
    with pytest.raises(ProtocolError):
        parse_address_pattern(text)


@given(st.text("ab*", max_size=8), st.text("abAB", max_size=12))
def test_a_glob_matches_what_a_regular_expression_would(pattern: str, text: str) -> None:
    """The asterisk is any characters or none, the match is the whole text."""
    expected = re.compile(fnmatch.translate(pattern))

    assert parse_glob(pattern).matches(text) == bool(expected.match(text.lower()))
    assert parse_glob(pattern, minds_case=True).matches(text) == bool(expected.match(text))


def test_a_hostile_text_takes_no_time() -> None:
    """Many asterisks and a long text, which a regular expression would never finish."""
    assert not parse_glob("*a" * 200 + "*b").matches("a" * 100_000)
