from __future__ import annotations

import os
import signal
import socket
from functools import partial
from pathlib import Path

import pytest

from tests.lab.daemons import ENGINES, Daemon, Engine
from tests.lab.ports import free_port
from tests.lab.process import wait_until
from tests.milterd.miltertalk import MilterTalk
from tests.policyd.metrics_read import Exposition

pytestmark = pytest.mark.system

CONFIGURATION = """\
state_dir = "{folder}"
[policyd]
decides = ["connect", "helo", "mail", "data"]
[milter]
listen = "unix:{folder}/milter"
engine = "{engine}"
workers = 2
decides = ["rcpt", "end-of-message"]
[metrics]
milter_listen = "unix:{folder}/m"
[authentication]
authserv_id = "mx.example.org"
[dns]
servers = ["127.0.0.1:{port}"]
timeout_seconds = 0.2
"""
RULES = """\
at rcpt {
    burst: limit 100 recipients/hour per client_address
}
at end-of-message {
    bulk: hold "bulk" if header_from_domain is "bulk.example.net"
}
"""
HEADER = b"Authentication-Results"


def scrape(folder: Path) -> Exposition:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(20)
        client.connect(str(folder / "m"))
        client.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
        body = b"".join(iter(lambda: client.recv(65536), b"")).partition(b"\r\n\r\n")[2]
    return Exposition(body.decode())


def send(talk: MilterTalk, domain: str) -> None:
    talk.mail("<a@example.net>")
    talk.rcpt("<b@example.org>")
    talk.data()
    fields = [(b"From", f"a@{domain}".encode()), (HEADER, b"mx.example.org; dmarc=pass")]
    talk.message(fields, b"Hello.\r\n")


def has_asked(folder: Path, count: int) -> bool:
    told = scrape(folder)
    return (
        told.total("mailreeve_dns_questions_total", answered="asked") >= count
        and told.total("mailreeve_dns_failures_total") >= count
    )


@pytest.mark.parametrize("engine", ENGINES)
def test_each_message_is_counted_with_what_was_found_of_it(tmp_path: Path, engine: Engine) -> None:
    """Several messages over several connections of both workers, one of which is killed afterwards."""
    (tmp_path / "rules").write_text(RULES)
    config = tmp_path / "mailreeve.toml"
    config.write_text(CONFIGURATION.format(folder=tmp_path, engine=engine, port=free_port()))
    with Daemon("milter", config, tmp_path) as daemon:
        daemon.wait_for_text("metrics listens at")
        for domain in ("example.net", "bulk.example.net"):
            for _ in range(4):
                with MilterTalk(f"unix:{tmp_path}/milter") as talk:
                    talk.connect("mail.example.net", "192.0.2.7")
                    talk.helo("mail.example.net")
                    send(talk, domain)
                    send(talk, domain)
        wait_until(partial(has_asked, tmp_path, 1), "what was asked of DNS is counted")
        os.kill(min(daemon.workers), signal.SIGKILL)
        daemon.wait_for_text("died (signal 9)")
        told = scrape(tmp_path)

    assert told.value("mailreeve_messages_total", action="hold", rule="bulk") == 8
    assert told.total("mailreeve_messages_total") == 16
    assert told.total("mailreeve_decisions_total", daemon="milter", stage="rcpt") == 16
    assert told.total("mailreeve_results_total", daemon="milter", method="dmarc") == 16
    assert told.total("mailreeve_results_total", method="spf", result="temperror") == 16
    assert told.value("mailreeve_fields_removed_total") == 16
    assert told.value("mailreeve_duration_seconds_count", daemon="milter", stage="end-of-message") == 16
    assert told.total("mailreeve_store_call_seconds_count", daemon="milter") >= 16
    asked = told.value("mailreeve_dns_asking_seconds_count", daemon="milter")
    assert asked
    assert asked >= told.total("mailreeve_dns_failures_total", daemon="milter") > 0
