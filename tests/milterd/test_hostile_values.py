"""Nothing that an MTA passes on of a stranger reaches a packet, a line, a key or a notice unescaped."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from struct import Struct

import pytest

from mailreeve_milter.answers import MAX_REPLY_OCTETS
from mailreeve_milter.exchange import Exchange
from mailreeve_milter.outcome_packets import MAX_QUARANTINE_CHARACTERS
from mailreeve_milter.protocol_words import (
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
    Rcpt,
)
from mailreeve_milter.session import WANTED_MACROS
from mailreeve_milter.surroundings import Surroundings
from mailreeve_policyd.audit import AuditLog
from mailreeve_policyd.errors import ProtocolError
from mailreeve_policyd.escape import decode_wire
from mailreeve_policyd.facts import FACTS, Door
from mailreeve_policyd.policy import Policy
from mailreeve_policyd.rules import parse_ruleset
from mailreeve_policyd.smtp import Stage
from mailreeve_policyd.transaction import Transaction
from mailreeve_policyd.verdict import Verdict
from tests.fuzz.hostile import POISONS, CheckingStore, Lines, check_log, check_notices, check_text
from tests.milterd.milterpackets import encode
from tests.milterd.talking import make_talk

KNOWN = sorted(
    name
    for name, fact in FACTS.items()
    if Door.MILTER in fact.known_from and name not in ("client_country", "client_asn")
)
LISTS = {"dkim_domains"}
ENDINGS = ("reject", "defer", "hold", "discard", "add", "count")
PLACES = (b"{}", b"{}@example.net", b"bob@{}")
HEADERS = (
    b"From",
    b"Message-ID",
    b"Subject",
    b"DKIM-Signature",
    b"Authentication-Results",
    b"Received-SPF",
    b"ARC-Seal",
    b"Received",
)
SIGNATURE = b" v=1; a=rsa-sha256; d=%s; s=%s; i=%s; h=from; bh=%s; b=%s; q=%s; c=%s"
_COMMANDS = {
    Stage.CONNECT: Command.CONNECT,
    Stage.HELO: Command.HELO,
    Stage.MAIL: Command.MAIL,
    Stage.END_OF_MESSAGE: Command.END_OF_MESSAGE,
}
_HEAD = Struct("!IB")
_FOLD = re.compile(r"\r?\n(?=[ \t])")


def rules_for(fact: str) -> str:
    """Rules that put a fact wherever one can stand, the ending chosen by the client's port."""
    key = "client_address" if fact in LISTS else fact
    limit = f'limit 1 messages/day per {key}, client_network warn at 50% "{{{fact}}}"'
    return f"""
        at end-of-message {{
            told:    warn "{{{fact}}}"
            noted:   notify "{{{fact}}}"
            counted: {limit} else defer "4.7.1 {{{fact}}}" if client_port is 6
            refused: reject "5.7.1 {{{fact}}}" if client_port is 1
            late:    defer "4.7.1 {{{fact}}}" if client_port is 2
            held:    hold "{{{fact}}}" if client_port is 3
            lost:    discard "{{{fact}}}" if client_port is 4
            added:   add-header "X-Fact: {{{fact}}}" if client_port is 5
        }}
    """


class Listening(Policy):
    """The policy, whose notices are looked at."""

    def decide(self, transaction: Transaction, stages: tuple[Stage, ...]) -> Verdict:  # type: ignore[override]
        verdict = super().decide(transaction, stages)
        check_notices(verdict, transaction)
        return verdict


def surroundings_for(fact: str, folder: Path, lines: Lines) -> Surroundings:
    """Everything in memory, looking at what it is given."""
    ruleset = parse_ruleset(rules_for(fact), "rules", {Stage.END_OF_MESSAGE: Door.MILTER})
    return replace(
        make_talk(folder, received_spf=True).surroundings,
        policy=Listening(ruleset, CheckingStore(lambda: 1e9), Door.MILTER),
        audit=AuditLog("milter", lines),
        needs={Stage.END_OF_MESSAGE: ruleset.needs((Stage.END_OF_MESSAGE,))},
    )


def sessions(poison: bytes) -> Iterator[tuple[Event, ...]]:
    """Sessions for each ending, with a poison in every word, macro and field; with a login and without."""
    for number in range(1, len(ENDINGS) + 1):
        before, _, after = PLACES[number % len(PLACES)].partition(b"{}")
        yield session(before + poison + after, number, has_login=number % 4 == 0)


def session(poison: bytes, port: int, *, has_login: bool) -> tuple[Event, ...]:
    """One session with one message."""
    text = decode_wire(poison.replace(b"\0", b"\1"))  # a NUL ends a word of the protocol
    macros = [
        Macros(
            command,
            {name: text for name in WANTED_MACROS[stage] if has_login or not name.startswith("{auth")},
        )
        for stage, command in _COMMANDS.items()
    ]
    field = SIGNATURE.replace(b"%s", poison)
    headers = [Header(name, b" " + (field if name == b"DKIM-Signature" else poison)) for name in HEADERS]
    return (
        Negotiate(6, 0x1FF, 0x1FFFFF),
        macros[0],
        Connect(text, "192.0.2.1", port),
        macros[1],
        Helo(text),
        macros[2],
        Mail(f"<{text}>", (f"SIZE={text}", text)),
        Rcpt(f"<{text}>", (text,)),
        Data(),
        *headers,
        Header(b"X-" + text.encode("utf-8", "surrogateescape"), poison),
        EndOfHeaders(),
        Body(poison),
        macros[3],
        EndOfMessage(poison),
    )


@pytest.mark.parametrize("fact", KNOWN)
def test_what_a_message_says_stays_a_value(
    fact: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Every word, macro and field poisoned at once, the fact in every text and key: whole packets come back.

    Replies and reasons are lines of ASCII, fields that we add are one field each, the record stays a record.
    """
    caplog.set_level(logging.DEBUG)
    lines = Lines()
    around = surroundings_for(fact, tmp_path, lines)
    ended = 0
    for poison in POISONS.values():
        for events in sessions(poison):
            ended += say(Exchange(around), events)
    assert lines.count == ended == len(POISONS) * len(ENDINGS)
    check_log(caplog.records)


def say(exchange: Exchange, events: tuple[Event, ...]) -> int:
    """How many messages were ended: each answer is looked at."""
    exchange.receive(b"".join(map(encode, events)))
    try:
        while (job := exchange.advance()) is not None:
            job()
    except ProtocolError as error:
        check_text(str(error), 300)
        return 0
    return check_packets(exchange.take_output())


def check_packets(octets: bytes) -> int:
    """How many end a step, each packet being whole and of what may stand in it."""
    ends = 0
    while octets:
        length, command = _HEAD.unpack_from(octets)
        data, octets = octets[5 : 4 + length], octets[4 + length :]
        assert len(data) == length - 1
        check_data(chr(command), data)
        ends += chr(command) in "acdrty"
    return ends


def check_data(command: str, data: bytes) -> None:
    """The data of a packet."""
    match command:
        case "y":
            check_text(data[:-1].decode("ascii").replace("%%", ""), MAX_REPLY_OCTETS, is_ascii=True)
            assert "%" not in data[:-1].decode("ascii").replace("%%", "")
        case "q":
            check_text(data[:-1].decode("ascii"), MAX_QUARANTINE_CHARACTERS, is_ascii=True)
        case "i":
            name, value, end = data[4:].split(b"\0")
            check_text(name.decode("ascii"), 100, is_ascii=True)
            check_text(_FOLD.sub("", value.decode("utf-8")).replace("\t", " "), 65_536)
            assert end == b""
        case "m":
            assert data[4:] in (b"Authentication-Results\0\0", b"Received-SPF\0\0")
        case _:
            assert command in "Oacdrt"
