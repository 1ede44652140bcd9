"""What a filter answers, octet for octet, as an MTA reads it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailreeve_milter.protocol_reply import (
    ReplyCommand,
    agree,
    format_added_recipient,
    format_agreement,
    format_insert,
    format_packet,
    format_quarantine,
    format_removal,
    format_removed_recipient,
    format_reply,
)
from mailreeve_milter.protocol_words import ActionFlag, MacroPlace, Negotiate, StepFlag
from mailreeve_policyd.errors import ProtocolError

NEEDED = ActionFlag.ADD_HEADERS


@pytest.mark.parametrize(
    ("packet", "wire"),
    [
        (format_packet(ReplyCommand.CONTINUE), b"\0\0\0\1c"),
        (format_packet(ReplyCommand.SKIP), b"\0\0\0\1s"),
        (format_packet(ReplyCommand.PROGRESS), b"\0\0\0\1p"),
        (format_reply(550, "5.7.1", ["No"]), b"\0\0\0\x0ey550 5.7.1 No\0"),
        (format_reply(451, "4.7.1", ["a", "b"]), b"\0\0\0\x1ay451-4.7.1 a\r\n451 4.7.1 b\0"),
        (format_insert(0, b"X-A", b" b\n c"), b"\0\0\0\x0fi\0\0\0\0X-A\0 b\n c\0"),
        (format_removal(b"X-A", 2), b"\0\0\0\x0am\0\0\0\2X-A\0\0"),
        (format_quarantine(b"why"), b"\0\0\0\5qwhy\0"),
        (format_added_recipient(b"a@b"), b"\0\0\0\7+<a@b>\0"),
        (format_removed_recipient(b"a@b"), b"\0\0\0\7-<a@b>\0"),
    ],
)
def test_each_answer_has_its_form(packet: bytes, wire: bytes) -> None:
    """A length, a letter, texts that end in NUL; a reply of several lines as SMTP writes it."""
    assert packet == wire


def test_a_nul_in_a_text_is_a_bug() -> None:
    """It would end the text early, and an MTA would read something else."""
    with pytest.raises(ValueError, match="NUL"):
        format_insert(0, b"X-A", b"a\0b")


@given(st.integers(2, 200), st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1))
def test_nothing_is_agreed_that_was_not_offered(version: int, actions: int, steps: int) -> None:
    """Whatever the MTA offers, flags that nobody knows included; and what is needed is always there."""
    wanted = ActionFlag.QUARANTINE | ActionFlag.SET_MACROS
    offer = Negotiate(version, actions | NEEDED, steps)
    agreed = agree(offer, NEEDED, wanted, StepFlag(0x1FFFFF))

    assert agreed.version == min(version, 6)
    assert agreed.actions & NEEDED
    assert not agreed.actions & ~offer.actions
    assert not agreed.actions & ~(NEEDED | wanted)
    assert agreed.steps == steps & 0x1FFFFF


@pytest.mark.parametrize("offer", [Negotiate(1, 0x1FF, 0), Negotiate(6, 0x1FE, 0x1FFFFF)])
def test_an_mta_that_cannot_do_what_is_needed_is_refused(offer: Negotiate) -> None:
    """One that is too old, and one that lets nobody add a field."""
    with pytest.raises(ProtocolError):
        agree(offer, NEEDED, ActionFlag(0), StepFlag(0))


def test_macros_are_asked_for_only_where_that_was_agreed() -> None:
    """By place, names with spaces between."""
    macros = {MacroPlace.CONNECT: ("{client_addr}", "j"), MacroPlace.END_OF_MESSAGE: ("i",)}
    able = agree(Negotiate(6, 0x1FF, 0), NEEDED, ActionFlag.SET_MACROS, StepFlag(0))
    unable = agree(Negotiate(6, 0x0FF, 0), NEEDED, ActionFlag.SET_MACROS, StepFlag(0))

    asked = b"\0\0\0\0{client_addr} j\0" + b"\0\0\0\5i\0"
    assert format_agreement(able, macros).endswith(asked)
    assert format_agreement(unable, macros) == b"\0\0\0\x0dO\0\0\0\6\0\0\0\1\0\0\0\0"
