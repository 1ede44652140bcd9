"""The decision point: rules in order, limits together, stages that run at once, and a store that is away."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from mailreeve_policyd.errors import StoreError
from mailreeve_policyd.facts import Door
from mailreeve_policyd.judgement import OnUnknown, Outcome
from mailreeve_policyd.limits import Charge, Charged, LimitStore, Usage, charge_one_by_one
from mailreeve_policyd.limits_memory import MemoryStore
from mailreeve_policyd.policy import Policy
from mailreeve_policyd.smtp import Stage
from mailreeve_policyd.transaction import Transaction
from mailreeve_policyd.verdict import LIMITS_UNKNOWN, Action, AddHeader, LimitUsage, Verdict
from tests.policyd.limit_stores import HandClock
from tests.policyd.rules_text import (
    MILTER_ALONE,
    SPLIT,
    at_rcpt,
    block,
    decide,
    moment,
    policy_of,
    ruleset_of,
)

EOM = Stage.END_OF_MESSAGE
PER = "per client_address"


class CountingStore:
    """A LimitStore that keeps a tally of how it was asked."""

    def __init__(self, inner: LimitStore) -> None:
        self.inner = inner
        self.charged: list[int] = []
        self.peeked = 0

    def charge(self, charges: Sequence[Charge]) -> tuple[Usage, ...]:
        self.charged.append(len(charges))
        return self.inner.charge(charges)

    def charge_each(self, calls: Sequence[Sequence[Charge]]) -> Sequence[Charged]:
        return charge_one_by_one(self, calls)

    def usage(self, charges: Sequence[Charge]) -> tuple[Usage, ...]:
        self.peeked += 1
        return self.inner.usage(charges)

    def close(self) -> None:
        self.inner.close()


class AwayStore:
    """A LimitStore that is away."""

    def charge(self, charges: Sequence[Charge]) -> tuple[Usage, ...]:
        raise StoreError("away")

    def charge_each(self, calls: Sequence[Sequence[Charge]]) -> Sequence[Charged]:
        return charge_one_by_one(self, calls)

    def usage(self, charges: Sequence[Charge]) -> tuple[Usage, ...]:
        raise StoreError("away")

    def close(self) -> None:
        """Nothing to give back."""


def messages(number: int, **given: Any) -> list[Transaction]:
    """Moments at rcpt of so many different messages."""
    return [moment(instance=f"message-{each}", **given) for each in range(number)]


def last(policy: Policy, number: int, **given: Any) -> Verdict:
    """The verdict on the last of so many messages."""
    return [policy.decide(each) for each in messages(number, **given)][-1]


# Rules in order


def test_the_first_rule_that_decides_wins() -> None:
    """What stands below it is not reached."""
    assert decide(at_rcpt("a: warn", "b: accept", "c: reject"), moment()).rule == "b"


def test_where_no_rule_decides_the_mail_goes_on() -> None:
    """CONTINUE at the transaction's stage, by no rule."""
    verdict = decide(at_rcpt('a: reject if sasl_username is "bob"'), moment())

    assert (verdict.action, verdict.stage, verdict.rule) == (Action.CONTINUE, Stage.RCPT, None)


def test_only_the_stage_that_is_asked_runs() -> None:
    """By default the transaction's own."""
    text = block(Stage.MAIL, "a: reject") + at_rcpt("b: accept")

    assert decide(text, moment()).rule == "b"


def test_accept_ends_the_block_of_its_stage_only() -> None:
    """Later stages are still decided."""
    text = block(Stage.MAIL, "a: accept") + at_rcpt("b: reject")
    verdict = policy_of(text).decide(moment(), [Stage.MAIL, Stage.RCPT])

    assert (verdict.action, verdict.stage, verdict.rule) == (Action.REJECT, Stage.RCPT, "b")


def test_a_refusal_ends_all_stages() -> None:
    """Nothing of a later one is counted or said."""
    text = block(Stage.MAIL, "a: reject") + at_rcpt("b: discard")
    verdict = policy_of(text).decide(moment(), frozenset((Stage.RCPT, Stage.MAIL)))

    assert (verdict.action, verdict.stage, verdict.rule) == (Action.REJECT, Stage.MAIL, "a")


@pytest.mark.parametrize("verb", ["accept", "permit"])
def test_an_earlier_permit_says_nothing_of_a_recipient(verb: str) -> None:
    """OK for MAIL, answered at RCPT, would make an open relay."""
    text = block(Stage.MAIL, f"a: {verb}") + at_rcpt("b: warn")
    verdict = policy_of(text).decide(moment(), [Stage.MAIL, Stage.RCPT])

    assert (verdict.action, verdict.rule) == (Action.CONTINUE, None)


@pytest.mark.parametrize("verb", ["hold", "discard"])
def test_an_earlier_hold_is_said_when_its_stage_runs_late(verb: str) -> None:
    """It has no other chance; a later accept does not lift it."""
    text = block(Stage.HELO, f"a: {verb}") + at_rcpt("b: accept")
    verdict = policy_of(text).decide(moment(), [Stage.CONNECT, Stage.HELO, Stage.RCPT])

    assert (verdict.action, verdict.stage, verdict.rule) == (Action(verb), Stage.HELO, "a")


# What cannot be known


def test_a_reject_rule_that_cannot_be_known_defers() -> None:
    """By default; the reply says nothing of the reason, the verdict names the fact."""
    verdict = decide(at_rcpt("a: reject if spf is fail"), moment(results={"spf": "temperror"}))

    assert verdict.action is Action.DEFER
    assert str(verdict.reply) == "451 4.4.3 Cannot be checked now (a), please try again later"
    assert (verdict.rule, verdict.unknown) == ("a", ("spf",))


@pytest.mark.parametrize(
    "rule", ["a: accept if spf is pass", "a: hold if spf is fail", "a: warn if spf is fail"]
)
def test_any_other_rule_that_cannot_be_known_does_not_apply(rule: str) -> None:
    """The verdict still names the fact."""
    verdict = decide(at_rcpt(rule), moment(results={"spf": "temperror"}))

    assert (verdict.action, verdict.unknown) == (Action.CONTINUE, ("spf",))


def test_a_rule_says_itself_what_it_does_when_it_cannot_know() -> None:
    """`on-unknown` goes before the setting and before the default."""
    unknown = moment(results={"spf": "temperror"})

    assert decide(at_rcpt("a: reject if spf is fail on-unknown ignore"), unknown).action is Action.CONTINUE
    assert decide(at_rcpt("a: hold if spf is fail on-unknown defer"), unknown).action is Action.DEFER
    ignoring = Policy(
        ruleset_of(at_rcpt("a: reject if spf is fail")), AwayStore(), Door.POLICY, OnUnknown.IGNORE
    )
    assert ignoring.decide(unknown).action is Action.CONTINUE


def test_what_is_settled_without_the_unknown_is_decided() -> None:
    """A reject rule that would not hold anyway defers nothing."""
    text = at_rcpt("a: reject if spf is fail and sasl_username")

    assert decide(text, moment(results={"spf": "temperror"})).unknown == ()


# Limits


def test_an_exceeded_limit_defers_with_the_time_to_wait() -> None:
    """4.7.1 by default; the record has what was used."""
    policy = policy_of(at_rcpt(f"burst: limit 2 messages/minute {PER}"))

    assert last(policy, 2).action is Action.CONTINUE
    verdict = policy.decide(moment(instance="third"))
    assert verdict.action is Action.DEFER
    assert str(verdict.reply) == "451 4.7.1 Limit burst reached, try again in 1 minute 1 second"
    assert verdict.limits == (LimitUsage("burst", 2, 2, True, timedelta(seconds=61)),)


def test_a_limit_says_what_it_does_when_exceeded() -> None:
    """With the time to wait for people and for programs."""
    text = at_rcpt(
        f'a: limit 1 message/hour {PER} else defer "4.2.1 {{retry_after}}, {{retry_after_seconds}}"'
    )

    assert str(last(policy_of(text), 2).reply) == "451 4.2.1 1 hour 1 minute, 3660"


def test_a_message_asked_about_again_is_counted_once() -> None:
    """A message once, a recipient once a message (promise 4)."""
    policy = policy_of(at_rcpt(f"a: limit 2 messages/day {PER}", f"b: limit 3 recipients/day {PER}"))
    asked = [moment(recipient=f"{name}@example.net") for name in ("x", "y", "x", "z", "z", "Y")]

    verdicts = [policy.decide(each) for each in asked]

    assert {verdict.action for verdict in verdicts} == {Action.CONTINUE}
    assert [usage.used for usage in verdicts[-1].limits] == [1, 3]


def test_what_is_refused_is_counted_nowhere() -> None:
    """All limits are charged or none is (promise 3)."""
    policy = policy_of(at_rcpt(f"a: limit 1 message/day {PER}", "b: limit 9 messages/day per sasl_username"))
    last(policy, 5, login="bob")

    verdict = policy.decide(moment(client="192.0.2.1", login="bob", instance="other"))
    assert [(usage.rule, usage.used) for usage in verdict.limits] == [("a", 1), ("b", 2)]


def test_a_reject_rule_below_limits_charges_nothing() -> None:
    """The store is asked whether a limit above refuses first, and counts nothing."""
    text = at_rcpt(f"a: limit 1 message/day {PER}", 'b: reject if sasl_username is "eve"')
    store = CountingStore(MemoryStore(HandClock()))
    policy = policy_of(text, store=store)

    assert last(policy, 3, login="eve").rule == "b"
    assert store.charged == []
    assert last(policy, 2).rule == "a"
    assert policy.decide(moment(instance="new", login="eve")).rule == "a"  # above it in the file


def test_a_hold_limit_above_a_reject_rule_lets_the_mail_in_and_charges() -> None:
    """Rules in order: the exceeded limit decides first, and the other limits count the mail."""
    text = at_rcpt(
        f"a: limit 0 messages/day {PER} else hold",
        f"b: limit 9 messages/day {PER}",
        "c: reject if sasl_username",
    )
    verdict = decide(text, moment(login="eve"))

    assert (verdict.action, verdict.rule) == (Action.HOLD, "a")
    assert [usage.used for usage in verdict.limits] == [0, 1]


@pytest.mark.parametrize(
    ("rules", "winner", "action"),
    [
        (["a: {} else hold", "b: {} else defer", "c: {} else reject"], "c", Action.REJECT),
        (["a: {} else defer", "b: {} else defer"], "a", Action.DEFER),
        (["a: {} else hold", "b: {} else discard"], "b", Action.DISCARD),
        (["a: {} else hold", "b: {} else hold"], "a", Action.HOLD),
        (["a: {} else warn", "b: {} else hold", "c: accept"], "b", Action.HOLD),
        (["a: {} else warn", "c: accept"], "c", Action.ACCEPT),
        (["a: accept", "b: {} else reject"], "a", Action.ACCEPT),
    ],
)
def test_of_several_exceeded_limits_one_that_refuses_wins(
    rules: list[str], winner: str, action: Action
) -> None:
    """Reject, then defer, then discard, then hold; among equals the first in the file."""
    text = at_rcpt(*(rule.format(f"limit 1 message/day {PER}") for rule in rules))
    policy = policy_of(text)
    first = policy.decide(moment(instance="first"))
    verdict = policy.decide(moment(instance="second"))

    assert first.action in (Action.CONTINUE, Action.ACCEPT)
    assert (verdict.rule, verdict.action) == (winner, action)


def test_a_limit_that_lets_mail_in_stops_nobody_elses_count() -> None:
    """It is not charged further itself; the others are (promise 3)."""
    policy = policy_of(
        at_rcpt(f"a: limit 1 message/day {PER} else hold", f"b: limit 9 messages/day {PER} else defer")
    )
    verdict = last(policy, 4)

    assert [(usage.rule, usage.used) for usage in verdict.limits] == [("a", 1), ("b", 4)]


def test_the_wait_that_is_told_is_the_longest() -> None:
    """Whichever limit names the reply."""
    text = at_rcpt(
        f'a: limit 1 message/minute {PER} else defer "4.7.1 {{retry_after}}"',
        f"b: limit 1 message/hour {PER}",
    )
    assert str(last(policy_of(text), 2).reply) == "451 4.7.1 1 hour 1 minute"


@pytest.mark.parametrize(
    "otherwise", ["", 'else defer "4.7.1 Later"', 'else reject "5.7.1 In {retry_after}"']
)
def test_a_request_larger_than_its_limit_is_rejected(otherwise: str) -> None:
    """It could be deferred for ever."""
    text = block(EOM, f"big: limit 1000 bytes/day {PER} {otherwise}")
    verdict = decide(text, moment(EOM, size=1001))

    assert verdict.action is Action.REJECT
    assert str(verdict.reply) == "550 5.7.1 Larger than the limit big allows"


def test_a_rejecting_limit_keeps_its_own_words_for_what_is_too_large() -> None:
    """They tell no wait."""
    text = block(EOM, f'big: limit 1000 bytes/day {PER} else reject "5.3.4 Too big"')

    assert str(decide(text, moment(EOM, size=1001)).reply) == "550 5.3.4 Too big"


@pytest.mark.parametrize(("otherwise", "action"), [("", Action.REJECT), ("else hold", Action.HOLD)])
def test_limit_0_is_always_exceeded(otherwise: str, action: Action) -> None:
    """From the first request on."""
    text = at_rcpt(f"a: limit 0 messages/day {PER} {otherwise}")

    assert decide(text, moment()).action is action


def test_distinct_counts_each_value_once() -> None:
    """A third address of one login is one too many; the first two go on working."""
    policy = policy_of(at_rcpt('a: limit 2 distinct client_address/hour per sasl_username else hold "many"'))

    def action(client: str) -> Action:
        return policy.decide(moment(client=client, login="bob", instance=client)).action

    assert [action(f"192.0.2.{each}") for each in (1, 2, 1, 3, 2)] == [
        *([Action.CONTINUE] * 3), Action.HOLD, Action.CONTINUE,
    ]  # fmt: skip


def test_stages_that_run_together_are_one_charge() -> None:
    """One call of the store for the mail and rcpt blocks; a refusal charges neither, but for its notice."""
    text = block(Stage.MAIL, f"a: limit 9 messages/day {PER}") + at_rcpt(
        "b: limit 1 recipient/day per sasl_username"
    )
    store = CountingStore(MemoryStore(HandClock()))
    policy = policy_of(text, store=store)
    together = [Stage.MAIL, Stage.RCPT]

    first, second = (policy.decide(each, together) for each in messages(2, login="bob"))

    assert store.charged == [2, 2, 1]
    assert [usage.used for usage in first.limits] == [1, 1]
    assert (second.action, second.stage, second.rule) == (Action.DEFER, Stage.RCPT, "b")
    assert [usage.used for usage in second.limits] == [1, 1]


def test_the_earlier_stages_limit_names_the_refusal() -> None:
    """As if its stage had been asked by itself."""
    text = block(Stage.MAIL, f"a: limit 0 messages/day {PER} else defer")
    text += at_rcpt(f"b: limit 0 messages/day {PER} else reject")

    assert policy_of(text).decide(moment(), [Stage.MAIL, Stage.RCPT]).rule == "a"


def test_without_limits_the_store_is_not_asked() -> None:
    """Not even to be told that it is away."""
    assert decide(at_rcpt("a: accept"), moment(), store=AwayStore()).rule == "a"


# Remarks, and what a door can say


def test_warnings_stand_in_the_verdict_whatever_is_decided() -> None:
    """Those above the rule that decides, in the order of the file, limits' own among them."""
    text = at_rcpt(
        "a: warn",
        f"b: limit 0 messages/day {PER} else warn",
        'c: warn "see {recipient}"',
        "d: reject",
        "e: warn",
    )
    verdict = decide(text, moment(recipient="ann@example.org"))

    assert verdict.action is Action.REJECT
    assert verdict.warnings == ("a: applies", "b: limit exceeded", "c: see ann@example.org")


def test_what_stands_below_an_exceeded_limit_that_decides_is_not_done() -> None:
    """The block ended at the limit."""
    text = at_rcpt("a: warn", f"b: limit 0 messages/day {PER} else hold", "c: warn")

    assert decide(text, moment()).warnings == ("a: applies",)


def headers(verb: str) -> str:
    """Two fields to add, and then something else."""
    return at_rcpt('a: add-header "X-A: 1"', 'b: add-header "X-B: 2"', f"c: {verb}")


@pytest.mark.parametrize("verb", ["accept", "warn"])
def test_a_policy_reply_has_room_for_one_field(verb: str) -> None:
    """The first that applies, where no other action is said; the verdict names what was not done."""
    verdict = decide(headers(verb), moment())

    assert verdict.edits == (AddHeader("X-A", "1"),)
    assert verdict.skipped == ("b",)


@pytest.mark.parametrize("verb", ["hold", "discard", "permit"])
def test_a_policy_reply_that_says_an_action_has_room_for_no_field(verb: str) -> None:
    """Both rules are named."""
    verdict = decide(headers(verb), moment())

    assert (verdict.edits, verdict.skipped) == ((), ("a", "b"))


def test_mail_that_is_refused_gets_no_fields() -> None:
    """And nobody misses them."""
    verdict = decide(headers("reject"), moment())

    assert (verdict.edits, verdict.skipped) == ((), ())


@pytest.mark.parametrize("verb", ["accept", "hold", "warn"])
def test_the_milter_adds_every_field(verb: str) -> None:
    """Its protocol has no such bound."""
    verdict = decide(headers(verb), moment(), doors=MILTER_ALONE)

    assert verdict.edits == (AddHeader("X-A", "1"), AddHeader("X-B", "2"))
    assert verdict.skipped == ()


# A store that is away


def test_mail_that_needs_an_absent_store_is_deferred() -> None:
    """4.3.0 with words that tell nothing of us; the verdict says that the limits are not known."""
    verdict = decide(at_rcpt(f"a: limit 1 message/day {PER}", "b: accept"), moment(), store=AwayStore())

    assert verdict.action is Action.DEFER
    assert str(verdict.reply) == "451 4.3.0 Temporary failure, please try again later"
    assert verdict.unknown == (LIMITS_UNKNOWN,)


def test_what_a_rule_refuses_is_refused_without_the_store_too() -> None:
    """The limits above could only have refused it as well."""
    verdict = decide(at_rcpt(f"a: limit 1 message/day {PER}", "b: reject"), moment(), store=AwayStore())

    assert (verdict.action, verdict.rule, verdict.unknown) == (Action.REJECT, "b", (LIMITS_UNKNOWN,))


def test_a_reject_below_a_limit_that_might_hold_is_deferred_without_the_store() -> None:
    """The limit might have let the mail in."""
    text = at_rcpt(f"a: limit 1 message/day {PER} else hold", "b: reject")

    assert decide(text, moment(), store=AwayStore()).action is Action.DEFER


# Rule by rule, and how long it takes


def test_a_decision_can_be_told_rule_by_rule() -> None:
    """What held, with the facts that were asked; the limits with their usage; what was not reached."""
    text = at_rcpt(
        "office: accept if client_address in 192.0.2.0/24 and spf is pass",
        f"burst: limit 60 messages/minute {PER}",
        "logins: limit 60 messages/minute per sasl_username",
        "known: accept if spf is pass on-unknown ignore",
        "strangers: hold if not sasl_username",
        "rest: accept",
    )
    explanation = policy_of(text).decide_traced(moment(results={"spf": "temperror"}))

    assert explanation.verdict.rule == "strangers"
    assert [str(step) for step in explanation.steps] == [
        "rcpt office: did not hold (client_address=203.0.113.9, spf=temperror)",
        "rcpt burst: within its limit (1 of 60)",
        "rcpt logins: does not count this (sasl_username=(none))",
        "rcpt known: cannot be known (spf=temperror)",
        "rcpt strangers: held (sasl_username=(none))",
        "rcpt rest: not reached",
    ]
    assert explanation.steps[1].outcome is Outcome.WITHIN


def test_what_stands_below_an_exceeded_limit_that_decides_is_not_reached() -> None:
    """Neither the rule that would have decided nor remarks: else it would be told that they did something."""
    text = block(Stage.MAIL, "quick: limit 0 messages/minute per client_address") + at_rcpt(
        'seen: warn "seen"', f"more: limit 5 messages/day {PER}", "rest: hold"
    )
    below = at_rcpt(
        f"soft: limit 0 messages/day {PER} else warn",
        f"full: limit 0 messages/day {PER} else hold",
        'seen: warn "seen"',
        f"other: limit 5 messages/day {PER}",
        "rest: accept",
    )

    refused = policy_of(text).decide_traced(moment(), (Stage.MAIL, Stage.RCPT))
    held = policy_of(below).decide_traced(moment())

    assert [str(step) for step in refused.steps] == [
        "mail quick: exceeded (0 of 0)",
        "rcpt seen: not reached",
        "rcpt more: within its limit (0 of 5)",
        "rcpt rest: not reached",
    ]
    assert [str(step) for step in held.steps] == [
        "rcpt soft: exceeded (0 of 0)",
        "rcpt full: exceeded (0 of 0)",
        "rcpt seen: not reached",
        "rcpt other: within its limit (1 of 5)",
        "rcpt rest: not reached",
    ]
    assert held.verdict.rule == "full"


def test_a_limit_that_nobody_can_ask_is_not_told_to_be_within() -> None:
    """Without the store its standing is not known."""
    explained = policy_of(at_rcpt(f"a: limit 5 messages/day {PER}"), store=AwayStore()).decide_traced(
        moment()
    )

    assert [str(step) for step in explained.steps] == ["rcpt a: cannot be known"]


def test_a_limit_above_a_reject_tells_what_is_counted() -> None:
    """Mail that is refused is not: the record does not say that it was."""
    policy = policy_of(at_rcpt(f"a: limit 5 messages/day {PER}", "b: reject"))

    verdicts = [policy.decide(moment(instance=str(each))) for each in range(2)]

    assert [verdict.limits[0].used for verdict in verdicts] == [0, 0]


def test_the_evidence_that_rules_ask_for_is_named_by_stage() -> None:
    """In conditions, in keys and in texts; nothing is gathered that nobody asks."""
    text = block(Stage.MAIL, "a: reject if spf is fail") + at_rcpt(
        'b: hold "{iprev}"', "c: limit 1 message/day per spf_helo", "d: accept if sasl_username"
    )
    policy = policy_of(text)

    assert policy.needs([Stage.MAIL]) == {"spf"}
    assert policy.needs([Stage.RCPT]) == {"iprev", "spf_helo"}
    assert policy.needs([Stage.CONNECT]) == frozenset()


def test_twenty_rules_are_decided_in_tens_of_microseconds() -> None:
    """The bound here is ten times what it takes, for a busy machine."""
    rules = [
        f'r{each}: reject if sender_domain is "e{each}.example" and not sasl_username' for each in range(17)
    ]
    limits = [
        "l1: limit 60000 recipients/minute per sasl_username",
        "l2: limit 1000000 recipients/day per sasl_username",
        f"l3: limit 100 messages/minute {PER} if not sasl_username",
    ]
    ruleset = ruleset_of(at_rcpt(*rules, *limits))
    asked = moment(login="bob", sender="ann@example.net", recipient="x@example.org")
    spent = []
    for each in range(300):
        transaction = replace(asked, instance=f"message-{each}")
        started = time.perf_counter()
        ruleset.judge(transaction, [Stage.RCPT], OnUnknown.DEFER)
        spent.append(time.perf_counter() - started)

    assert statistics.median(spent) < 500e-6


def test_each_door_is_asked_about_its_own_stages() -> None:
    """The same rules serve both daemons."""
    text = at_rcpt("a: reject") + block(EOM, "b: hold if dmarc is fail")
    milter = Policy(ruleset_of(text, SPLIT), AwayStore(), Door.MILTER)

    assert milter.decide(moment(EOM, results={"dmarc": "fail"})).rule == "b"
