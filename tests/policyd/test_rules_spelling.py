"""Rules keep their text, and conditions can be asked clause by clause."""

from __future__ import annotations

import pytest

from mailreeve_policyd.rules.conditions import Clause
from tests.policyd.rules_text import at_rcpt, moment, ruleset_of


def clause_of(condition: str) -> Clause:
    """The condition of a rule, compiled."""
    (rule,) = ruleset_of(f'set ours = "a"\n{at_rcpt(f"a: warn if {condition}")}').rules
    assert rule.clause is not None
    return rule.clause


@pytest.mark.parametrize(
    "condition",
    [
        "sasl_username",
        "not sasl_username",
        "not (sender and size > 5)",
        "spf is fail and (size > 5 or client_port in (25, 587))",
        'sender is not "a\\"b@example.org" or helo_name in ours',
        "client_address in (192.0.2.0/24, 2001:db8::1)",
        'sender_domain under "example.org"',
        "helo_name matches /^a\\/b$/i",
        'attribute("tls_sni") is "x"',
    ],
)
def test_a_condition_is_spelled_as_it_would_be_written(condition: str) -> None:
    """Parentheses where they matter; read again it is the same."""
    text = clause_of(condition).text

    assert text == condition
    assert clause_of(text).text == condition


def test_each_clause_can_be_asked_by_itself() -> None:
    """So that somebody can be told which part held, and which did not."""
    clause = clause_of("sasl_username and (size > 5 or not sender)")
    transaction = moment(login="bob", size=3, sender="ann@example.net")

    assert clause.test(transaction) is False
    assert [(part.text, part.test(transaction)) for part in clause.parts] == [
        ("sasl_username", True),
        ("size > 5 or not sender", False),
    ]
    either = clause.parts[1]
    assert (clause.joint, either.joint, either.parts[1].joint) == ("and", "or", "not")
    assert [part.test(transaction) for part in either.parts] == [False, False]
    assert either.parts[1].parts[0].test(transaction) is True


def test_a_rule_keeps_its_text() -> None:
    """All its lines and comments between, without what stands behind it."""
    text = (
        "at rcpt {\n"
        "    observe a: reject   # why\n"
        "        if size > 5  # so\n"
        "\n"
        "    # of b\n"
        "    b: accept c: warn }\n"
    )

    assert [rule.text for rule in ruleset_of(text).rules] == [
        "observe a: reject   # why\n        if size > 5  # so",
        "b: accept",
        "c: warn",
    ]
