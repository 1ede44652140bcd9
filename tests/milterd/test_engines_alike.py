"""Whatever an MTA says in turn, both engines answer alike and record alike."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.lab.daemons import ENGINES, Daemon, Engine
from tests.lab.dns import DnsServer
from tests.lab.work import work_folder
from tests.milterd.miltertalk import ALL_ACTIONS, ALL_STEPS, OLD_ACTIONS, OLD_STEPS, VERSION, MilterTalk
from tests.milterd.setups import read_zone, write_setup

pytestmark = pytest.mark.system

SETUPS = ("postfix", "sendmail")
GOES_ON = ("None", "continue")
OFFERS = ((ALL_ACTIONS, ALL_STEPS, VERSION), (OLD_ACTIONS, OLD_STEPS, 2))


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a session; `ends` says whether it is sent to its end or aborted."""

    sender: str
    recipients: tuple[str, ...]
    fields: tuple[tuple[bytes, bytes], ...]
    body: bytes
    ends: bool


@dataclass(frozen=True, slots=True)
class Session:
    """One SMTP session; a client that begins TLS says HELO twice."""

    address: str
    helos: tuple[str, ...]
    login: str | None
    messages: tuple[Message, ...]


def octets(alphabet: str, most: int) -> st.SearchStrategy[bytes]:
    return st.text(alphabet, max_size=most).map(lambda text: text.encode("latin-1"))


addresses = st.sampled_from(
    ["192.0.2.1", "192.0.2.66", "192.0.2.77", "198.51.100.9", "203.0.113.250", "2001:db8::1"]
)
senders = st.sampled_from(
    ["<bob@example.net>", "<>", "<hold@example.net>", "<noted@example.net>", "<friend@example.net>",
     "<b\udcf6b@example.org>", "<bob@refused.example>", "<defer@example.net>", "bob", "<@,:@>"]
)  # fmt: skip
recipients = st.lists(
    st.sampled_from(
        ["<alice@example.org>", "<nobody@example.org>", "<sensitive@example.org>", "<\xe4@example.org>"]
    ),
    min_size=1,
    max_size=4,
).map(tuple)
names = st.sampled_from(
    [
        b"From",
        b"from",
        b"From ",
        b"To",
        b"Subject",
        b"Authentication-Results",
        b"Authentication-Results ",
        b"DKIM-Signature",
        b"Received",
        b"Received-SPF",
        b"ARC-Seal",
        b"X",
    ]
)
values = st.one_of(
    st.sampled_from(
        [b" bob@example.net", b" Bob <bob@example.org>", b" mx.example.org; spf=pass", b"", b" ",
         b"\tone\n\ttwo", b" v=1; a=rsa-sha256; d=example.net; s=ed; h=from; bh=AAAA; b=AAAA",
         b" a, b@example.net"]
    ),
    octets(' \t\nab;=<>@,"\\\xf6:', 30),
)  # fmt: skip
messages = st.builds(
    Message,
    senders,
    recipients,
    st.lists(st.tuples(names, values), max_size=6).map(tuple),
    octets("ab \t\r\n\0\xff", 60),
    st.booleans(),
)
sessions = st.builds(
    Session,
    addresses,
    st.lists(
        st.sampled_from(["mail.example.net", "mx.example.org", "[192.0.2.1]", "-"]), min_size=1, max_size=2
    ).map(tuple),
    st.sampled_from([None, "bob", "b\udcf6b"]),
    st.lists(messages, min_size=1, max_size=3).map(tuple),
)


@pytest.fixture(scope="module")
def milters() -> Iterator[dict[tuple[str, Engine], Path]]:
    """The work folders of running milters, by setup and engine."""
    with ExitStack() as running:
        dns = running.enter_context(DnsServer(read_zone()))
        works = {}
        for setup in SETUPS:
            for engine in ENGINES:
                work = running.enter_context(work_folder())
                running.enter_context(Daemon("milter", write_setup(setup, work, dns, engine), work))
                works[setup, engine] = work
        yield works


@pytest.mark.parametrize("offer", OFFERS, ids=["new", "old"])
@pytest.mark.parametrize("setup", SETUPS)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(said=st.lists(sessions, min_size=1, max_size=2))
def test_both_engines_answer_and_record_alike(
    milters: dict[tuple[str, Engine], Path], setup: str, offer: tuple[Any, Any, int], said: list[Session]
) -> None:
    """Refusals, aborts and odd octets included.

    Each session has its own connection: libmilter hears QUIT_NC after a message's end alone.
    """
    libmilter, native = (play(milters[setup, engine], offer, said) for engine in ENGINES)

    assert native == libmilter


def play(work: Path, offer: tuple[Any, Any, int], said: list[Session]) -> tuple[list[str], list[Any]]:
    """The answers, and the lines of the record that they left."""
    audit = work / "audit.jsonl"
    before = audit.stat().st_size if audit.exists() else 0
    answers: list[str] = []
    for session in said:
        with MilterTalk(f"unix:{work}/milter.sock", *offer) as talk:
            answers += _hold(talk, session)
            assert talk.nothing_more()
            talk.quit()
    lines = audit.read_bytes()[before:].splitlines() if audit.exists() else []
    return answers, [_recorded(line) for line in lines]


def _hold(talk: MilterTalk, session: Session) -> Iterator[str]:
    """One session, as an MTA goes on after each answer."""
    answer = str(talk.connect("mail.example.net", session.address))
    yield answer
    if answer not in GOES_ON:
        return
    for name in session.helos:
        answer = str(talk.helo(name))
        yield answer
        if answer not in GOES_ON:
            return
    for message in session.messages:
        talk.macros["M"] = {"{auth_authen}": session.login} if session.login else {"{mail_mailer}": "smtp"}
        talk.macros["E"] = {"i": "4B1"}
        yield from _send(talk, message)
        talk.abort()


def _send(talk: MilterTalk, message: Message) -> Iterator[str]:
    answer = str(talk.mail(message.sender, "SIZE=1000", "BODY=8BITMIME"))
    yield answer
    accepted = 0
    if answer in GOES_ON:
        for recipient in message.recipients:
            answer = str(talk.rcpt(recipient))
            yield answer
            accepted += answer in GOES_ON
    if not accepted or not message.ends:
        return
    answer = str(talk.data())
    yield answer
    if answer in GOES_ON:
        for name, value in message.fields:
            assert str(talk.header(name, value)) in GOES_ON  # the engines differ in which of the two
        assert str(talk.end_of_headers()) in GOES_ON
        talk.body(message.body)
        yield from (_same(str(packet)) for packet in talk.end_of_message())


def _same(answer: str) -> str:
    """Without what differs from one signing to the next: when, and with which key."""
    return re.sub(r"DKIM-Signature:.*", "DKIM-Signature", answer)


def _recorded(line: bytes) -> Any:
    record = json.loads(line)
    for key in ("time", "spent_ms", "instance"):
        record.pop(key, None)
    return record
