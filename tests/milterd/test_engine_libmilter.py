"""What libmilter's callbacks tell of bounds. What both engines do is in test_engines.py."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import Milter
import pytest

from mailreeve_milter.connection_bounds import ConnectionBounds
from mailreeve_milter.engine_libmilter import Callbacks
from mailreeve_policyd.moderation import Moderation
from tests.milterd.talking import Talk, make_talk
from tests.policyd.limit_stores import SECOND, HandClock


class Line:
    """One connection as pymilter shows it, without an MTA: macros that nobody sent, and what is kept."""

    def __init__(self) -> None:
        self.kept: Any = None
        self.reply: tuple[str, str, str] | None = None

    def getpriv(self) -> Any:
        return self.kept

    def setpriv(self, private: object) -> object:
        self.kept = private
        return None

    def getsymval(self, _name: str) -> str | None:
        return None

    def setsymlist(self, stage: int, names: str) -> None:
        """Nobody sends any."""

    def setreply(self, code: str, status: str, text: str) -> None:
        self.reply = code, status, text

    def addheader(self, name: str, value: str, index: int) -> None:
        """No message is changed here."""

    def chgheader(self, name: str, occurrence: int, value: str | None) -> None:
        """Nor here."""

    def addrcpt(self, recipient: str) -> None:
        """Nor here."""

    def delrcpt(self, recipient: str) -> None:
        """Nor here."""

    def quarantine(self, reason: str) -> None:
        """Nor here."""


def negotiate(callbacks: Callbacks, line: Line, actions: int = 0x1FF) -> int:
    return callbacks.negotiate(line, [actions, 0x1FFFFF, 0, 0])


@pytest.fixture
def talk(tmp_path: Path) -> Talk:
    return make_talk(tmp_path)


def test_connections_beyond_the_bound_are_refused_and_recorded(
    talk: Talk, caplog: pytest.LogCaptureFixture
) -> None:
    """Libmilter has accepted them: they are closed, and taken again when another one has ended."""
    callbacks = Callbacks(replace(talk.surroundings, bounds=ConnectionBounds(most=2)))
    first, second, third = Line(), Line(), Line()

    assert [negotiate(callbacks, line) for line in (first, second, third)] == [
        Milter.CONTINUE,
        Milter.CONTINUE,
        Milter.REJECT,
    ]
    callbacks.close(third)
    assert callbacks.open_connections == 2
    callbacks.close(first)
    assert negotiate(callbacks, third) == Milter.CONTINUE

    (told,) = talk.records
    assert (told["bound"], told["maximum"], told["consequence"]) == ("milter.max_connections", 2, "closed")
    assert "all 2 connections (milter.max_connections) are taken: a further one was refused" in caplog.text


def test_a_connection_that_libmilter_closes_in_its_silence_is_recorded(talk: Talk) -> None:
    """With its client; one that ends before, or has spoken meanwhile, is not."""
    clock = HandClock()
    callbacks = Callbacks(
        replace(talk.surroundings, stopwatch=clock, bounds=ConnectionBounds(idle_seconds=100.0))
    )
    for waits, speaks in ((99, False), (150, True), (100, False)):
        line = Line()
        negotiate(callbacks, line)
        callbacks.connect(line, "mail.example.net", 2, ("192.0.2.1", 40000))
        clock.advance(waits * SECOND)
        if speaks:
            callbacks.helo(line, "mail.example.net")
        callbacks.close(line)

    (told,) = talk.records
    assert (told["bound"], told["maximum"], told["consequence"]) == (
        "milter.idle_timeout_seconds",
        100,
        "closed",
    )
    assert told["reason"] == "it said nothing for 100 seconds"
    assert told["client"] == {"address": "192.0.2.1"}


def test_an_mta_that_offers_too_little_fills_no_log(talk: Talk, caplog: pytest.LogCaptureFixture) -> None:
    """It comes again with each mail: so many lines a minute."""
    callbacks = Callbacks(replace(talk.surroundings, breaches=Moderation(2, HandClock())))
    answers = [negotiate(callbacks, Line(), actions=0) for _ in range(20)]

    assert answers == [Milter.REJECT] * 20
    assert len(caplog.records) == 2


def test_an_mta_that_speaks_out_of_turn_is_told_of_once_a_session(
    talk: Talk, caplog: pytest.LogCaptureFixture
) -> None:
    """However many recipients it sends before MAIL."""
    callbacks, line = Callbacks(talk.surroundings), Line()
    negotiate(callbacks, line)
    for _ in range(50):
        callbacks.rcpt(line, b"<alice@example.org>")

    assert [record.getMessage() for record in caplog.records] == [
        "no queue id: the MTA breaks the milter protocol: the MTA speaks of a message before MAIL"
    ]
    assert line.reply is not None
    assert line.reply[:2] == ("451", "4.3.0")
