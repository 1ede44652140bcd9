"""What each action makes of its text, and that each is possible, or told to be impossible, at every door."""

from __future__ import annotations

import itertools

import pytest

from mailreeve_policyd.errors import ConfigError
from mailreeve_policyd.facts import Door
from mailreeve_policyd.rules.verbs import IMPOSSIBLE, Verb
from mailreeve_policyd.smtp import Stage
from mailreeve_policyd.verdict import Action
from tests.policyd.rules_text import at_rcpt, block, decide, moment, ruleset_of


@pytest.mark.parametrize(
    ("action", "reply"),
    [
        ("reject", "550 5.7.1 Refused by local policy (a)"),
        ("defer", "451 4.7.1 Deferred by local policy, please try again later (a)"),
        ('reject "No"', "550 5.7.1 No"),
        ('defer "Later"', "451 4.7.1 Later"),
        ('reject "5.7.26 No"', "550 5.7.26 No"),
        ('defer "4.2.2 Full"', "451 4.2.2 Full"),
        ('reject "5.7.1"', "550 5.7.1 Refused by local policy (a)"),
        ('reject "5 is too much"', "550 5.7.1 5 is too much"),
    ],
)
def test_a_refusal_has_a_code_an_enhanced_code_and_a_text(action: str, reply: str) -> None:
    """5.7.1 and 4.7.1 where the text has none of its own (RFC 3463)."""
    assert str(decide(at_rcpt(f"a: {action}"), moment()).reply) == reply


def test_a_client_is_refused_at_its_greeting_with_554() -> None:
    """The only 5xx code of a greeting (RFC 5321 section 4.3.2)."""
    verdict = decide(block(Stage.CONNECT, "a: reject"), moment(Stage.CONNECT))

    assert verdict.reply is not None
    assert verdict.reply.code == 554


@pytest.mark.parametrize("verb", ["accept", "permit", "discard", "hold"])
def test_what_lets_mail_in_has_no_reply(verb: str) -> None:
    """It decides, and names its rule."""
    verdict = decide(at_rcpt(f"a: {verb}"), moment())

    assert (verdict.action, verdict.rule, verdict.stage, verdict.reply) == (
        Action(verb),
        "a",
        Stage.RCPT,
        None,
    )


def test_hold_and_discard_may_say_why() -> None:
    """For the one who looks into the queue."""
    assert decide(at_rcpt('a: hold "from {sender}"'), moment(sender="ann@example.net")).reason == (
        "from ann@example.net"
    )
    assert decide(at_rcpt("a: discard"), moment()).reason is None


def test_add_header_and_warn_go_on() -> None:
    """What follows still decides; the warning names its rule."""
    verdict = decide(at_rcpt('a: warn "look at {sender}"', "b: warn", "c: accept"), moment())

    assert verdict.rule == "c"
    assert verdict.warnings == ("a: look at (none)", "b: applies")


ARGUMENTS = {
    Verb.ADD_HEADER: ' "X-Policy: yes"',
    Verb.REDIRECT: ' "abuse@example.org"',
    Verb.BCC: ' "archive@example.org"',
    Verb.FILTER: ' "smtp:[127.0.0.1]:10025"',
    Verb.NOTIFY: ' "look"',
}


@pytest.mark.parametrize(("door", "stage", "verb"), [*itertools.product(Door, Stage, Verb)])
def test_every_action_is_possible_at_every_stage_or_an_error_when_the_file_is_read(
    door: Door, stage: Stage, verb: Verb
) -> None:
    """What a door cannot do never waits for the first message to be found out."""
    text = block(stage, f"a: {verb.value}{ARGUMENTS.get(verb, '')}")
    if (door, stage, verb) in IMPOSSIBLE:
        with pytest.raises(ConfigError, match="impossible"):
            ruleset_of(text, {stage: door})
    else:
        assert ruleset_of(text, {stage: door}).rules[0].name == "a"
