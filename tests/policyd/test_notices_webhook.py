"""Notices by webhook: the JSON and its signature, and what the answers come to."""

from __future__ import annotations

import hmac
import json
import ssl
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from mailreeve_policyd.notice import NoticeKind
from mailreeve_policyd.notices_courier import Attempt, Fate
from mailreeve_policyd.notices_event import format_json
from mailreeve_policyd.notices_webhook import WebhookRoute, WebhookTarget, sign
from mailreeve_policyd.smtp import parse_mailbox
from mailreeve_policyd.transaction import Envelope, Session
from tests.lab.certificates import Authority, Certificate
from tests.lab.ports import LOOPBACK, free_port
from tests.policyd.notice_services import BOBS, WebServer, event, notice, web_server

SECRET = b"a secret that both know"


def target(url: str, secret: bytes | None = None, tls: ssl.SSLContext | None = None) -> WebhookTarget:
    return WebhookTarget(WebhookRoute(urlsplit(url), 5.0, tls, secret), clock=lambda: 1_700_000_000.5)


def deliver(target: WebhookTarget) -> Attempt:
    (addressee,) = target.addressees(event())
    return target.deliver(event(), addressee)


def test_a_notice_is_posted_as_json() -> None:
    """The documented object, all of it; the path and the query are those of the URL."""
    told = event()
    with web_server() as server:
        attempt = target(server.url).deliver(told, LOOPBACK)

    assert attempt == Attempt(Fate.TAKEN, "HTTP 204")
    (post,) = server.posted
    assert post.path == "/hook?to=us"
    assert post.fields["Content-Type"] == "application/json"
    assert "Mailreeve-Signature" not in post.fields
    assert json.loads(post.body) == {
        "schema": "mailreeve.notice.v1",
        "id": told.id,
        "time": "2026-06-01T12:00:00.000Z",
        "host": "mx.example.org",
        "daemon": "policyd",
        "kind": "warning",
        "rule": "day",
        "stage": "rcpt",
        "text": "bob@example.org: 80 of 100 recipients used",
        "login": "bob@example.org",
        "counted_by": {"sasl_username": "bob@example.org"},
        "limit": {"used": 80, "maximum": 100, "unit": "recipients", "period_seconds": 86400},
        "sender": "<>",
        "queue_id": "4B1C2D",
        "instance": "1",
    }


def test_a_notice_without_a_limit_leaves_out_what_it_has_not() -> None:
    """`notify` stands for itself."""
    plain = replace(notice(NoticeKind.NOTIFY, login=None), used=None, maximum=None, unit=None, period=None)
    found = json.loads(format_json(event(plain)))

    assert not {"limit", "login", "counted_by", "language", "recipient"} & set(found)


def test_a_post_is_signed() -> None:
    """The receiver can tell it from a stranger's and an old one: time and body are in the signature."""
    with web_server() as server:
        deliver(target(server.url, SECRET))

    (post,) = server.posted
    expected = hmac.new(SECRET, b"1700000000." + post.body, "sha256").hexdigest()
    assert post.fields["Mailreeve-Signature"] == f"t=1700000000,v1={expected}"
    assert sign(SECRET, 1_700_000_000, post.body) == post.fields["Mailreeve-Signature"]


@pytest.mark.parametrize(
    ("status", "fate"),
    [
        (200, Fate.TAKEN),
        (202, Fate.TAKEN),
        (400, Fate.NEVER),
        (404, Fate.NEVER),
        (408, Fate.LATER),
        (429, Fate.LATER),
        (500, Fate.LATER),
        (503, Fate.LATER),
    ],
)
def test_what_the_server_answers(status: int, fate: Fate) -> None:
    """A mistake in the request stays one; all else may go better later."""
    with web_server([status]) as server:
        assert deliver(target(server.url)) == Attempt(fate, f"HTTP {status}")


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_not_followed(status: int) -> None:
    """The notice goes where the operator said, and nowhere else."""
    with web_server() as elsewhere, web_server([status]) as server:
        server.moved_to = elsewhere.url
        attempt = deliver(target(server.url))

    assert attempt.fate is Fate.NEVER
    assert "redirects are not followed" in attempt.said
    assert elsewhere.posted == []


def test_a_server_that_is_away() -> None:
    """It may come back."""
    attempt = deliver(target(f"http://{LOOPBACK}:{free_port()}/"))

    assert attempt == Attempt(Fate.LATER, "Connection refused")


def test_what_is_said_never_holds_the_path() -> None:
    """It may be the secret by which a chat lets anybody write."""
    with web_server([404]) as server:
        hidden = target(f"{server.url}&token=hidden")
        assert "hidden" not in deliver(hidden).said + hidden.addressees(event())[0]


def test_certificates_are_checked(tmp_path: Path) -> None:
    """One that nobody vouches for takes no notice; with its authority it does."""
    authority = Authority(tmp_path)
    with web_server() as server:
        server.socket = _server_side(authority.issue("server")).wrap_socket(server.socket, server_side=True)
        url = f"https://{LOOPBACK}:{server.server_port}/"
        doubtful = deliver(target(url, tls=ssl.create_default_context()))
        right = deliver(target(url, tls=ssl.create_default_context(cafile=str(authority.file))))

    assert doubtful.fate is Fate.LATER
    assert doubtful.said.startswith("its certificate is not right:")
    assert right == Attempt(Fate.TAKEN, "HTTP 204")


def _server_side(certificate: Certificate) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.file, certificate.key)
    return context


hostile = st.text(st.sampled_from('a\r\n\0\x1b\x85\u2028\udcff\\"{}<>é𐀀') | st.characters(), max_size=600)


@given(hostile, hostile, hostile)
def test_any_value_makes_bounded_json_of_one_line(text: str, login: str, sender: str) -> None:
    """ASCII, no control, nothing cut in the middle; texts of at most 500 characters."""
    transaction = replace(
        BOBS, session=Session(sasl_username=login), envelope=Envelope(parse_mailbox(sender)), queue_id=text
    )

    body = format_json(event(notice(text=text, login=login), transaction))

    assert body.isascii()
    assert body.decode().isprintable()
    found = json.loads(body)
    for value in (found["text"], found.get("login", ""), found["sender"], found["queue_id"]):
        assert value.isprintable()
        assert len(value) <= 500


def test_a_closed_port_of_the_test_server_is_no_bug() -> None:
    """A server that hangs up at once is one that may come back."""
    with WebServer() as server:
        url = server.url
    assert deliver(target(url)).fate is Fate.LATER
