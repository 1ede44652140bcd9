"""An MTA's connection without a socket: packets in, packets out."""

from __future__ import annotations

import logging
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mailreeve_milter.exchange import Exchange
from mailreeve_milter.protocol_words import (
    Abort,
    Body,
    Command,
    Connect,
    Data,
    EndOfHeaders,
    EndOfMessage,
    Event,
    Header,
    Helo,
    Macros,
    Mail,
    Negotiate,
    Quit,
    QuitForNew,
    Rcpt,
    Unknown,
)
from mailreeve_milter.store_elsewhere import StoreElsewhere
from mailreeve_milter.surroundings import Decider, Surroundings
from mailreeve_policyd.errors import ProtocolError
from mailreeve_policyd.facts import Door
from mailreeve_policyd.limits_memory import MemoryStore
from mailreeve_policyd.moderation import Moderation
from mailreeve_policyd.policy import Policy
from mailreeve_policyd.resolver import NotAtHandError, ZoneResolver
from mailreeve_policyd.rules.load import load_ruleset
from mailreeve_policyd.smtp import Stage
from mailreeve_policyd.transaction import Transaction
from mailreeve_policyd.verdict import Action, Verdict
from tests.milterd.milterpackets import encode, events, octets, packet
from tests.milterd.talking import ALL_STAGES, AT_THE_END, NOW, ZONE, Talk, make_talk
from tests.policyd.limit_stores import SECOND, HandClock

OFFER = Negotiate(6, 0x1FF, 0x1FFFFF)
OLD_OFFER = Negotiate(2, 0x3F, 0x7F)
CLIENT = Connect("mail.example.net", "192.0.2.1", 40000)
ENVELOPE: tuple[Event, ...] = (Mail("<bob@example.net>", ()), Rcpt("<alice@example.org>", ()))
MESSAGE: tuple[Event, ...] = (Header(b"From", b" bob@example.net"), EndOfHeaders(), Body(b"hello\r\n"))
SESSION: tuple[Event, ...] = (OFFER, CLIENT, Helo("mail.example.net"))
CONTINUE = packet(ord("c"))
FAILED = packet(ord("y"), b"451 4.3.0 Mail filter failure, please try again later\0")


def say(exchange: Exchange, *events: Event) -> bytes:
    """What comes back; what has to wait is done at once."""
    exchange.receive(b"".join(encode(event) for event in events))
    job = exchange.advance()
    while job is not None:
        job()
        job = exchange.advance()
    return exchange.take_output()


def commands(octets: bytes) -> str:
    """The letters of the packets."""
    letters = ""
    while octets:
        end = 4 + int.from_bytes(octets[:4], "big")
        letters += chr(octets[4])
        octets = octets[end:]
    return letters


@pytest.fixture
def talk(tmp_path: Path) -> Talk:
    return make_talk(tmp_path)


def test_a_message_is_answered_once_and_in_one_piece(talk: Talk) -> None:
    """Steps that nobody decides get no answer; the end gets the field and "continue" together."""
    exchange = Exchange(talk.surroundings)

    assert commands(say(exchange, *SESSION)) == "O"
    assert say(exchange, *ENVELOPE, *MESSAGE) == b""
    assert commands(say(exchange, EndOfMessage(b""))) == "ic"
    assert talk.records[-1]["client"]["address"] == "192.0.2.1"


def test_an_old_mta_gets_an_answer_to_every_step(talk: Talk) -> None:
    """Version 2 knows no silence; the space after the colon is its own, both ways."""
    exchange = Exchange(talk.surroundings)
    say(exchange, OLD_OFFER)

    steps = (CLIENT, Helo("mail.example.net"), *ENVELOPE, *MESSAGE, Unknown())
    told = [say(exchange, step) for step in steps]
    end = say(exchange, EndOfMessage(b""))
    assert told == [CONTINUE] * 8
    assert b"\0Authentication-Results\0mx.example.org;" in end


def test_the_end_may_bring_the_last_of_the_body(talk: Talk) -> None:
    """It counts as the body does."""
    exchange = Exchange(talk.surroundings)
    say(exchange, *SESSION, *ENVELOPE, *MESSAGE, EndOfMessage(b"bye\r\n"))

    assert talk.records[-1]["size"] == len("From: bob@example.net\r\n\r\nhello\r\nbye\r\n")


@pytest.mark.parametrize("first", [CLIENT, Header(b"From", b" bob@example.net"), EndOfMessage(b""), Quit()])
def test_an_mta_that_does_not_negotiate_first_is_refused(talk: Talk, first: Event) -> None:
    """Nothing is known of what it understands."""
    with pytest.raises(ProtocolError):
        say(Exchange(talk.surroundings), first)


def test_an_mta_negotiates_once(talk: Talk) -> None:
    """A second offer is no part of the protocol."""
    with pytest.raises(ProtocolError):
        say(Exchange(talk.surroundings), OFFER, OFFER)


@pytest.mark.parametrize("event", [*MESSAGE, Data(), EndOfMessage(b""), ENVELOPE[1]])
def test_steps_without_mail_are_deferred_at_the_end(talk: Talk, event: Event) -> None:
    """An MTA out of turn: no mail passes, and the session goes on with the next message."""
    exchange = Exchange(talk.surroundings)
    say(exchange, *SESSION, event)

    assert say(exchange, *ENVELOPE, *MESSAGE, EndOfMessage(b"")) == FAILED


def test_the_client_must_be_known(talk: Talk, caplog: pytest.LogCaptureFixture) -> None:
    """Without CONNECT and without a macro nobody is taken for a local user."""
    exchange = Exchange(talk.surroundings)

    say(exchange, OFFER)
    assert say(exchange, *ENVELOPE, *MESSAGE, EndOfMessage(b"")) == FAILED
    assert "the MTA did not say who the client is" in caplog.text


def test_a_macro_may_say_who_the_client_is(talk: Talk) -> None:
    """Where the MTA does not send CONNECT."""
    exchange = Exchange(talk.surroundings)
    macros = Macros(Command.HELO, {"{client_addr}": "192.0.2.1"})
    say(exchange, OFFER, macros, Helo("mail.example.net"), *ENVELOPE, *MESSAGE, EndOfMessage(b""))

    assert talk.records[-1]["client"]["address"] == "192.0.2.1"


def test_another_session_on_the_same_connection_is_another(talk: Talk) -> None:
    """QUIT_NC: no login and no client is left, and nothing is negotiated again."""
    exchange = Exchange(talk.surroundings)
    login = Macros(Command.MAIL, {"{auth_authen}": "bob"})
    say(exchange, *SESSION, login, *ENVELOPE, *MESSAGE, EndOfMessage(b""), Abort(), QuitForNew())
    say(exchange, CLIENT, *ENVELOPE, *MESSAGE, EndOfMessage(b""))

    assert [record.get("login") for record in talk.records] == ["bob", None]


def test_what_follows_a_quit_is_not_looked_at(talk: Talk) -> None:
    """The connection is over."""
    exchange = Exchange(talk.surroundings)

    assert commands(say(exchange, *SESSION, Quit(), *ENVELOPE, *MESSAGE, EndOfMessage(b""))) == "O"
    assert exchange.is_over


class Breaking:
    """A policy with a bug."""

    def decide(self, transaction: Transaction, stages: tuple[Stage, ...]) -> Verdict:
        raise ZeroDivisionError


def with_policy(talk: Talk, policy: Decider, stages: frozenset[Stage] = AT_THE_END) -> Surroundings:
    return replace(talk.surroundings, policy=policy, stages=stages)


def test_a_bug_defers_the_message_and_is_logged(talk: Talk, caplog: pytest.LogCaptureFixture) -> None:
    """The client learns nothing of it; the record says so; the next message is none the worse."""
    exchange = Exchange(with_policy(talk, Breaking()))
    queue_id = Macros(Command.END_OF_MESSAGE, {"i": "4B1"})

    say(exchange, *SESSION)
    assert say(exchange, *ENVELOPE, *MESSAGE, queue_id, EndOfMessage(b"")) == FAILED
    assert "4B1: an error inside the milter" in caplog.text
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert "error" in talk.records[-1]


def test_a_bug_where_the_mta_waits_is_answered_there(talk: Talk) -> None:
    """At RCPT, which is decided here: that recipient comes again later."""
    exchange = Exchange(with_policy(talk, Breaking(), stages=ALL_STAGES))
    say(exchange, *SESSION, ENVELOPE[0])

    assert say(exchange, ENVELOPE[1]) == FAILED


class Waiting:
    """A policy whose evidence is not at hand at first, as DNS makes it in the loop's thread."""

    def __init__(self) -> None:
        self.asked = 0

    def decide(self, transaction: Transaction, stages: tuple[Stage, ...]) -> Verdict:
        self.asked += 1
        if self.asked == 1:
            raise NotAtHandError
        return Verdict(Action.CONTINUE, stages[0])


def test_a_step_that_has_to_wait_is_given_back(talk: Talk) -> None:
    """Nothing was said and nothing recorded; done elsewhere it comes to the same."""
    exchange = Exchange(with_policy(talk, Waiting()))
    say(exchange, *SESSION, *ENVELOPE, *MESSAGE)
    exchange.receive(encode(EndOfMessage(b"")) + encode(Abort()))
    job = exchange.advance()

    assert job is not None
    assert exchange.ends_message
    assert (exchange.take_output(), talk.records) == (b"", [])
    job()
    assert commands(exchange.take_output()) == "ic"
    assert len(talk.records) == 1
    assert exchange.advance() is None
    assert not exchange.ends_message


def test_what_was_found_out_is_not_asked_again_in_a_thread(talk: Talk) -> None:
    """The decision had to wait: the evidence is there, and so is the time that it took."""
    resolver = ZoneResolver(ZONE)
    examiner = replace(talk.surroundings.examiner, resolver=lambda _transaction: resolver)
    exchange = Exchange(replace(with_policy(talk, Waiting()), examiner=examiner))
    exchange.receive(b"".join(encode(event) for event in (*SESSION, *ENVELOPE, *MESSAGE, EndOfMessage(b""))))
    job = exchange.advance()
    asked = resolver.count()

    assert job is not None
    assert asked > 0
    job()
    assert resolver.count() == asked
    assert talk.records[-1]["spent_ms"]["evidence"] > 0


@pytest.mark.parametrize("stage", [Stage.RCPT, Stage.END_OF_MESSAGE])
def test_a_step_whose_rules_ask_live_sets_is_always_given_back(talk: Talk, stage: Stage) -> None:
    """Redis may be slow to say what is in them."""
    surroundings = replace(talk.surroundings, stages=ALL_STAGES, waiting=frozenset({stage}))
    exchange = Exchange(surroundings)
    exchange.receive(b"".join(encode(event) for event in (*SESSION, *ENVELOPE, *MESSAGE, EndOfMessage(b""))))

    assert exchange.advance() is not None
    assert exchange.ends_message is (stage is Stage.END_OF_MESSAGE)


LIMITED = """
at rcpt { few: limit 2 recipients/day per sasl_username }
at end-of-message { one: limit 1 message/day per sasl_username else defer "4.7.1 enough" }
"""
LOGIN = Macros(Command.MAIL, {"{auth_authen}": "bob"})


def test_only_what_is_counted_is_given_back(tmp_path: Path) -> None:
    """A stranger's message passes at once; that of a user is counted once a step, in whatever thread."""
    talk = make_talk(tmp_path, LIMITED, ALL_STAGES)
    store = StoreElsewhere(MemoryStore(NOW.timestamp))
    store.never_wait_in(threading.get_ident())
    doors = dict.fromkeys(ALL_STAGES, Door.MILTER)
    policy = Policy(load_ruleset(tmp_path / "rules", doors), store, Door.MILTER)
    exchange = Exchange(with_policy(talk, policy, ALL_STAGES))
    message = (*ENVELOPE, *MESSAGE, EndOfMessage(b""))

    assert held_elsewhere(exchange, *SESSION, *message) == 0
    assert [held_elsewhere(exchange, LOGIN, *message) for _ in range(2)] == [2, 2]
    counted = [
        (limit["rule"], limit["used"]) for record in talk.records for limit in record.get("limits", ())
    ]
    assert counted == [("few", 1), ("one", 1), ("few", 2), ("one", 1)]
    assert [record["verdict"]["action"] for record in talk.records[-2:]] == ["continue", "defer"]


def held_elsewhere(exchange: Exchange, *events: Event) -> int:
    """How many steps had to be done in another thread."""
    exchange.receive(b"".join(encode(event) for event in events))
    count = 0
    while (job := exchange.advance()) is not None:
        thread = threading.Thread(target=job)
        thread.start()
        thread.join()
        count += 1
    return count


ORDERLY = (*SESSION, *ENVELOPE, *MESSAGE, EndOfMessage(b""), Abort(), QuitForNew())
conversations = st.lists(
    st.one_of(
        st.sampled_from(ORDERLY).map(encode),
        st.just(b"".join(map(encode, (*ENVELOPE, *MESSAGE[:1] * 3, *MESSAGE, EndOfMessage(b""))))),
        st.builds(Header, st.just(b"X"), octets).map(encode),
        st.builds(packet, st.just(Command.HEADER), st.binary(max_size=4)),
        events.map(encode),
    ),
    max_size=12,
)

VOLATILE = {"time", "spent_ms", "instance"}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    offer=st.sampled_from([OFFER, OLD_OFFER, Negotiate(6, 0x1FF, 0xFFFFF), Negotiate(6, 0x1FF, 0x100000)]),
    said=conversations,
    places=st.lists(st.integers(0, 2000), max_size=8),
)
def test_any_conversation_comes_to_the_same_wherever_it_is_cut(
    talk: Talk, offer: Negotiate, said: list[bytes], places: list[int]
) -> None:
    """Malformed packets included: the same answers, the same record, and the same end."""
    octets = encode(offer) + b"".join(map(encode, SESSION[1:])) + b"".join(said)
    ends = sorted({place % (len(octets) + 1) for place in places})
    pieces = [octets[start:end] for start, end in zip([0, *ends], [*ends, len(octets)], strict=True)]
    whole = hold(talk, [octets])

    assert hold(talk, pieces) == whole
    assert hold(talk, [octets[place : place + 1] for place in range(len(octets))]) == whole


def hold(talk: Talk, pieces: list[bytes]) -> tuple[bytes, list[dict[str, Any]], str | None]:
    """What comes back, what is recorded of each message, and what ended it."""
    exchange, before, told, problem = Exchange(talk.surroundings), len(talk.records), b"", None
    try:
        for piece in pieces:
            exchange.receive(piece)
            while (job := exchange.advance()) is not None:
                job()
            told += exchange.take_output()
    except ProtocolError as error:
        told += exchange.take_output()
        problem = str(error)
    volatile = ("time", "spent_ms", "instance")
    records = [
        {key: said for key, said in one.items() if key not in volatile} for one in talk.records[before:]
    ]
    return told, records, problem


def failures_told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records]


def test_an_mta_that_speaks_out_of_turn_is_told_of_once_a_session(
    talk: Talk, caplog: pytest.LogCaptureFixture
) -> None:
    """However many header fields and recipients it sends before MAIL."""
    exchange = Exchange(talk.surroundings)
    say(exchange, *SESSION, *[Header(b"X", b"y")] * 50, *[Rcpt("<alice@example.org>", ())] * 50)

    assert failures_told(caplog) == [
        "no queue id: the MTA breaks the milter protocol: the MTA speaks of a message before MAIL"
    ]


def test_breaches_of_many_sessions_are_told_a_few_times_a_minute(
    talk: Talk, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever breaks the protocol in each of its sessions fills no log; later it says how many there were."""
    clock = HandClock()
    exchange = Exchange(replace(talk.surroundings, breaches=Moderation(2, clock)))
    say(exchange, OFFER)
    breach = (QuitForNew(), CLIENT, Header(b"X", b"y"))
    say(exchange, *breach * 30)
    clock.advance(60 * SECOND)
    say(exchange, *breach)

    told = failures_told(caplog)
    assert len(told) == 4
    assert told[2] == "MTAs broke the milter protocol 28 more times, not told here"


def test_a_bug_is_told_of_once_a_message(talk: Talk, caplog: pytest.LogCaptureFixture) -> None:
    """With its traceback; that every further field fails, too, says nothing new."""

    class Stumbling:
        def collect(self, _session: object) -> Any:
            return self

        def add(self, _name: bytes, _value: bytes) -> None:
            raise RuntimeError("a bug")

    exchange = Exchange(replace(talk.surroundings, examiner=cast(Any, Stumbling())))
    say(exchange, *SESSION)
    for _ in range(2):
        say(exchange, Mail("<bob@example.net>", ()), *[Header(b"X", b"y")] * 20, Abort())

    assert failures_told(caplog) == ["no queue id: an error inside the milter, its mail is deferred"] * 2
