"""What each action is at each stage, and how a reply's text goes over the wire."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailreeve_milter.answers import (
    ANSWERS,
    DEFERRED,
    MAX_REPLY_OCTETS,
    REFUSED,
    Answer,
    format_reply_text,
    respond,
)
from mailreeve_policyd.smtp import EnhancedStatus, Reply, Stage
from mailreeve_policyd.verdict import Action, Verdict


def reply(text: str, code: int = 550, kind: int = 5) -> Reply:
    return Reply(code, EnhancedStatus(kind, 7, 1), text)


def test_every_action_has_an_answer_at_every_stage() -> None:
    """No verdict can meet a stage that has no answer for it."""
    assert set(ANSWERS) == set(Stage)
    assert all(set(answers) == set(Action) for answers in ANSWERS.values())


@pytest.mark.parametrize("stage", Stage)
def test_only_a_refusal_refuses(stage: Stage) -> None:
    """REJECT and TEMPFAIL are said for reject and defer alone, and for what a milter cannot do."""
    answers = ANSWERS[stage]
    assert answers[Action.REJECT] is Answer.REJECT
    assert answers[Action.DEFER] is Answer.TEMPFAIL
    passing = [action for action in answers if not action.refuses and action is not Action.FILTER]
    others = {answers[action] for action in passing}
    assert others.isdisjoint((Answer.REJECT, Answer.TEMPFAIL))


@pytest.mark.parametrize("action", [Action.ACCEPT, Action.PERMIT])
def test_accept_hides_no_message_from_us(action: Action) -> None:
    """Before the end accept is CONTINUE, or the message would go on unsigned and uncleaned."""
    early = {answers[action] for stage, answers in ANSWERS.items() if stage is not Stage.END_OF_MESSAGE}
    assert early == {Answer.CONTINUE}
    assert ANSWERS[Stage.END_OF_MESSAGE][action] is Answer.ACCEPT


def test_discard_waits_for_a_message() -> None:
    """The protocol knows no DISCARD at connect and helo."""
    assert {stage for stage in Stage if ANSWERS[stage][Action.DISCARD] is Answer.CONTINUE} == {
        Stage.CONNECT,
        Stage.HELO,
    }


def test_a_verdicts_reply_goes_with_its_refusal() -> None:
    """The rule's own code and text are what the client gets."""
    own = reply("no")
    assert respond(Verdict(Action.REJECT, Stage.RCPT, reply=own)).reply is own


@pytest.mark.parametrize(
    ("action", "wrong", "instead"),
    [
        (Action.REJECT, None, REFUSED),
        (Action.REJECT, reply("later", 450, 4), REFUSED),
        (Action.REJECT, reply("mixed", 550, 4), REFUSED),
        (Action.DEFER, None, DEFERRED),
        (Action.DEFER, reply("never"), DEFERRED),
    ],
)
def test_a_reply_of_another_class_is_not_said(action: Action, wrong: Reply | None, instead: Reply) -> None:
    """It would be dropped by libmilter; ours says the same in the right class."""
    assert respond(Verdict(action, Stage.RCPT, reply=wrong)).reply == instead


@pytest.mark.parametrize(
    ("text", "wire"),
    [
        ("plain", "plain"),
        ("100% sure", "100%% sure"),
        ("line\r\n250 ok", "line\\x0d\\x0a250 ok"),
        ("Grüße", "Gr\\xfc\\xdfe"),
        ("already \\x0d escaped", "already \\x0d escaped"),
    ],
)
def test_reply_text_is_one_line_of_ascii(text: str, wire: str) -> None:
    """Percent signs are doubled, as libmilter demands; nothing else of a format is left."""
    assert format_reply_text(reply(text)) == wire


@given(st.text(max_size=3000))
@settings(max_examples=100, deadline=None)
def test_any_text_fits_a_reply_packet(text: str) -> None:
    """Whatever a rule's text came to: ASCII, no line end, all percent signs in pairs, bounded."""
    value = reply(text)
    wire = format_reply_text(value)
    assert wire.isascii()
    assert wire.isprintable()
    assert len(f"{value.code} {value.status} {wire}") <= MAX_REPLY_OCTETS
    assert "%" not in wire.replace("%%", "")


def test_a_text_of_percent_signs_alone_is_cut_between_pairs() -> None:
    """Doubling makes it twice as long; what is cut is no half of a pair."""
    assert format_reply_text(reply("%" * 979)).removesuffix("...").count("%") % 2 == 0
