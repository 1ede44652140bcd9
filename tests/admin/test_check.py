"""`mailreeve check FILE`: what the milter would say, printed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.admin.command import Ran, mailreeve, write_site
from tests.lab.dns import DnsServer

ZONE = """
    example.net.         TXT  "v=spf1 ip4:192.0.2.0/24 -all"
    mail.example.net.    TXT  "v=spf1 a -all"
    mail.example.net.    A    192.0.2.1
    _dmarc.example.net.  TXT  "v=DMARC1; p=reject"
"""

RULES = """\
at end-of-message {
    tell: warn "from {client_address}" if dmarc is pass
    forged: reject "5.7.26 Fails DMARC" if dmarc is fail
}
"""

MESSAGE = b"From: bob@example.net\r\nSubject: hello\r\n\r\nThe body.\r\n"
FORGED_RESULTS = b"Authentication-Results: mx.example.org; dkim=pass\r\n"


@pytest.fixture(scope="module")
def dns() -> Iterator[DnsServer]:
    with DnsServer(ZONE) as server:
        yield server


def check(folder: Path, dns: DnsServer, raw: bytes, *more: str, client: str = "192.0.2.1") -> Ran:
    config = write_site(folder, RULES, f'[dns]\nservers = ["{dns.address}"]\n')
    given = ["--client", client] if client else []
    envelope = ["--helo", "mail.example.net", "--from", "bob@example.net"]
    return mailreeve("check", "-", *given, *envelope, "--config", config, *more, given=raw)


def test_mail_from_outside_is_checked(tmp_path: Path, dns: DnsServer) -> None:
    """Results, rules and the field that would be added, whose folds are no control characters."""
    ran = check(tmp_path, dns, MESSAGE)

    assert ran.status == 0
    assert "mail from outside: it is checked" in ran.out
    assert "  dmarc=pass header.from=example.net" in ran.out
    assert "answer: continue" in ran.out
    assert "added: Authentication-Results: mx.example.org; spf=pass" in ran.out
    assert "\\x09" not in ran.out


def test_a_warning_is_printed_and_not_logged(tmp_path: Path, dns: DnsServer) -> None:
    """The report has it; standard error stays for mistakes."""
    ran = check(tmp_path, dns, MESSAGE)

    assert "warning: tell: from 192.0.2.1\n" in ran.out
    assert ran.err == ""


def test_a_forgery_is_refused_by_its_rule(tmp_path: Path, dns: DnsServer) -> None:
    """The reply as the client would see it."""
    ran = check(tmp_path, dns, MESSAGE, client="203.0.113.9")

    assert "answer: reject 550 5.7.26 Fails DMARC, by the rule forged" in ran.out


def test_several_from_fields_have_no_author(tmp_path: Path, dns: DnsServer) -> None:
    """RFC 9989 section 5.3.1: there is nothing to validate."""
    ran = check(tmp_path, dns, b"From: eve@example.com\r\n" + MESSAGE)

    assert "author: not exactly one author domain" in ran.out
    assert "dmarc=permerror" in ran.out


def test_forged_results_would_be_removed(tmp_path: Path, dns: DnsServer) -> None:
    """Those that claim our name."""
    ran = check(tmp_path, dns, FORGED_RESULTS + MESSAGE)

    assert "removed: Authentication-Results, number 1 from the top" in ran.out


@pytest.mark.parametrize(("client", "more"), [("192.0.2.1", ["--login", "bob"]), ("", []), ("127.0.0.1", [])])
def test_our_own_mail_is_signed_and_not_checked(
    tmp_path: Path, dns: DnsServer, client: str, more: list[str]
) -> None:
    """With a login, without a network client, or from our networks."""
    ran = check(tmp_path, dns, MESSAGE, *more, client=client)

    assert "our own mail: it is signed, not checked" in ran.out
    assert "spf=" not in ran.out


def test_a_message_is_read_from_its_file(tmp_path: Path) -> None:
    """One that is not there is a mistake that is told."""
    config = write_site(tmp_path, "", '[dns]\nservers = ["127.0.0.1:9"]\n')
    (tmp_path / "mail.eml").write_bytes(MESSAGE)

    assert mailreeve("check", tmp_path / "mail.eml", "--config", config).status == 0
    absent = mailreeve("check", tmp_path / "absent.eml", "--config", config)
    assert (absent.status, absent.out) == (78, "")
    assert "absent.eml: cannot be read" in absent.err


def test_a_client_that_is_no_address_is_a_mistake(tmp_path: Path, dns: DnsServer) -> None:
    """It is not taken for a name, nor for nobody."""
    ran = check(tmp_path, dns, MESSAGE, client="mail.example.net")

    assert (ran.status, "--client: not an IP address" in ran.err) == (78, True)
