"""What `rules check` advises: what is right, but perhaps not meant, each with its place."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from mailreeve_policyd.facts import Door
from mailreeve_policyd.rules import parse_ruleset
from mailreeve_policyd.rules.outside import Outside
from mailreeve_policyd.smtp import Stage
from tests.policyd.rules_text import POLICY_ALONE, SPLIT, at_rcpt, block, ruleset_of

EOM = Stage.END_OF_MESSAGE
FILES = {"vip.txt": "# nobody yet\n", "roles.csv": "bob,chief\n"}


def advice(text: str, doors: Mapping[Stage, Door] = SPLIT) -> list[str]:
    """The first line of each note."""
    return [note.split("\n")[0] for note in ruleset_of(text, doors, FILES).notes]


@pytest.mark.parametrize(
    ("rule", "told"),
    [
        ("spf is fail and spf is none", "rules:2:32: this can never hold: what it says of `spf` contradicts"),
        ("spf in (fail, none) and spf is pass", "`spf`"),
        ("spf is fail and spf is not fail", "`spf`"),
        ("spf is not fail and spf in (fail)", "`spf`"),
        ('sender is "a@example.org" and sender is "b@example.org"', "`sender`"),
        ('sender is "a@example.org" and not sender is "A@example.org"', "`sender`"),
        ("sasl_username and not sasl_username", "`sasl_username`"),
        ('not sender and sender_domain is "x.example" and sender', "`sender`"),
        ("size > 10 and size < 5", "`size`"),
        ("size >= 10 and size <= 9", "`size`"),
        ("client_port in (25, 465) and client_port is 587", "`client_port`"),
        ("(spf is fail and spf is none) or (size > 5 and size < 5)", "`spf`"),
    ],
)
def test_a_condition_that_can_never_hold_is_told(rule: str, told: str) -> None:
    """A fact that would have to be two things, or there and absent, in every alternative."""
    [note] = advice(at_rcpt(f"a: warn if {rule}"))

    assert "this can never hold" in note
    assert told in note


@pytest.mark.parametrize(
    "rule",
    [
        "spf is fail or spf is none",
        "spf in (fail, none) and spf is fail",
        "spf is not fail and spf is not none",
        "(spf is fail and spf is none) or size > 5",
        "size > 5 and size < 10",
        "not spf is fail and not spf is pass",
        'not sender is "a@example.org" and sender is "b@example.org"',
        'sender_domain under "example.org" and sender_domain is not "example.org"',
        "client_address in 192.0.2.0/24 and client_address is 192.0.2.1",
        'attribute("a") is "x" and attribute("b") is "y"',
    ],
)
def test_a_condition_that_may_hold_is_not_noted(rule: str) -> None:
    """What cannot be seen from its form is left alone."""
    assert advice(at_rcpt(f"a: warn if {rule}")) == []


def test_what_stands_below_a_rule_that_always_decides_is_never_reached() -> None:
    """In its stage, whichever block it stands in; a limit or a rule under observe ends nothing."""
    text = at_rcpt("observe o: reject", "a: accept", "b: warn") + at_rcpt("c: warn") + block(EOM, "d: warn")

    assert advice(text) == ["rules:4:5: `b` is never reached", "rules:7:5: `c` is never reached"]
    assert "`a` in line 3 ends the block" in ruleset_of(text).notes[0]


def test_what_nobody_uses_is_told() -> None:
    """Sets, tables and texts; one that is used in a text or for the language is used."""
    text = (
        'set used = "a"\nset idle = "b"\ntable roles = file "roles.csv"\ntable rolls = file "roles.csv"\n'
        'text "cited" { en "{roles[sasl_username]}" }\ntext "lost" { en "x" }\n'
        + at_rcpt("a: accept if helo_name in used", 'b: warn text "cited"')
    )

    assert advice(text) == [
        "rules:2:5: `idle` is never used",
        "rules:4:7: `rolls` is never used",
        "rules:6:6: the text `lost` is never used",
    ]


def test_an_empty_set_is_told() -> None:
    """A file without entries, perhaps not yet filled."""
    text = 'set vip = file "vip.txt"\n' + at_rcpt("a: accept if sasl_username in vip")

    assert advice(text) == ["rules:3:35: the set `vip` is empty: nothing is in it"]


def test_a_limit_that_counts_by_what_is_absent_never_counts() -> None:
    """Its condition says so itself."""
    text = at_rcpt("a: limit 5 recipients/day per sasl_username if not sasl_username")

    assert advice(text) == ["rules:2:35: `a` never counts anything"]


def test_a_recipient_is_no_key_where_there_may_be_several() -> None:
    """From data on; the note says where it is one."""
    text = block(Stage.DATA, "a: limit 5 recipients/day per recipient")

    assert any("absent at data where a message has several" in note for note in advice(text))


def test_messages_are_better_counted_where_they_are_there() -> None:
    """By the milter, if it decides the end; not for strangers, who are better stopped early."""
    early = at_rcpt("a: limit 5 messages/day per sasl_username if sasl_username")
    strangers = at_rcpt("a: limit 5 messages/day per client_address if not sasl_username")

    assert len(advice(early)) == 1
    assert advice(early)[0].startswith("rules:2:14: messages are counted at rcpt")
    assert advice(early, POLICY_ALONE) == []
    assert advice(strangers) == []


def test_a_fact_that_nobody_finds_out_is_told() -> None:
    """Such as the ARC chain where [arc] does not verify."""
    outside = Outside(unfound={"arc": "write verify = true under [arc] in mailreeve.toml"})
    ruleset = parse_ruleset(block(EOM, "a: accept if arc is pass"), "rules", SPLIT, outside=outside)

    [note] = ruleset.notes
    assert note == (
        "rules:2:18: `arc` is never found out here\n"
        "        a: accept if arc is pass\n"
        "                     ^\n"
        "  hint: write verify = true under [arc] in mailreeve.toml"
    )


def test_a_needless_spoofable_is_told() -> None:
    """Where nobody could use up what is another's."""
    text = at_rcpt("a: limit 5 recipients/day per sender spoofable if sender and sasl_username")

    assert advice(text) == ["rules:2:42: `spoofable` changes nothing here"]
