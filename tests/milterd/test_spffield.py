"""Received-SPF: what it says, and that nobody else speaks through it."""

from __future__ import annotations

import re
from ipaddress import ip_address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailreeve_milter.spffield import format_received_spf
from mailreeve_policyd.authres import MethodResult
from mailreeve_policyd.transaction import Session

SESSION = Session(client_address=ip_address("192.0.2.5"), helo_name="mail.example.org")


def field(
    sender: str = "bob@example.org", session: Session = SESSION, reason: str | None = None, word: str = "pass"
) -> str:
    result = MethodResult("spf", word, {"smtp.mailfrom": sender}, reason)
    return format_received_spf("mx.example.net", session, result).raw.decode("ascii")


# Read as RFC 7208 section 9.1 has it, independently of what writes it
_PAIR = re.compile(r"\s*([a-z-]+)=(\"(?:[^\"\\]|\\.)*\"|[^\s;\"]+)\s*(;|\Z)")
_FIELD = re.compile(r"Received-SPF: ([a-z]+)(?: \(([^()]*)\))?\r\n(.*)\r\n\Z", re.DOTALL)


def read(text: str) -> tuple[str, dict[str, str]]:
    match = _FIELD.match(text)
    assert match is not None
    pairs: dict[str, str] = {}
    rest, at = match[3], 0
    while at < len(rest):
        pair = _PAIR.match(rest, at)
        assert pair is not None
        assert pair[1] not in pairs
        pairs[pair[1]] = pair[2].strip('"')
        at = pair.end()
    return match[1], pairs


def test_the_field_names_who_and_where() -> None:
    """Result, a comment for people, and the keys of section 9.1, values quoted where they must be."""
    assert field(reason="example.org permits 192.0.2.5 (mx)") == (
        "Received-SPF: pass (example.org permits 192.0.2.5 [mx])\r\n"
        "\tidentity=mailfrom;\r\n"
        "\tclient-ip=192.0.2.5;\r\n"
        "\thelo=mail.example.org;\r\n"
        '\tenvelope-from="bob@example.org";\r\n'
        "\treceiver=mx.example.net\r\n"
    )


def test_addresses_that_are_no_atoms_are_quoted() -> None:
    """An IPv6 client and a literal in HELO hold colons and brackets."""
    text = field(session=Session(client_address=ip_address("2001:db8::5"), helo_name="[IPv6:2001:db8::5]"))

    assert 'client-ip="2001:db8::5"' in text
    assert 'helo="[IPv6:2001:db8::5]"' in text


@pytest.mark.parametrize(
    "sender",
    [
        "bob;identity=helo@example.org",
        "bob=pass@example.org",
        '"bob pass"@example.org',
        "a(b)c@example.org",
        'a"b\\c@example.org',
        "b\u00f6b@example.org",
        "bob\r\nReceived-SPF: pass@example.org",
        "bob,x@example.org",
        "<bob>@example.org",
    ],
)
def test_of_a_hostile_local_part_the_domain_stays(sender: str) -> None:
    """No sign of a pair, a comment, a quote or a line gets in by an address (espoofer A5 to A7)."""
    word, pairs = read(field(sender, word="softfail"))

    assert word == "softfail"
    assert pairs["envelope-from"] == "example.org"
    assert pairs["identity"] == "mailfrom"


def test_what_is_not_there_is_left_out() -> None:
    """Without a HELO name or with one that could mislead there is no such key."""
    for helo in (None, "a b", "x;identity=y", "\udcff"):
        _, pairs = read(field(session=Session(client_address=ip_address("192.0.2.5"), helo_name=helo)))
        assert set(pairs) == {"identity", "client-ip", "envelope-from", "receiver"}


@settings(max_examples=150, deadline=None)
@given(sender=st.text(max_size=40), helo=st.text(max_size=40), reason=st.text(max_size=200))
def test_any_values_read_back_as_what_was_found(sender: str, helo: str, reason: str) -> None:
    """Whatever a stranger says, one result, one identity, one client and one receiver come out."""
    session = Session(client_address=ip_address("192.0.2.5"), helo_name=helo)
    word, pairs = read(field(sender, session, reason, "fail"))

    assert word == "fail"
    assert (pairs["identity"], pairs["client-ip"], pairs["receiver"]) == (
        "mailfrom",
        "192.0.2.5",
        "mx.example.net",
    )
