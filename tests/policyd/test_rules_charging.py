"""Which counter a transaction is charged to, how much, and what is counted only once."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from mailreeve_policyd.escape import decode_wire
from mailreeve_policyd.judgement import OnUnknown
from mailreeve_policyd.limits import Charge, Limit, Unit, limit_key, member_hash
from mailreeve_policyd.smtp import Stage
from mailreeve_policyd.transaction import Transaction
from tests.policyd.rules_text import MILTER_ALONE, at_rcpt, block, moment, ruleset_of


def charges(text: str, transaction: Transaction, **around: Any) -> tuple[Charge, ...]:
    """What the rules of the transaction's stage would charge."""
    ruleset = ruleset_of(text, **around)
    return ruleset.judge(transaction, [transaction.stage], OnUnknown.DEFER).charges


def key_of(limit: str, **given: Any) -> bytes:
    """The key of the one charge of a limit at rcpt."""
    (charge,) = charges(at_rcpt(f"a: limit {limit}"), moment(**given))
    return charge.key


def test_a_limit_becomes_a_charge() -> None:
    """Rule, limit and amount, the key of its rule and values, the mark of message and recipient."""
    text = at_rcpt("burst: limit 60 recipients/15 minutes per sasl_username, client_address")
    (charge,) = charges(text, moment(login="Bob", recipient="Ann@example.net"))

    limit = Limit(60, Unit.RECIPIENTS, timedelta(minutes=15))
    assert charge == Charge(
        "burst",
        limit_key("burst", limit, ["bob", "203.0.113.9"]),
        limit,
        1,
        mark=member_hash("1a.b.0\0ann@example.net"),
        per=("sasl_username", "client_address"),
        values=("bob", "203.0.113.9"),
    )


@pytest.mark.parametrize(
    ("period", "length"),
    [
        ("second", timedelta(seconds=1)),
        ("minute", timedelta(minutes=1)),
        ("1 hour", timedelta(hours=1)),
        ("15 minutes", timedelta(minutes=15)),
        ("day", timedelta(days=1)),
        ("31 days", timedelta(days=31)),
    ],
)
def test_a_period_is_from_a_second_to_31_days(period: str, length: timedelta) -> None:
    """A day is 24 hours."""
    (charge,) = charges(at_rcpt(f"a: limit 1 message/{period} per client_address"), moment())

    assert charge.limit.period == length


def test_logins_and_addresses_are_keyed_without_case() -> None:
    """Bob and BOB are one."""
    assert key_of("1 message/day per sasl_username", login="BOB") == key_of(
        "1 message/day per sasl_username", login="bob"
    )
    assert key_of("1 message/day per sender spoofable", sender="Ann@EXAMPLE.net") == key_of(
        "1 message/day per sender spoofable", sender="ann@example.NET"
    )


def test_bytes_that_are_no_utf8_stay_distinct() -> None:
    """Two logins that look alike when escaped are two."""
    keys = {
        key_of("1 message/day per sasl_username", login=decode_wire(raw))
        for raw in (b"b\xf6b", b"b\xf7b", b"bob")
    }
    assert len(keys) == 3


def test_ipv6_clients_are_keyed_by_64_bits_unless_the_rule_says_otherwise() -> None:
    """One customer has at least that much (RFC 6177); an IPv4-mapped address is IPv4."""
    near, same = "2001:db8::1", "2001:db8::ffff:1"
    per = "1 message/day per client_address"

    assert key_of(per, client=near) == key_of(per, client=same)
    assert key_of(per, client=near) != key_of(per, client="2001:db8:0:1::1")
    assert key_of(f"{per}/128", client=near) != key_of(f"{per}/128", client=same)
    assert key_of(f"{per}/48", client=near) == key_of(f"{per}/48", client="2001:db8:0:1::1")
    assert key_of(per, client="::ffff:203.0.113.9") == key_of(per, client="203.0.113.9")
    assert key_of(per, client="203.0.113.9") != key_of(per, client="203.0.113.8")


@pytest.mark.parametrize("given", [{"login": None}, {"login": ""}])
def test_a_limit_without_its_key_does_not_apply(given: dict[str, Any]) -> None:
    """It never counts under an empty key, and `rules check` notes it."""
    text = at_rcpt("a: limit 1 message/day per sasl_username, client_address")

    assert charges(text, moment(**given)) == ()
    assert any("a does not count mail without sasl_username" in note for note in ruleset_of(text).notes)


def test_a_limit_whose_condition_names_its_key_is_not_noted() -> None:
    """It is there whenever the limit applies."""
    text = at_rcpt("a: limit 1 message/day per sender spoofable if sender and not sasl_username")

    assert ruleset_of(text).notes == ()


def test_a_key_that_cannot_be_known_is_no_key() -> None:
    """Nothing is counted under `temperror`."""
    text = at_rcpt("a: limit 1 message/day per spf")

    assert charges(text, moment(results={"spf": "temperror"})) == ()
    assert len(charges(text, moment(results={"spf": "pass"}))) == 1


@pytest.mark.parametrize("stage", [Stage.MAIL, Stage.RCPT, Stage.DATA, Stage.END_OF_MESSAGE])
def test_a_message_is_counted_once_whenever_it_is_asked_about(stage: Stage) -> None:
    """Its mark is the message's instance, at every stage and recipient."""
    text = block(stage, "a: limit 1 message/day per client_address")
    (charge,) = charges(text, moment(stage, recipient="ann@example.net"))

    assert (charge.amount, charge.mark) == (1, member_hash("1a.b.0"))


def test_the_milter_counts_each_rcpt_command() -> None:
    """It hears of each once, and Postfix delivers a copy for each; a message still counts once."""
    text = at_rcpt(
        "a: limit 9 recipients/hour per sender spoofable", "b: limit 9 messages/hour per sender spoofable"
    )
    asked = moment(sender="ann@example.net", recipient="bob@example.org")
    recipients, messages = charges(text, asked, doors=MILTER_ALONE)

    assert recipients.mark is None
    assert messages.mark == member_hash("1a.b.0")


@pytest.mark.parametrize("stage", [Stage.DATA, Stage.END_OF_MESSAGE])
def test_after_rcpt_all_recipients_are_counted_at_once(stage: Stage) -> None:
    """As many as the message has."""
    text = block(stage, "a: limit 9 recipients/day per client_address")
    (charge,) = charges(text, moment(stage, recipient_count=7))

    assert (charge.amount, charge.mark) == (7, member_hash("1a.b.0"))


def test_bytes_are_the_real_size_at_end_of_message() -> None:
    """Nothing is charged where the size is not known."""
    text = block(Stage.END_OF_MESSAGE, "a: limit 1000000 bytes/day per client_address")
    (charge,) = charges(text, moment(Stage.END_OF_MESSAGE, size=4711))

    assert (charge.amount, charge.mark) == (4711, member_hash("1a.b.0"))
    assert charges(text, moment(Stage.END_OF_MESSAGE)) == ()


def test_without_an_instance_nothing_is_remembered() -> None:
    """An absent instance equals no other: each request counts."""
    text = at_rcpt("a: limit 1 message/day per client_address", "b: limit 1 recipient/day per client_address")
    assert [charge.mark for charge in charges(text, moment(instance=None, recipient="a@example.net"))] == [
        None,
        None,
    ]


def test_distinct_counts_values_as_keys_do() -> None:
    """By /64 or by what the rule says, without case; without the value there is nothing to count."""
    text = at_rcpt("a: limit 5 distinct client_address/hour per sasl_username")
    wide = at_rcpt("a: limit 5 distinct client_address/48/15 minutes per sasl_username")

    def member(text: str, client: str | None) -> bytes | None:
        found = charges(text, moment(login="bob", client=client))
        return found[0].member if found else None

    assert member(text, "2001:db8::1") == member(text, "2001:db8::2")
    assert member(text, "2001:db8::1") != member(text, "2001:db8:0:1::1")
    assert member(wide, "2001:db8::1") == member(wide, "2001:db8:0:1::1")
    assert member(text, None) is None


QUOTAS = 'table quotas = file "quotas.csv"\n'
FILES = {
    "quotas.csv": (
        "# own limits\nBob@example.org, 500 recipients/hour\n\nann@example.org,5 messages/15 minutes\n"
    )
}


def test_a_table_gives_its_own_limit_and_its_own_unit() -> None:
    """Else the default's; the table's unit holds where it differs."""
    text = QUOTAS + at_rcpt("a: limit quotas[sasl_username] or 1000 recipients/day per sasl_username")

    def limit(login: str) -> Limit:
        return charges(text, moment(login=login), files=FILES)[0].limit

    assert limit("bob@example.org") == Limit(500, Unit.RECIPIENTS, timedelta(hours=1))
    assert limit("ANN@example.org") == Limit(5, Unit.MESSAGES, timedelta(minutes=15))
    assert limit("eve@example.org") == Limit(1000, Unit.RECIPIENTS, timedelta(days=1))


def test_a_table_without_default_limits_only_whom_it_names() -> None:
    """Nobody else is counted."""
    text = QUOTAS + at_rcpt("a: limit quotas[sasl_username] per sasl_username")

    assert charges(text, moment(login="eve@example.org"), files=FILES) == ()
    assert charges(text, moment(), files=FILES) == ()


def test_a_limit_that_lets_mail_in_says_so_to_the_store() -> None:
    """hold, discard, warn and add-header do not refuse."""
    per = "limit 1 message/day per client_address"
    text = at_rcpt(
        f"a: {per}",
        f"b: {per} else reject",
        f"c: {per} else hold",
        f"d: {per} else discard",
        f"e: {per} else warn",
        f'f: {per} else add-header "X-Much: yes"',
    )
    assert [charge.refuses for charge in charges(text, moment())] == [True, True, False, False, False, False]


def test_a_limit_applies_only_if_its_condition_holds() -> None:
    """What does not hold or cannot be known is not counted."""
    text = at_rcpt("a: limit 1 message/day per client_address if spf is fail")

    assert len(charges(text, moment(results={"spf": "fail"}))) == 1
    assert charges(text, moment(results={"spf": "pass"})) == ()
    assert charges(text, moment(results={"spf": "temperror"})) == ()
