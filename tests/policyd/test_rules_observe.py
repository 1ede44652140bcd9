"""Rules under `observe`: evaluated, counted and recorded, and nothing is done."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from mailreeve_policyd.errors import StoreError
from mailreeve_policyd.limits import Charge, Charged, OnUnavailable, Usage
from mailreeve_policyd.policy import Policy
from mailreeve_policyd.smtp import Stage
from mailreeve_policyd.verdict import LIMITS_UNKNOWN, Action, Observed
from tests.policyd.rules_text import SPLIT, at_rcpt, decide, moment, policy_of, ruleset_of


@pytest.mark.parametrize(
    ("action", "observed"),
    [
        ("accept", ("accept", None)),
        ("permit", ("permit", None)),
        ('reject "5.7.1 No"', ("reject", "550 5.7.1 No")),
        ('defer "Later"', ("defer", "451 4.7.1 Later")),
        ('hold "why"', ("hold", "why")),
        ("discard", ("discard", None)),
        ('redirect "abuse@example.org"', ("redirect", "abuse@example.org")),
        ('filter "smtp:[127.0.0.1]:10025"', ("filter", "smtp:[127.0.0.1]:10025")),
        ('bcc "archive@example.org"', ("bcc", "archive@example.org")),
        ('add-header "X-A: b"', ("add-header", "X-A: b")),
        ('warn "look"', ("warn", "look")),
        ('notify "look"', ("notify", "look")),
    ],
)
def test_every_action_is_recorded_and_not_done(action: str, observed: tuple[str, str | None]) -> None:
    """The rule below it still decides."""
    verdict = decide(at_rcpt(f"observe try: {action}", "b: accept"), moment())

    assert (verdict.action, verdict.rule) == (Action.ACCEPT, "b")
    assert verdict.observed == (Observed("try", Stage.RCPT, *observed),)
    assert (verdict.edits, verdict.copies, verdict.warnings, verdict.notices) == ((), (), (), ())


def test_a_rule_that_does_not_hold_would_do_nothing() -> None:
    """Nothing is recorded of it."""
    assert decide(at_rcpt("observe try: reject if sasl_username"), moment()).observed == ()


def test_what_is_not_reached_would_do_nothing_either() -> None:
    """Below a rule that decides, or a limit that is exceeded."""
    policy = policy_of(at_rcpt("a: limit 0 recipients/day per client_address", "observe try: reject"))

    assert decide(at_rcpt("a: accept", "observe try: reject"), moment()).observed == ()
    assert policy.decide(moment(recipient="a@example.org")).observed == ()


def test_what_cannot_be_known_would_defer() -> None:
    """As the rule would without observe; the mail goes on."""
    verdict = decide(at_rcpt("observe try: reject if spf is fail"), moment(results={"spf": "temperror"}))

    assert verdict.action is Action.CONTINUE
    assert [(each.rule, each.action) for each in verdict.observed] == [("try", "defer")]
    assert verdict.unknown == ("spf",)


def test_an_observed_limit_counts_and_stops_nobody() -> None:
    """It is not charged further once exceeded; the others are judged and charged."""
    policy = policy_of(
        at_rcpt(
            "observe small: limit 1 recipient/day per client_address",
            "large: limit 3 recipients/day per client_address",
        )
    )
    verdicts = [policy.decide(moment(instance=str(n), recipient="a@example.org")) for n in range(4)]

    assert [verdict.action for verdict in verdicts] == [*[Action.CONTINUE] * 3, Action.DEFER]
    assert [[usage.used for usage in verdict.limits] for verdict in verdicts] == [
        [1, 1],
        [1, 2],
        [1, 3],
        [1, 3],
    ]
    assert [[usage.observed for usage in verdict.limits] for verdict in verdicts] == [[True, False]] * 4
    assert [[each.rule for each in verdict.observed] for verdict in verdicts] == [[], *[["small"]] * 3]


def test_observe_charges_do_not_refuse_and_need_no_store() -> None:
    """Whatever the rule says for an outage."""
    ruleset = ruleset_of(at_rcpt("observe a: limit 1 recipient/day per client_address on-unavailable closed"))
    transaction = moment(recipient="a@example.org")
    [pending] = ruleset.judge(transaction, [Stage.RCPT], policy_of("")._on_unknown).pending

    assert (pending.charge.refuses, pending.charge.on_unavailable) == (False, OnUnavailable.OPEN)


class AwayStore:
    """A LimitStore that is away."""

    def charge(self, charges: Sequence[Charge]) -> tuple[Usage, ...]:
        raise StoreError("away")

    def charge_each(self, calls: Sequence[Sequence[Charge]]) -> Sequence[Charged]:
        return [StoreError("away") for _ in calls]

    def usage(self, charges: Sequence[Charge]) -> tuple[Usage, ...]:
        raise StoreError("away")

    def close(self) -> None:
        """Nothing to give back."""


def test_mail_with_observed_limits_alone_goes_on_without_the_store() -> None:
    """An outage never defers mail for a rule that is being tried; a real limit does."""
    rules = "observe a: limit 1 recipient/day per client_address"
    real = "b: limit 9 recipients/day per client_address"

    def verdict(*lines: str) -> tuple[Action, str | None]:
        policy = Policy(ruleset_of(at_rcpt(*lines)), AwayStore(), SPLIT[Stage.RCPT])
        found = policy.decide(moment(recipient="a@example.org"))
        assert LIMITS_UNKNOWN in found.unknown
        return found.action, found.rule

    assert verdict(rules) == (Action.CONTINUE, None)
    assert verdict(rules, "c: accept") == (Action.ACCEPT, "c")
    assert verdict(rules, real) == (Action.DEFER, None)


def test_a_rule_may_be_named_observe() -> None:
    """The word is one only before a name."""
    assert decide(at_rcpt("observe: accept"), moment()).rule == "observe"
