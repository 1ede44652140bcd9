"""Notices with a real Postfix: told once, by mail past our own filter and by webhook."""

from __future__ import annotations

import json
import re
import smtplib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from email import message_from_bytes
from email.policy import default
from pathlib import Path

import pytest

from tests.lab.daemons import Daemon
from tests.lab.policy import PolicyClient
from tests.lab.ports import LOOPBACK
from tests.lab.redis import Redis
from tests.lab.site import BOB, LAPTOP, Site, format_toml
from tests.policyd.notice_services import Posted, WebServer, web_server

ADMINISTRATOR = "carol@example.com"
MESSAGE = b"From: bob@example.org\r\nSubject: hello\r\n\r\nHello.\r\n"

# Mail from loopback is refused at both doors, unless it is a notice.
RULES = """
at rcpt {
    user-day:  limit 10 recipients/day per sasl_username  warn at 80%
    web-form:  reject "5.7.1 nothing from here"  if client_address in (127.0.0.1) and not sasl_username
}
at end-of-message {
    web-form-end: reject "5.7.1 nothing from here"  if client_address in (127.0.0.1) and not sasl_username
}
"""


@pytest.fixture
def web() -> Iterator[WebServer]:
    with web_server([503, 503]) as server:
        yield server


@pytest.fixture
def site(work: Path, web: WebServer) -> Iterator[Site]:
    """Two workers at each door, an administrator with a mailbox, a webhook that fails twice."""
    notices: dict[str, object] = {
        "mail_to": [ADMINISTRATOR],
        "mail_user": True,
        "webhook_url": web.url,
        "retry_seconds": 0.05,
    }
    settings = {"notices": notices, "policyd": {"workers": 2}, "milter": {"workers": 2}}
    made = Site(work, rules=RULES, settings=settings)
    made.settings["notices"] = {**notices, "smtp_server": f"inet:{made.postfix.port}@{LOOPBACK}"}
    made.write_config()
    with made:
        yield made


def send(site: Site, count: int) -> list[int]:
    """So many messages by bob, side by side; the codes that their recipients got."""

    def one(number: int) -> int:
        sent = site.send(LAPTOP, "bob@example.org", [f"r{number}@example.net"], MESSAGE, login=BOB)
        return sent.recipients[0].code

    with ThreadPoolExecutor(4) as pool:
        return list(pool.map(one, range(count)))


def test_bob_near_his_limit_is_told_of_once(site: Site, web: WebServer) -> None:
    """At 80 % the administrator and bob have one mail each, past rules that refuse all mail from loopback.

    Eight requests that are refused then, by two workers, make one more notice. The webhook, which failed
    twice, has both.
    """
    assert send(site, 8) == [250] * 8

    (warning,) = site.postfix.delivered_wait(ADMINISTRATOR)
    site.postfix.delivered_wait("bob@example.org")
    mail = message_from_bytes(warning, policy=default)
    assert mail["Subject"] == "8 of 10 recipients used: user-day"
    assert mail["Return-Path"] == "<>"
    assert mail["Auto-Submitted"] == "auto-generated"
    assert mail["Authentication-Results"] is None  # ours: neither checked nor limited
    told = [record["daemon"] for record in site.records() if record["verdict"].get("rule") == "(notice)"]
    assert sorted(told) == ["milter", "milter", "policyd", "policyd"]

    codes = send(site, 10)

    assert sorted(codes) == [250] * 2 + [450] * 8
    web.wait_for(4)
    assert len(site.postfix.delivered_wait(ADMINISTRATOR, 2)) == 2
    site.policyd.stop()  # which brings what was still on its way
    site.postfix.wait_empty()
    assert len(site.postfix.delivered(ADMINISTRATOR)) == 2
    assert len(site.postfix.delivered("bob@example.org")) == 2
    posted = {found["id"]: found["kind"] for found in map(_body, web.posted)}
    assert sorted(posted.values()) == ["exceeded", "warning"]
    assert len(web.posted) == 4


def _body(post: Posted) -> dict[str, str]:
    found: dict[str, str] = json.loads(post.body)
    return found


def test_nobody_else_passes_by_a_notices_mark(site: Site) -> None:
    """A mark that was read in a delivered notice is used up: on this very machine, to the same mailbox."""
    send(site, 8)
    (warning,) = site.postfix.delivered_wait(ADMINISTRATOR)
    found = re.search(rb"^Received: from (mailreeve-\S+)", warning, re.MULTILINE)
    assert found is not None

    assert _from_loopback(site, "localhost.example.org") == 554
    assert _from_loopback(site, found[1].decode()) == 554
    assert len(site.postfix.delivered(ADMINISTRATOR)) == 1


def _from_loopback(site: Site, helo: str) -> int:
    """The code that the administrator's address gets, by a client on this machine with the null sender."""
    with smtplib.SMTP(LOOPBACK, site.postfix.port, local_hostname=helo, timeout=30.0) as client:
        client.ehlo()
        client.mail("")
        return client.rcpt(ADMINISTRATOR)[0]


def _host(folder: Path, redis: Redis, url: str) -> tuple[Daemon, str]:
    """A host of its own with `mailreeve policyd`, two workers, and the Redis of all; where it is asked."""
    (folder / "state").mkdir(parents=True)
    address = f"unix:{folder}/policy.sock"
    settings = {
        "state_dir": str(folder / "state"),
        "policyd": {"listen": [address], "workers": 2},
        "limits": {"store": "redis", "redis_url": redis.url},
        "audit": {"to": "file", "file": str(folder / "audit.jsonl")},
        "notices": {"webhook_url": url},
    }
    (folder / "mailreeve.toml").write_text(format_toml(settings))
    (folder / "mailreeve.toml").chmod(0o640)
    (folder / "rules").write_text("at rcpt { day: limit 10 recipients/day per sasl_username warn at 80% }\n")
    return Daemon("policyd", folder / "mailreeve.toml", folder), address


def test_hosts_that_share_a_redis_tell_once(work: Path) -> None:
    """Two hosts of two workers each meet the mark and the maximum side by side: one notice of either."""
    with web_server() as web, Redis(work) as redis:
        hosts = [_host(work / name, redis, web.url) for name in ("a", "b")]

        def ask(number: int) -> str:
            with PolicyClient(hosts[number % 2][1]) as client:
                return client.ask(instance=str(number), sasl_username="bob", recipient="ann@example.net")

        with hosts[0][0], hosts[1][0], ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(ask, range(60)))
        posted = [_body(post) for post in web.posted]  # all: daemons that end bring what waits

    assert answers.count("DUNNO") == 10
    assert sorted(post["kind"] for post in posted) == ["exceeded", "warning"]
