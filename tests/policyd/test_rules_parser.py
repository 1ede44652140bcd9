"""What the grammar takes, and that nothing else than a Ruleset or a ConfigError ever comes of a text."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mailreeve_policyd.errors import ConfigError
from mailreeve_policyd.rules import Ruleset, load_ruleset, parse_ruleset
from mailreeve_policyd.rules.source import MAX_RULES_BYTES
from mailreeve_policyd.smtp import Stage
from tests.policyd.rules_text import SPLIT, at_rcpt, decide, moment, ruleset_of

WORDS = (
    *(
        "at",
        "rcpt",
        "end-of-message",
        "{",
        "}",
        "name:",
        "other:",
        "accept",
        "reject",
        "defer",
        "hold",
        "limit",
    ),
    *("60", "recipients", "messages", "/", "minute", "per", "sasl_username", "client_address", "distinct"),
    *(
        "else",
        "if",
        "and",
        "or",
        "not",
        "(",
        ")",
        "is",
        "in",
        "has",
        "under",
        "matches",
        "/a+/",
        "on-unknown",
    ),
    *("defer", "ignore", '"5.7.1 no"', '"example.org"', "192.0.2.0/24", "2001:db8::1", "spf", "fail", ","),
    *("set", "office", "=", "table", "file", '"x"', "expect", "with", "where", "after", "times", "[", "]"),
    *("\n", "#", "attribute", "<", "dkim_domains", "size", "add-header", '"X: {sender}"', "warn", "{sender}"),
)


def outcome(text: str) -> Ruleset | ConfigError:
    """What comes of a text; anything else that is raised fails the test."""
    try:
        return parse_ruleset(text, "rules", SPLIT, folder=Path("/nonexistent"))
    except ConfigError as error:
        return error


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(WORDS), max_size=40).map(" ".join))
def test_any_words_of_the_language_give_a_ruleset_or_a_config_error(text: str) -> None:
    """However its words are thrown together, the file is read or the mistake told."""
    assert str(outcome(text))


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(WORDS), max_size=25).map(" ".join))
def test_any_words_within_a_block_give_a_ruleset_or_a_config_error(text: str) -> None:
    """The same inside a block, behind a rule's name."""
    outcome(f"at rcpt {{ first: {text} }}")


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=200))
def test_any_text_gives_a_ruleset_or_a_config_error(text: str) -> None:
    """Whatever characters a file holds."""
    outcome(text)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(raw=st.binary(max_size=200))
def test_any_bytes_in_a_file_give_a_ruleset_or_a_config_error(raw: bytes, tmp_path: Path) -> None:
    """Whatever bytes a file holds."""
    file = tmp_path / "rules"
    file.write_bytes(raw)
    with suppress(ConfigError):
        load_ruleset(file, SPLIT)


@pytest.mark.parametrize(
    "text",
    [
        "(" * 100_000,
        at_rcpt("a: accept if " + "(" * 20_000 + "sender" + ")" * 20_000),
        at_rcpt("a: accept if " + "not " * 50_000 + "sender"),
        "{" * 100_000,
        '"' * 100_000,
        "/" * 100_000,
        "a:" * 50_000,
        "1." * 50_000,
        "at rcpt {" * 10_000,
        "#" + "x" * 500_000,
        at_rcpt("a: accept if sender " + "is " * 50_000),
        at_rcpt("a: accept if helo_name matches /" + "(a*)*" * 10_000 + "/"),
        "\0" * 100_000,
        " " * MAX_RULES_BYTES,
        "set a = " + ", ".join(['"x"'] * 20_000),
    ],
    ids=range(15),
)
def test_a_hostile_file_is_read_or_refused_within_seconds(text: str) -> None:
    """Depth and length cost time in proportion, and never the stack."""
    started = time.monotonic()
    outcome(text)
    assert time.monotonic() - started < 10


def test_a_condition_of_many_alternatives_is_no_depth() -> None:
    """`or` in a row is one level however long it is."""
    text = at_rcpt("a: accept if " + " or ".join(['sasl_username is "bob"'] * 1000))

    assert decide(text, moment(login="bob")).rule == "a"


def test_a_rule_ends_where_the_next_name_begins() -> None:
    """Lines mean nothing: several rules on one line, one rule on several."""
    text = 'at rcpt { a: accept if sender b: reject\n"5.7.1 no"\nif\nsasl_username c: warn }'

    assert [rule.name for rule in ruleset_of(text).rules] == ["a", "b", "c"]


def test_words_of_the_language_may_be_names() -> None:
    """What stands before a colon is a name, whatever it says."""
    text = at_rcpt("if: accept if sender", "limit: warn", "reject: reject", "else: hold")

    assert [rule.name for rule in ruleset_of(text).rules] == ["if", "limit", "reject", "else"]


def test_and_binds_closer_than_or_and_not_closest() -> None:
    """`a or b and not c` is `a or (b and (not c))`."""
    text = at_rcpt('a: accept if sasl_username is "ann" or sasl_username is "bob" and not sender')

    assert decide(text, moment(login="ann", sender="x@example.net")).rule == "a"
    assert decide(text, moment(login="bob", sender="x@example.net")).rule is None
    assert decide(text, moment(login="bob")).rule == "a"


def test_a_text_may_hold_quotes_backslashes_and_comment_signs() -> None:
    r"""Inside quotes `\"` is a quote, `\\` a backslash, and `#` begins no comment."""
    text = at_rcpt(r'a: hold "say \"#1\" \\ now"  # a comment')

    assert decide(text, moment()).reason == r'say "#1" \ now'


def test_several_blocks_of_one_stage_are_one() -> None:
    """In the order of the file."""
    text = at_rcpt("a: warn") + "at mail { b: warn }\n" + at_rcpt("c: warn")

    assert [rule.name for rule in ruleset_of(text).rules_at(Stage.RCPT)] == ["a", "c"]
    assert ruleset_of(text).stages == {Stage.MAIL, Stage.RCPT}


def test_an_empty_file_is_a_ruleset_that_decides_nothing() -> None:
    """No rules are rules too."""
    assert ruleset_of("# nothing yet\n").rules == ()
