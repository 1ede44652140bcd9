"""Tables in conditions, limits and texts: what a file may say, what it may not, and where that is told."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailreeve_policyd.errors import ConfigError
from mailreeve_policyd.limits import Charge, Limit, Unit
from mailreeve_policyd.rules.outside import Outside
from mailreeve_policyd.rules.sets import MAX_ENTRIES, MAX_LINE, lines_of
from mailreeve_policyd.rules.tables import _split
from mailreeve_policyd.smtp import Stage
from tests.policyd.live_names import rules_with
from tests.policyd.rules_text import IGNORE, at_rcpt, moment

ROLES = """\
# who is what
Bob@Example.org , Bulk      # the newsletter
ann,staff
eve#1,"one, two"
"""
TABLES = (
    'table roles = file "roles.csv"\n'
    'table most = file "most.csv"\n'
    'table senders = file "senders.csv"\n'
    'table hosts = file "hosts.csv"\n'
)
FILES = {
    "roles.csv": ROLES,
    "most.csv": "bob,5\nann, 100\n",
    "senders.csv": "bob,Bob@Example.org sales@b\u00fccher.example\nann,ann@example.org\n",
    "hosts.csv": "bob,192.0.2.0/24 2001:db8::/32\n",
}


def holds(condition: str, files: dict[str, str] | None = None, **given: Any) -> bool | None:
    """What a condition comes to at rcpt."""
    rules = rules_with(TABLES + at_rcpt(f"rule: accept if {condition}"), Outside(), FILES | (files or {}))
    assert rules.rules[0].condition is not None
    return rules.rules[0].condition(moment(**given))


@pytest.mark.parametrize(
    ("condition", "login", "result"),
    [
        ('roles[sasl_username] is "bulk"', "BOB@example.org", True),
        ('roles[sasl_username] is "bulk"', "ann", False),
        ('roles[sasl_username] is not "bulk"', "ann", True),
        ('roles[sasl_username] is not "bulk"', "nobody", False),
        ('roles[sasl_username] is "one, two"', "eve#1", True),
        ("roles[sasl_username]", "ann", True),
        ("roles[sasl_username]", "eve", False),
        ("not roles[sasl_username]", None, True),
        ('roles[sasl_username] in ("bulk", "staff")', "ann", True),
        ("roles[sasl_username] matches /^st/", "ann", True),
        ("most[sasl_username] <= 5", "bob", True),
        ("most[sasl_username] <= 5", "ann", False),
        ("most[sasl_username] <= 5", "nobody", False),
    ],
)
def test_what_stands_in_a_table_is_asked_like_a_fact(condition: str, login: str | None, result: bool) -> None:
    """Without case; where nothing stands it is absent."""
    assert holds(condition, login=login) is result


@pytest.mark.parametrize(
    ("condition", "given", "result"),
    [
        ("size > most[sasl_username]", {"size": 6, "login": "bob"}, True),
        ("size > most[sasl_username]", {"size": 5, "login": "bob"}, False),
        ("size > most[sasl_username]", {"size": 5, "login": "eve"}, False),
        ("size > most[sasl_username]", {"login": "bob"}, False),
        ("sender in senders[sasl_username]", {"sender": "bob@EXAMPLE.org", "login": "bob"}, True),
        ("sender in senders[sasl_username]", {"sender": "Sales@xn--bcher-kva.example", "login": "bob"}, True),
        ("sender in senders[sasl_username]", {"sender": "ann@example.org", "login": "bob"}, False),
        ("not sender in senders[sasl_username]", {"sender": "eve@example.org", "login": "eve"}, True),
        ("sender is senders[sasl_username]", {"sender": "Ann@example.org", "login": "ann"}, True),
        ("sender is not senders[sasl_username]", {"sender": "bob@example.org", "login": "ann"}, True),
        ("sender is not senders[sasl_username]", {"sender": "bob@example.org", "login": "eve"}, False),
        ("client_address in hosts[sasl_username]", {"client": "192.0.2.77", "login": "bob"}, True),
        ("client_address in hosts[sasl_username]", {"client": "203.0.113.9", "login": "bob"}, False),
        ("client_port in most[sasl_username]", {"client_port": 5, "login": "bob"}, True),
    ],
)
def test_a_fact_is_compared_with_what_stands_in_a_table(
    condition: str, given: dict[str, Any], result: bool
) -> None:
    """As the fact's type compares; `in` takes the words of a value one by one."""
    assert holds(condition, **given) is result


IN_ROLES = "roles[sasl_username]"
IN_HOSTS = "client_address in hosts[helo_name]"


@pytest.mark.parametrize(
    ("condition", "files", "message"),
    [
        ("most[sasl_username] < 5", {"most.csv": "bob,1\nann,many\n"}, r"most.csv:2: `many` is no number"),
        ("size < most[sasl_username]", {"most.csv": "bob,-1\n"}, r"most.csv:1: `-1` is no number"),
        (IN_HOSTS, {"hosts.csv": "x,192.0.2.1/24\n"}, r"hosts.csv:1: .* no networks"),
        ("client_address is hosts[helo_name]", {"hosts.csv": "x,here\n"}, r"hosts.csv:1: .* is no address"),
        (
            "sender_domain in hosts[helo_name]",
            {"hosts.csv": "x,a b..c\n"},
            r"hosts.csv:1: `b..c` is no domain",
        ),
        (
            "roles[sender_domain]",
            {"roles.csv": "a,b\nno domain,c\n"},
            r"roles.csv:2: `no domain` is no domain",
        ),
        ("roles[client_address]", {"roles.csv": "here,b\n"}, r"roles.csv:1: `here` is no network address"),
        (IN_ROLES, {"roles.csv": "Bob,a\nbob,b\n"}, r"roles.csv:2: `bob` stands in line 1 already"),
        (IN_ROLES, {"roles.csv": "bob\n"}, r"roles.csv:1: `bob` is no entry of a table"),
        (IN_ROLES, {"roles.csv": "bob,\n"}, r"roles.csv:1: `bob,` is no entry"),
        (IN_ROLES, {"roles.csv": "bob,a,b\n"}, r"(?s)is no entry of a table.*stands in quotes"),
        (IN_ROLES, {"roles.csv": 'bob,"a\n'}, r"is no entry of a table"),
        (IN_ROLES, {"roles.csv": f"bob,{'x' * MAX_LINE}\n"}, r"a line of more than 1000"),
        ("roles[spf]", {}, r"`spf` is a word"),
        ("rolls[sasl_username]", {}, r"(?s)there is no table `rolls`.*did you mean `roles`"),
        ("spf is roles[sasl_username]", {}, r"can only be compared with one of its words"),
        ('roles[recipient_count] is "x"', {}, r"`recipient_count` is not known at rcpt"),
        ("sasl_username < most[sasl_username]", {}, r"`<` is not for `sasl_username`"),
    ],
)
def test_a_mistake_is_told_in_its_line(condition: str, files: dict[str, str], message: str) -> None:
    """Of the table's file, or of the rules."""
    with pytest.raises(ConfigError, match=message):
        holds(condition, files)


def test_one_table_may_be_read_in_several_ways() -> None:
    """It has no type of its own: what is no limit matters only where it is used as one."""
    text = TABLES + at_rcpt(
        'a: reject "5.7.1 {roles[sasl_username]}" if roles[sasl_username] is "bulk"',
        "b: accept if roles[sender]",
    )
    rules_with(text, Outside(), FILES)

    with pytest.raises(ConfigError, match=r"roles.csv:2: `Bulk` is no limit"):
        rules_with(text + at_rcpt("c: limit roles[sasl_username] per sasl_username"), Outside(), FILES)


# distinct

LIMITED = 'table quotas = file "q.csv"\n' + at_rcpt("a: limit quotas[sasl_username] per sasl_username")
QUOTAS = (
    "bob,2 distinct recipient/hour\nann,3 distinct client_address / 48/15 minutes\neve,5 recipients/day\n"
)


def charges(login: str, rows: str = QUOTAS, **given: Any) -> tuple[Charge, ...]:
    """What a recipient is charged to."""
    rules = rules_with(LIMITED, Outside(), {"q.csv": rows})
    return rules.judge(moment(login=login, **given), [Stage.RCPT], IGNORE).charges


def test_a_row_may_count_distinct_values() -> None:
    """Each row the fact that it names, and an absent one is not counted."""
    (bob,) = charges("bob", recipient="x@example.net")
    assert bob.limit == Limit(2, Unit.DISTINCT, timedelta(hours=1))
    assert bob.member == charges("bob", recipient="X@example.net")[0].member
    assert bob.member != charges("bob", recipient="y@example.net")[0].member
    assert charges("bob") == ()

    (ann,) = charges("ann", client="2001:db8::1")
    assert ann.limit == Limit(3, Unit.DISTINCT, timedelta(minutes=15))
    assert ann.member == charges("ann", client="2001:db8:0:ffff::1")[0].member
    assert ann.member != charges("ann", client="2001:db8:1::1")[0].member
    assert charges("eve")[0].member is None


def test_a_row_that_counts_another_fact_counts_anew() -> None:
    """Addresses of yesterday are no recipients of today."""

    def key(row: str) -> bytes:
        return charges("bob", row, recipient="x@example.net")[0].key

    assert key("bob,2 distinct recipient/hour\n") != key("bob,2 distinct client_address/hour\n")
    assert key("bob,2 distinct recipient/hour\n") == key("bob,9 distinct recipient/hour\n")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("bob,5 distinct moon/hour", "unknown fact `moon`"),
        ("bob,5 distinct dkim_domains/hour", "`dkim_domains` is not known"),
        ("bob,5 distinct spf/hour", "`spf` cannot be counted by a table"),
        ("bob,10001 distinct recipient/hour", "`distinct` counts up to 10000"),
        ("bob,5 distinct recipient/64/hour", "is no network address and has no prefix"),
        ("bob,5 distinct/hour", "unknown unit `distinct`"),
    ],
)
def test_a_wrong_distinct_is_told_in_its_line(row: str, message: str) -> None:
    """Before any mail comes."""
    with pytest.raises(ConfigError, match=message) as caught:
        rules_with(LIMITED, Outside(), {"q.csv": f"# own\n{row}\n"})
    assert (caught.value.file, caught.value.place) == ("q.csv", "2")


# The form of the files


def test_a_comment_follows_white_space() -> None:
    """`bob#1` is a login of its own: to cut it would make it bob."""
    text = "# all\nbob#1\n  ann   # the boss\n\n#eve\n\teve\t#x\n"

    assert list(lines_of(Path("f"), text)) == [(2, "bob#1"), (3, "ann"), (6, "eve")]


def test_the_entries_of_a_file_are_bounded() -> None:
    """More would take a worker's memory."""
    with pytest.raises(ConfigError, match="more than 1000000 entries"):
        for _ in lines_of(Path("f"), "x\n" * (MAX_ENTRIES + 1)):
            pass


@given(st.text(st.characters(exclude_characters="\n"), max_size=40))
def test_any_line_is_an_entry_or_a_mistake(line: str) -> None:
    """Never another exception."""
    for number, entry in lines_of(Path("f"), line):
        try:
            key, value = _split(Path("f"), number, entry)
        except ConfigError:
            continue
        assert key
        assert value
