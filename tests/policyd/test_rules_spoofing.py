"""Limits that anybody could use up for somebody else are refused, unless the rule says that it may be."""

from __future__ import annotations

import pytest

from mailreeve_policyd.errors import ConfigError
from mailreeve_policyd.smtp import Stage
from tests.policyd.rules_text import at_rcpt, block, ruleset_of

LIMIT = "limit 5 messages/day per"


@pytest.mark.parametrize(
    "rule",
    [
        f"a: {LIMIT} sender",
        f"a: {LIMIT} sender_domain",
        f"a: {LIMIT} helo_name",
        f"a: {LIMIT} sender, recipient",
        f"a: {LIMIT} sender if not sasl_username",
        f"a: {LIMIT} sender if sasl_username or spf is fail",
        f"a: {LIMIT} sender if not (sasl_username and size > 5)",
        f"a: {LIMIT} sender if client_address is not 192.0.2.1",
        f"a: {LIMIT} helo_name if spf is pass",
    ],
)
def test_a_limit_by_what_anybody_writes_is_refused(rule: str) -> None:
    """Mail without a login could use up a victim's quota."""
    with pytest.raises(ConfigError, match="anybody can write"):
        ruleset_of(at_rcpt(rule))


@pytest.mark.parametrize(
    "rules",
    [
        [f"a: {LIMIT} sender spoofable"],
        [f"a: {LIMIT} sender, client_address"],
        [f"a: {LIMIT} sender if sasl_username"],
        [f'a: {LIMIT} sender if sasl_username is not "bob" and size > 5'],
        [f'a: {LIMIT} sender if sasl_username is "a" or sasl_username is "b"'],
        [f"a: {LIMIT} sender if client_address in 192.0.2.0/24"],
        [f"a: {LIMIT} sender_domain if spf is pass"],
        [f"a: {LIMIT} recipient"],
        ["x: reject if not sasl_username", f"a: {LIMIT} sender"],
    ],
)
def test_a_limit_that_binds_the_client_is_right(rules: list[str]) -> None:
    """A login, a network of ours, a proof of the sender, or the rule's word."""
    ruleset_of(at_rcpt(*rules))


@pytest.mark.parametrize(
    "above",
    [
        "x: reject if not sasl_username and size > 5",
        "x: warn if not sasl_username",
        "observe x: reject if not sasl_username",
        "x: limit 5 recipients/day per client_address if not sasl_username",
    ],
)
def test_a_rule_above_that_leaves_strangers_is_not_enough(above: str) -> None:
    """Only one that ends the block for all mail without a login is."""
    with pytest.raises(ConfigError, match="anybody can write"):
        ruleset_of(at_rcpt(above, f"a: {LIMIT} sender"))


def test_the_hint_says_what_to_write() -> None:
    """Three ways to be right, and how to say that it does not matter."""
    with pytest.raises(ConfigError) as caught:
        ruleset_of(block(Stage.END_OF_MESSAGE, f"a: {LIMIT} header_from"))

    assert str(caught.value).endswith(
        "hint: write `per header_from, client_address`, or `if sasl_username`, or `if dmarc is pass`; "
        "`per header_from spoofable` if that does not matter"
    )
