"""A real Sendmail with the lines that docs/milter.md gives to paste; the milter decides all stages there.

Clients come from loopback addresses: 127.0.0.1 is our network here, the others are strangers.
"""

import re
import smtplib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.lab.daemons import Engine
from tests.lab.delivered import read_delivered
from tests.lab.dkim_verifier import verify
from tests.lab.keys import SigningKeys
from tests.lab.outside import OutsideDomain, compose
from tests.lab.sendmail import Sendmail
from tests.lab.site import Site
from tests.lab.tree import REPOSITORY

PAGE = (REPOSITORY / "docs/milter.md").read_text()
DOCUMENTED_SOCKET = "unix:/run/mailreeve/milter.sock"
STAGES = ["connect", "helo", "mail", "rcpt", "data", "end-of-message"]
BANK = OutsideDomain("bank.example", "127.0.0.2")
OURS, STRANGER, BLOCKED = "127.0.0.1", "127.0.0.3", "127.0.0.4"
RULES = f"""
at connect {{
    blocked: reject "5.7.1 Not you" if client_address is {BLOCKED}
}}
at rcpt {{
    gone: reject "5.1.1 Nobody here by that name" if recipient is "gone@example.org"
}}
at end-of-message {{
    forged: reject "5.7.26 Fails DMARC of {{header_from}}" if dmarc is fail and spf is fail
    doubtful: hold "doubtful" if header_from_domain is "list.example"
}}
"""


@dataclass(frozen=True, slots=True)
class Beside:
    """Sendmail and the site without its Postfix."""

    site: Site
    sendmail: Sendmail

    def send(self, address: str, sender: str, recipients: list[str], message: bytes) -> tuple[int, str]:
        """The reply to a message from a loopback address, or to MAIL if that is refused.

        Raises SMTPConnectError if the client is.
        """
        port, source = self.sendmail.port, (address, 0)
        with smtplib.SMTP("127.0.0.1", port, f"mail.{BANK.name}", timeout=60, source_address=source) as smtp:
            smtp.ehlo()
            code, text = smtp.mail(sender)
            if code == 250:
                for recipient in recipients:
                    smtp.rcpt(recipient)
                code, text = smtp.data(message)
            return code, text.decode()


@pytest.fixture(scope="module")
def beside(shared_work: Path, our_keys: SigningKeys, engine: Engine) -> Iterator[Beside]:
    """Both, with each engine."""
    work = shared_work / engine
    work.mkdir()
    settings: dict[str, object] = {
        "policyd": {"decides": []},
        "milter": {"decides": STAGES},
        "trust": {"networks": [f"{OURS}/32"]},
    }
    site = Site(work, rules=RULES, keys=our_keys, engine=engine, zone=BANK.zone, settings=settings)
    lines = documented_line().replace(DOCUMENTED_SOCKET, site.milter_address)
    with site.without_postfix(), Sendmail(work, lines) as sendmail:
        yield Beside(site, sendmail)


def documented_line() -> str:
    """What the page says to put into sendmail.mc."""
    [line] = re.findall(r"^    (INPUT_MAIL_FILTER\(.*)$", PAGE, re.MULTILINE)
    assert DOCUMENTED_SOCKET in line
    return str(line)


def test_the_page_lets_the_milter_decide_all_stages() -> None:
    """As these tests do."""
    assert f"decides = {STAGES}".replace("'", '"') in PAGE
    assert "[policyd]\n    decides = []" in PAGE


def test_a_strangers_message_is_verified(beside: Beside) -> None:
    """One field of ours on top with what was found; a forged one is gone; the record has Sendmail's id."""
    forged = "Authentication-Results: mx.example.org; dkim=pass header.d=evil.example"
    message = BANK.sign(compose("alerts@bank.example", "bob@example.org", "Statement", "Dear Bob", forged))
    code, text = beside.send(BANK.address, "alerts@bank.example", ["bob@example.org"], message)

    assert code == 250, text
    arrived = read_delivered(beside.sendmail.next_message("bob"))
    assert arrived.added == ["Authentication-Results"]
    [field] = arrived.values("Authentication-Results")
    assert re.findall(r"\b\w+=pass\b", field) == ["spf=pass", "spf=pass", "dkim=pass", "dmarc=pass"]
    record = beside.site.message_record(text.split()[1])
    assert record["client"]["address"] == BANK.address
    assert record["removed"] == ["Authentication-Results"]


def test_our_own_message_leaves_signed(beside: Beside) -> None:
    """Two signatures on top, nothing below is changed, and another program finds the RSA one right."""
    message = compose("alice@example.org", "somebody@example.net", "Lunch?", "At noon.")
    code, text = beside.send(OURS, "alice@example.org", ["somebody@example.net"], message)

    assert code == 250, text
    raw = beside.sendmail.next_message("somebody")
    arrived = read_delivered(raw)
    assert arrived.added == ["DKIM-Signature", "DKIM-Signature"]
    assert arrived.rest.rstrip(b"\n") == message.replace(b"\r\n", b"\n").rstrip(b"\n")
    assert {one.algorithm: one.result for one in verify(raw, beside.site.dns)}["rsa-sha256"] == "pass"


def test_a_forgery_is_refused_at_its_end(beside: Beside) -> None:
    """With the rule's own code and text."""
    message = compose("alerts@bank.example", "bob@example.org", "Your account", "Click here")
    code, text = beside.send(STRANGER, "alerts@bank.example", ["bob@example.org"], message)

    assert (code, text) == (550, "5.7.26 Fails DMARC of alerts@bank.example")
    assert beside.sendmail.delivered("bob") == []


def test_a_client_and_a_recipient_are_refused_alone(beside: Beside) -> None:
    """At connect all of a client's mail; at rcpt one recipient, while the others get the message."""
    with pytest.raises(smtplib.SMTPConnectError) as refused:
        beside.send(BLOCKED, "a@list.example", ["bob@example.org"], b"Subject: x\r\n\r\nx\r\n")
    assert refused.value.smtp_code == 554  # Sendmail's own words: it does not pass on those of a milter here

    message = compose("alice@example.org", "bob@example.org", "To both", "Hi.")
    recipients = ["gone@example.org", "bob@example.org"]
    code, text = beside.send(OURS, "alice@example.org", recipients, message)
    assert code == 250, text
    assert beside.sendmail.next_message("bob")
    assert beside.site.message_record(text.split()[1])["recipients"] == ["bob@example.org"]
    assert beside.sendmail.delivered("gone") == []


def test_a_held_message_is_quarantined(beside: Beside) -> None:
    """Sendmail takes it and keeps it in its queue, as `mailq -qQ` shows."""
    message = compose("a@list.example", "bob@example.org", "Digest", "News.")
    code, text = beside.send(STRANGER, "a@list.example", ["bob@example.org"], message)

    assert code == 250, text
    held = beside.sendmail.folder / f"queue/hf{text.split()[1]}"
    assert b"\nqdoubtful\n" in held.read_bytes()
    assert beside.sendmail.delivered("bob") == []


def test_without_the_milter_mail_is_deferred(beside: Beside) -> None:
    """F=T: 4xx while it is away, and business as usual when it is back."""
    message = compose("alice@example.org", "bob@example.org", "Again", "Hi.")
    beside.site.milter.kill()
    code, text = beside.send(OURS, "alice@example.org", ["bob@example.org"], message)
    assert (code, text[:5]) == (451, "4.3.2")

    beside.site.milter.start()
    code, text = beside.send(OURS, "alice@example.org", ["bob@example.org"], message)
    assert code == 250, text
    assert read_delivered(beside.sendmail.next_message("bob")).added == ["DKIM-Signature"] * 2
