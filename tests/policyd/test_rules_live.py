"""Sets and tables that rules ask in Redis: what holds, what an outage does, what expect lines give."""

from __future__ import annotations

from datetime import timedelta
from ipaddress import ip_address, ip_network
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis.strategies import ip_addresses

from mailreeve_policyd.errors import ConfigError
from mailreeve_policyd.judgement import Outcome
from mailreeve_policyd.limits import Limit, Unit
from mailreeve_policyd.rules.membership import networks_around
from mailreeve_policyd.rules.outside import Outside
from mailreeve_policyd.smtp import Stage
from mailreeve_policyd.transaction import IPAddress, Transaction
from mailreeve_policyd.verdict import Action, Verdict
from tests.policyd.live_names import Server, policy_with, rules_with
from tests.policyd.rules_text import IGNORE, at_rcpt, moment

STAFF = 'set staff = redis "staff"\n'
QUOTAS = 'table quotas = redis "quotas"\n'


def holds(condition: str, transaction: Transaction, server: Server, sets: str = STAFF) -> bool | None:
    """What a condition comes to."""
    (rule,) = rules_with(f"{sets}at rcpt {{ rule: accept if {condition} }}", Outside(live=server)).rules
    assert rule.condition is not None
    return rule.condition(transaction)


def decided(rule: str, transaction: Transaction, server: Server, names: str = STAFF) -> Verdict:
    """The verdict of one rule at rcpt."""
    return policy_with(names + at_rcpt(rule), server).decide(transaction)


@pytest.mark.parametrize(
    ("condition", "moment_of", "member"),
    [
        ("sasl_username in staff", {"login": "Bob"}, "bob"),
        ("sender in staff", {"sender": "Ann@B\u00fccher.example"}, "ann@xn--bcher-kva.example"),
        ("sender_domain in staff", {"sender": "ann@Example.net"}, "example.net"),
        ("client_address in staff", {"client": "2001:DB8:0::7"}, "2001:db8::7"),
        ("client_address in staff", {"client": "2001:db8::7"}, "2001:db8::/32"),
        ("client_address in staff", {"client": "192.0.2.7"}, "192.0.2.0/24"),
        ("client_address in staff", {"client": "192.0.2.7"}, "192.0.2.7/32"),
        ("client_address in staff", {"client": "192.0.2.7"}, "192.0.0.0/8"),
        ("client_port in staff", {"client_port": 2525}, "2525"),
        ("recipient_domain under staff", {"recipient": "ann@mx.example.net"}, "example.net"),
        ('sasl_username in ("ann", staff)', {"login": "bob"}, "bob"),
    ],
)
def test_a_fact_is_asked_as_it_compares(condition: str, moment_of: dict[str, Any], member: str) -> None:
    """Lower case, A-labels, addresses in their canonical form: so the administrator adds them."""
    assert holds(condition, moment(**moment_of), Server(sets={"staff": frozenset((member,))})) is True
    assert holds(condition, moment(**moment_of), Server()) is False


@given(ip_addresses())
@example(ip_address("::1"))
@example(ip_address("::192.0.2.1"))
@example(ip_address("64:ff9b::192.0.2.1"))
@example(ip_address("2001:db8:0:1:0:1:0:1"))
@example(ip_address("2001:0:0:1::1"))
def test_networks_are_spelt_as_whoever_adds_them_spells_them(address: IPAddress) -> None:
    """By their first address in its short form, from the single address on."""
    bits, shortest = (32, 8) if address.version == 4 else (128, 16)
    around = [str(ip_network((address, length), strict=False)) for length in range(bits, shortest - 1, -1)]

    assert networks_around(str(address)) == (str(address), *around)


def test_an_absent_fact_asks_nobody() -> None:
    """There is nothing to look for."""
    server = Server()

    assert holds("sasl_username in staff", moment(), server) is False
    assert server.asked == 0


def test_a_set_that_is_away_is_unknown_unless_the_rest_settles_it() -> None:
    """Kleene's logic, as for a fact that DNS did not tell."""
    away, bob = Server(away={"staff"}), moment(login="bob")

    assert holds("sasl_username in staff", bob, away) is None
    assert holds("not sasl_username in staff", bob, away) is None
    assert holds('sasl_username in (staff, "bob")', bob, away) is True
    assert holds('sasl_username in staff and sasl_username is "eve"', bob, away) is False
    assert holds('sasl_username in staff or sasl_username is "bob"', bob, away) is True


def test_a_rule_whose_set_is_away_does_as_its_on_unknown_says() -> None:
    """By default reject rules defer and others do not apply, and the verdict names the set."""
    away, bob = Server(away={"staff"}), moment(login="bob")

    refused = decided("a: reject if not sasl_username in staff", bob, away)
    assert (refused.action, refused.rule, refused.unknown) == (Action.DEFER, "a", ("staff",))
    passed = decided("a: reject if not sasl_username in staff on-unknown ignore", bob, away)
    assert (passed.action, passed.unknown) == (Action.CONTINUE, ("staff",))
    assert decided("a: accept if sasl_username in staff", bob, away).action is Action.CONTINUE
    assert decided("a: accept if sasl_username in staff on-unknown defer", bob, away).action is Action.DEFER


def test_a_set_is_asked_for_each_request_and_not_when_the_rules_are_read() -> None:
    """So what is added holds without a reload."""
    server = Server()
    policy = policy_with(STAFF + at_rcpt("a: accept if sasl_username in staff"), server)

    assert policy.decide(moment(login="bob")).action is Action.CONTINUE
    server.sets["staff"] = frozenset(("bob",))
    assert policy.decide(moment(login="bob")).action is Action.ACCEPT
    assert server.asked == 2


def test_a_stage_that_asks_a_store_may_wait() -> None:
    """The milter's loop then leaves it to a thread."""
    text = (
        STAFF
        + QUOTAS
        + "at helo { a: accept if helo_name in staff }\n"
        + "at mail { b: accept if sasl_username }\n"
        + "at rcpt { c: limit quotas[sasl_username] per sasl_username }\n"
        + 'at data { d: reject if quotas[sasl_username] is "none" }\n'
    )
    rules = rules_with(text, Outside(live=Server()))

    assert [stage.value for stage in Stage if rules.asks_live(stage)] == ["helo", "rcpt", "data"]


def test_a_language_that_is_asked_in_redis_may_wait_too() -> None:
    """Wherever what it is asked by is known; while it is away all have the default."""
    text = (
        'table languages = redis "languages"\nreply-language = languages[sasl_username] or "en"\n'
        "at helo { a: reject }\nat mail { b: reject }\n"
    )
    rules = rules_with(text, Outside(live=Server(away={"languages"})))

    assert [stage.value for stage in Stage if rules.asks_live(stage)] == ["mail"]
    (block,) = rules.judge(moment(Stage.MAIL, login="bob"), [Stage.MAIL], IGNORE).blocks
    assert block.decision is not None
    assert block.decision.action is Action.REJECT


# Limits in tables


def charge_of(text: str, transaction: Transaction, server: Server) -> Limit | None:
    """The limit that applies."""
    judgement = rules_with(QUOTAS + at_rcpt(text), Outside(live=server)).judge(
        transaction, [Stage.RCPT], IGNORE
    )
    return judgement.charges[0].limit if judgement.charges else None


def test_a_limit_comes_from_the_table_when_the_mail_comes() -> None:
    """Its unit too; who stands there not has the default, or no limit."""
    server = Server(tables={"quotas": {"bob": "5 messages/minute", "eve": "3 distinct recipient/hour"}})
    rule = "a: limit quotas[sasl_username] or 100 recipients/day per sasl_username"

    assert charge_of(rule, moment(login="BOB"), server) == Limit(5, Unit.MESSAGES, timedelta(minutes=1))
    eve = moment(login="eve", recipient="ann@example.net")
    assert charge_of(rule, eve, server) == Limit(3, Unit.DISTINCT, timedelta(hours=1))
    assert charge_of(rule, moment(login="ann"), server) == Limit(100, Unit.RECIPIENTS, timedelta(days=1))
    assert charge_of("a: limit quotas[sasl_username] per sasl_username", moment(login="ann"), server) is None


@pytest.mark.parametrize(
    "value",
    [
        "lots",
        "",
        "500 recipients",
        "500 sheep/hour",
        "5 bytes/hour",
        "5 distinct moon/hour",
        "5 distinct spf/hour",
        "5 distinct queue_id/hour",
        "99999 distinct recipient/hour",
        "x" * 2000,
    ],
)
def test_a_wrong_value_counts_as_the_default_and_is_told_once_a_key(
    value: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A slip in Redis must neither crash nor free anybody; without a default it cannot be known."""
    server, bob = Server(tables={"quotas": {"bob": value}}), moment(login="bob")
    text = QUOTAS + at_rcpt("a: limit quotas[sasl_username] or 1 message/day per sasl_username")
    policy = policy_with(text, server)

    first = policy.decide(bob)
    assert [usage.maximum for usage in first.limits] == [1]
    policy.decide(bob)
    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith("the table quotas in Redis, under bob: ")

    strict = "a: limit quotas[sasl_username] per sasl_username if sasl_username on-unknown defer"
    assert decided(strict, bob, server, QUOTAS).action is Action.DEFER
    loose = "a: limit quotas[sasl_username] per sasl_username"
    verdict = decided(loose, bob, server, QUOTAS)
    assert (verdict.action, verdict.unknown) == (Action.CONTINUE, ("quotas[sasl_username]",))


def test_while_the_table_is_away_the_default_counts() -> None:
    """An outage must not let anybody send without end."""
    away, bob = Server(away={"quotas"}), moment(login="bob")
    text = QUOTAS + at_rcpt("a: limit quotas[sasl_username] or 1 message/day per sasl_username")
    policy = policy_with(text, away)

    assert policy.decide(bob).action is Action.CONTINUE
    assert policy.decide(moment(login="bob", instance="other")).action is Action.DEFER
    steps = policy_with(
        QUOTAS + at_rcpt("a: limit quotas[sasl_username] per sasl_username"), away
    ).decide_traced(bob)
    assert [step.outcome for step in steps.steps] == [Outcome.UNKNOWN]


# Values in tables

ROLES = 'table roles = redis "roles"\ntable most = redis "most"\n'


def test_a_value_is_compared_and_an_outage_is_unknown() -> None:
    """As if it were a fact."""
    server, bob = Server(tables={"roles": {"bob": "Bulk"}, "most": {"bob": "5"}}), moment(login="bob")

    assert holds('roles[sasl_username] is "bulk"', bob, server, ROLES) is True
    assert holds("roles[sasl_username]", bob, server, ROLES) is True
    assert holds("roles[sasl_username]", moment(login="ann"), server, ROLES) is False
    assert holds("most[sasl_username] < 6", bob, server, ROLES) is True
    server.away |= {"roles", "most"}
    for condition in (
        'roles[sasl_username] is not "bulk"',
        "roles[sasl_username]",
        "most[sasl_username] < 6",
    ):
        assert holds(condition, bob, server, ROLES) is None


def test_a_value_that_is_no_number_cannot_be_known(caplog: pytest.LogCaptureFixture) -> None:
    """It is told once, and never compared as something else."""
    server, bob = Server(tables={"most": {"bob": "many"}}), moment(login="bob", size=1)

    assert holds("size < most[sasl_username]", bob, server, ROLES) is None
    assert holds("not most[sasl_username] < 5", bob, server, ROLES) is None
    assert (
        caplog.messages == ["the table most in Redis, under bob: `many` is no number"] * 2
    )  # of two rulesets


def test_a_text_says_what_the_table_says_escaped() -> None:
    """And that it cannot be known, where it is away."""
    server = Server(tables={"roles": {"bob": "bulk\r\n250 ok"}})
    rule = 'a: reject "5.7.1 {roles[sasl_username]} may not" if sasl_username'

    def reply(server: Server) -> str:
        found = decided(rule, moment(login="bob"), server, ROLES).reply
        assert found is not None
        return found.text

    assert reply(server) == r"bulk\x0d\x0a250 ok may not"
    assert reply(Server(away={"roles"})) == "(unknown) may not"
    assert reply(Server()) == "(none) may not"


# Expect lines


def test_an_expect_line_asks_nobody() -> None:
    """Live sets and tables are empty but for what the line gives."""
    server = Server(away={"staff", "quotas"})
    rules_with(
        STAFF
        + QUOTAS
        + at_rcpt(
            "a: accept if sasl_username in staff",
            "b: limit quotas[sasl_username] or 2 messages/day per sasl_username",
        )
        + 'expect accept at rcpt with sasl_username = "bob" where staff has "Bob"\n'
        + 'expect continue at rcpt with sasl_username = "bob" where staff has "ann"\n'
        + 'expect continue at rcpt with sasl_username = "bob" after 1 time\n'
        + 'expect defer at rcpt with sasl_username = "bob" after 2 times\n'
        + 'expect defer at rcpt with sasl_username = "bob" where quotas["bob"] = "1 message/day"'
        + " after 1 time\n"
        + 'expect continue at rcpt with sasl_username = "bob" where quotas["ann"] = "0 messages/day"\n',
        Outside(live=server),
    )
    assert server.asked == 0


def test_a_line_gives_rows_to_a_table_in_a_file_too() -> None:
    """Instead of the row that stands there."""
    text = (
        'table roles = file "roles.csv"\n'
        + at_rcpt('a: reject if roles[sasl_username] is "blocked"')
        + 'expect continue at rcpt with sasl_username = "bob"\n'
        + 'expect reject at rcpt with sasl_username = "bob" where roles["Bob"] = "blocked"\n'
    )
    rules_with(text, Outside(), {"roles.csv": "bob,staff\n"})


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ('staf has "bob"', "there is no set `staf`"),
        ('quota["bob"] = "1 message/day"', "there is no table `quota`"),
        ('quotas has "bob"', "there is no set `quotas`"),
        ('staff["bob"] = "x"', "there is no table `staff`"),
    ],
)
def test_a_line_that_gives_to_what_is_not_there_is_told(where: str, message: str) -> None:
    """With the nearest name."""
    text = STAFF + QUOTAS + at_rcpt("a: accept") + f"expect accept at rcpt where {where}"
    with pytest.raises(ConfigError, match=message):
        rules_with(text, Outside(live=Server()))


def test_a_given_value_that_is_wrong_is_told_in_its_line() -> None:
    """As a row of a file would be."""
    text = (
        'table quotas = file "quotas.csv"\n'
        + at_rcpt("a: limit quotas[sasl_username] per sasl_username")
        + 'expect continue at rcpt where quotas["bob"] = "lots"'
    )
    with pytest.raises(ConfigError, match="`lots` is no limit") as caught:
        rules_with(text, Outside(), {"quotas.csv": ""})
    assert caught.value.place == "5:38"
