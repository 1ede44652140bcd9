"""Texts with facts in them: whatever the facts hold, one bounded line of printable ASCII."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailreeve_policyd.escape import decode_wire
from mailreeve_policyd.rules.templates import MAX_TEXT, spoken
from mailreeve_policyd.smtp import Stage
from tests.policyd.rules_text import at_rcpt, block, decide, moment


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "1 second"),
        (0.2, "1 second"),
        (1, "1 second"),
        (1.000001, "2 seconds"),
        (59.5, "1 minute"),
        (250, "4 minutes 10 seconds"),
        (3600, "1 hour"),
        (3601, "1 hour 1 minute"),
        (3599.5, "1 hour"),
        (86_399, "1 day"),
        (86_400 + 3 * 3600 + 1, "1 day 4 hours"),
        (31 * 86_400, "31 days"),
    ],
)
def test_a_wait_is_told_rounded_up_in_its_two_largest_units(seconds: float, words: str) -> None:
    """For people: never too short, never three numbers."""
    assert spoken(timedelta(seconds=seconds)) == words


def test_facts_stand_in_a_reply() -> None:
    """With those that are absent told as such, and doubled braces as one."""
    text = at_rcpt('a: reject "5.7.23 {client_address} is not {sender_domain}, {{ok}}, {sasl_username}"')
    reply = decide(text, moment(sender="ann@example.net")).reply

    assert str(reply) == "550 5.7.23 203.0.113.9 is not example.net, {ok}, (none)"


def test_a_list_stands_in_a_reply_with_commas() -> None:
    """In its own order."""
    text = block(Stage.END_OF_MESSAGE, 'a: hold "{dkim_domains}"')
    verdict = decide(text, moment(Stage.END_OF_MESSAGE, dkim_domains=("example.net", "example.org")))

    assert verdict.reason == "example.net, example.org"


@settings(max_examples=150, deadline=None)
@given(helo=st.binary(max_size=600), login=st.text(max_size=300))
def test_no_fact_breaks_out_of_its_line(helo: bytes, login: str) -> None:
    """No line end, no control, nothing but printable ASCII, within the bound (CWE-93)."""
    text = at_rcpt(
        'h: add-header "X-Policy: {helo_name} {sasl_username}"', 'a: hold "{helo_name} {sasl_username}"'
    )
    verdict = decide(text, moment(helo=decode_wire(helo) or None, login=login or None))

    assert verdict.reason is not None
    assert verdict.reason.isascii()
    assert verdict.reason.isprintable()
    assert len(verdict.reason) <= MAX_TEXT


def test_a_header_injection_stays_in_its_field() -> None:
    """CR and LF from the wire are escaped."""
    text = at_rcpt('a: add-header "X-Helo: {helo_name}"')
    (edit,) = decide(text, moment(helo="x\r\nBcc: everybody@example.org")).edits

    assert (edit.name, edit.value) == ("X-Helo", "x\\x0d\\x0aBcc: everybody@example.org")
