"""Notices by mail: what is sent, to whom, and what the server's answers come to."""

from __future__ import annotations

import re
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from mailreeve_policyd.notice import NoticeKind
from mailreeve_policyd.notices_courier import Attempt, Fate
from mailreeve_policyd.notices_event import NoticeEvent
from mailreeve_policyd.notices_mail import MailRoute, MailTarget, Readers
from mailreeve_policyd.notices_mark import make_mark
from mailreeve_policyd.notices_text import Templates
from mailreeve_policyd.transaction import Envelope, Session
from tests.lab.ports import LOOPBACK, free_port
from tests.policyd.notice_services import BOBS, event, mail_server, notice

ROOT = "root@example.org"
SECRET = bytes(32)


def target(port: int = 25, readers: Readers | None = None, language: str = "en") -> MailTarget:
    route = MailRoute(LOOPBACK, port, "mailreeve@mx.example.org", "mx.example.org", 5.0)
    return MailTarget(route, readers or Readers((ROOT,)), Templates(), language, SECRET)


def read(message: bytes) -> EmailMessage:
    parsed = message_from_bytes(message, policy=default)
    assert isinstance(parsed, EmailMessage)
    return parsed


def test_a_notice_is_taken_by_the_server() -> None:
    """From the null sender, to one recipient, with an EHLO name that marks it; lines end with CRLF."""
    with mail_server() as server:
        attempt = target(server.port).deliver(event(), ROOT)

    assert attempt == Attempt(Fate.TAKEN, f"{LOOPBACK}:{server.port}: 250 2.0.0 Ok")
    (letter,) = server.letters
    assert (letter.sender, letter.recipient) == ("<>", "<root@example.org>")
    assert re.fullmatch(r"mailreeve-[a-z2-7]{45}\.mx\.example\.org", letter.helo)
    assert b"\n" not in letter.data.replace(b"\r\n", b"")


def test_it_says_what_it_is() -> None:
    """Date, Message-ID, Auto-Submitted and who it is from; the same Message-ID at every try."""
    first, again = (read(target().compose(event_of_bob, ROOT)) for event_of_bob in [event()] * 2)

    assert first["From"] == "Mailreeve <mailreeve@mx.example.org>"
    assert first["To"] == ROOT
    assert first["Subject"] == "80 of 100 recipients used: day"
    assert first["Auto-Submitted"] == "auto-generated"
    assert first["Date"] == "Mon, 01 Jun 2026 12:00:00 +0000"
    assert first["Message-ID"].endswith("@mx.example.org>")
    assert first["Message-ID"] == again["Message-ID"]
    assert "80 of 100 recipients in 1 day are used" in first.get_content()
    assert "    login       bob@example.org\r\n" in first.get_content()


@pytest.mark.parametrize(
    ("answers", "fate", "said"),
    [
        ({"connect": ["421 4.3.2 busy"]}, Fate.LATER, "421 4.3.2 busy"),
        ({"connect": [""]}, Fate.LATER, "Connection unexpectedly closed"),
        ({"rcpt": ["450 4.2.0 greylisted"]}, Fate.LATER, "450 4.2.0 greylisted"),
        ({"rcpt": ["550 5.1.1 no such user"]}, Fate.NEVER, "550 5.1.1 no such user"),
        ({"data": ["451 4.3.0 not now"]}, Fate.LATER, "451 4.3.0 not now"),
        ({".": ["452 4.3.1 full"]}, Fate.LATER, "452 4.3.1 full"),
        ({".": ["554 5.7.1 spam\x1b[2J"]}, Fate.NEVER, "554 5.7.1 spam\\x1b[2J"),
        ({".": [""]}, Fate.NEVER, "it may have been taken, no answer came"),
    ],
)
def test_what_the_server_answers(answers: dict[str, list[str]], fate: Fate, said: str) -> None:
    """4xx and no connection may go better later, 5xx never; after an end without an answer nobody knows."""
    with mail_server(answers) as server:
        attempt = target(server.port).deliver(event(), ROOT)

    assert attempt.fate is fate
    assert said in attempt.said
    assert attempt.said.isprintable()


def test_a_server_that_is_away() -> None:
    """It may come back."""
    attempt = target(free_port()).deliver(event(), ROOT)

    assert attempt.fate is Fate.LATER
    assert attempt.said.endswith("Connection refused")


def test_the_user_is_told_of_his_own_limit_alone() -> None:
    """Not of a `notify` rule, nor of what he shares with others; in capitals or not, each address once."""
    readers = Readers((ROOT, "Bob@example.org"), lambda login: login)
    bobs_own = Readers((ROOT,), lambda login: login)
    shared = replace(notice(), counted_by=(("recipient_domain", "example.net"),))

    assert readers.of(event()) == [ROOT, "Bob@example.org"]
    assert bobs_own.of(event()) == [ROOT, "bob@example.org"]
    assert bobs_own.of(event(notice(NoticeKind.NOTIFY))) == [ROOT]
    assert bobs_own.of(event(shared)) == [ROOT]
    assert Readers((ROOT,)).of(event()) == [ROOT]


@pytest.mark.parametrize(
    "login",
    [
        "bob",
        "bob@",
        "@example.org",
        "a b@example.org",
        "bob@example.org\r\nRCPT TO:<eve@example.net>",
        "bob@example.org,eve@example.net",
        '"bob"@example.org',
        "<bob@example.org>",
        "b\0b@example.org",
        "bob@example.org>",
        "bücher@example.org",
        "bob@bücher.example",
        "x" * 65 + "@example.org",
    ],
)
def test_a_login_that_is_no_plain_address_is_told_nothing(login: str) -> None:
    """Whatever a server's login may hold, it never becomes a command, a field or a second recipient."""
    readers = Readers((ROOT,), lambda given: given)

    assert readers.of(event(notice(login=login))) == [ROOT]


def test_each_reader_has_a_language() -> None:
    """The user that of the rules, the administrator his own; what nobody has is English."""
    readers = Readers((ROOT,), lambda login: login)
    german = event(notice(language="de-at"))

    to_user = read(target(readers=readers).compose(german, "bob@example.org"))
    to_root = read(target(readers=readers).compose(german, ROOT))
    french = read(target(readers=readers).compose(event(notice(language="fr")), "bob@example.org"))

    assert to_user["Subject"] == "80 von 100 Empfängern verbraucht: day"
    assert "Empfängern in 1 Tag" in to_user.get_content()
    assert to_root["Subject"] == french["Subject"] == "80 of 100 recipients used: day"


hostile = st.text(
    st.sampled_from("a.\r\n\0\x1b\x85\u2028\udcff\\{}=?:,<>\"'é𐀀") | st.characters(), max_size=400
)


@given(hostile, hostile, hostile)
def test_no_value_makes_a_field_or_a_line_of_its_own(text: str, login: str, helo: str) -> None:
    """Whatever comes from the wire, the message has its own fields alone, in ASCII and short lines."""
    transaction = replace(
        BOBS, session=Session(sasl_username=login, helo_name=helo), envelope=Envelope(None), queue_id=text
    )
    hostile_event: NoticeEvent = event(notice(text=text, login=login), transaction)

    message = target().compose(hostile_event, ROOT)
    header = message.partition(b"\r\n\r\n")[0]
    names = [line.partition(b":")[0].decode() for line in header.split(b"\r\n") if line[:1] not in b" \t"]

    assert message.isascii()
    assert b"\0" not in message
    assert not re.search(rb"\r(?!\n)|(?<!\r)\n", message)
    assert max(map(len, message.split(b"\r\n"))) <= 998
    assert sorted(names) == sorted(read(target().compose(event(), ROOT)).keys())


def test_a_mark_fits_into_a_label() -> None:
    """DNS allows 63 octets, and an EHLO name is one."""
    assert len("mailreeve-" + make_mark(SECRET, ROOT, 1_700_000_000.0)) <= 63
