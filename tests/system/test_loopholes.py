"""Ways around the shipped rules that somebody might try, through the real Postfix."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.lab.keys import SigningKeys
from tests.lab.outside import OutsideDomain
from tests.lab.site import ALICE, LAPTOP, SHIPPED_RULES, Record, Site
from tests.lab.smtp import Client

STRANGER = Client("192.0.2.99", "evil.example", None)
BODY = b"Subject: x\r\n\r\nx\r\n"
MESSAGE = b"From: alice@example.org\r\n" + BODY
FEW = "limit 3 recipients/hour per sasl_username"
NAMED = 12  # how often one mailbox is named
NOTIFY = ("NEVER", "SUCCESS", "FAILURE", "DELAY", "SUCCESS,FAILURE", "SUCCESS,DELAY", "FAILURE,DELAY")


def quoted(number: int) -> str:
    """The local part bob, each letter with a backslash or without."""
    return "".join("\\" + letter if number >> bit & 1 else letter for bit, letter in enumerate("bob"))


RECIPIENTS: dict[str, Callable[[int], str]] = {
    "orcpt": lambda number: f"<bob@example.org> ORCPT=rfc822;v{number}",
    "notify": lambda number: f"<bob@example.org> NOTIFY={NOTIFY[number % len(NOTIFY)]}",
    "route": lambda number: f"<@r{number}.example:bob@example.org>",
    "quotes": lambda number: f'<"{quoted(number)}"@example.org>',
}


@pytest.fixture(scope="module")
def shipped(shared_work: Path, our_keys: SigningKeys, bank: OutsideDomain) -> Iterator[Site]:
    """The site with the shipped rules."""
    with Site(shared_work, rules=SHIPPED_RULES, keys=our_keys, zone=bank.zone) as site:
        yield site


@pytest.mark.parametrize(
    "authors",
    [
        ["ceo@example.org", "ceo@example.org"],
        ["ceo@bank.example", "ceo@bank.example"],
        ["CEO <ceo@example.org> ("],
        ["CEO <@a:ceo@example.org>"],
        ["ceo@example.org, x@evil.example"],
        ["ceo"],
        [],
    ],
)
def test_an_author_whom_nobody_can_name_does_not_come_in(shipped: Site, authors: list[str]) -> None:
    """Refused, or held where it is a bounce."""
    message = b"".join(b"From: %s\r\n" % author.encode() for author in authors) + BODY
    refused = shipped.send(STRANGER, "mallory@evil.example", ["bob@example.org"], message)
    bounce = shipped.send(STRANGER, None, ["bob@example.org"], message)

    assert refused.end is not None
    assert refused.end.text.startswith("5.7.1 From must name one author (DMARC)"), refused.end
    assert shipped.message_record(bounce.queue_id)["verdict"] == {
        "action": "hold",
        "stage": "end-of-message",
        "rule": "odd-bounce",
        "reason": "bounce without an author",
    }


def test_a_subdomain_of_ours_is_ours(shipped: Site) -> None:
    """Nobody outside writes in its name either."""
    message = b"From: ceo@mail.example.org\r\n" + BODY
    sent = shipped.send(STRANGER, "mallory@evil.example", ["bob@example.org"], message)

    assert sent.end is not None
    assert sent.end.text.startswith("5.7.1 Mail from our domain"), sent.end


def name_often(site: Site, how: str) -> tuple[int, str]:
    """One message of alice's that names one mailbox often: how often that was taken, and the last reply."""
    with site.session(LAPTOP, ALICE) as session:
        assert session.command("MAIL FROM:<alice@example.org>").ok
        taken = sum(session.command(f"RCPT TO:{RECIPIENTS[how](number)}").ok for number in range(NAMED))
        end = session.command("DATA")
        if end.code == 354:
            session.send(MESSAGE + b".\r\n")
            end = session.read_reply()
        return taken, f"{end.code} {end.text}"


def of_milter(record: Record) -> bool:
    return bool(record["daemon"] == "milter" and record["stage"] == "end-of-message")


@pytest.mark.parametrize("how", RECIPIENTS)
def test_copies_are_counted_at_end_of_message(work: Path, how: str) -> None:
    """At rcpt Postfix' questions look alike; in the end each copy counts, and too many do not leave."""
    rules = f"at rcpt {{ day: {FEW} }}\nat end-of-message {{ copies: {FEW} }}\n"
    with Site(work, rules=rules) as site:
        taken, end = name_often(site, how)
        [copies] = site.record_wait(of_milter)["limits"]

    assert taken == NAMED
    assert end.startswith("550 5.7.1"), end
    assert (copies["rule"], copies["exceeded"]) == ("copies", True)


@pytest.mark.parametrize("how", RECIPIENTS)
def test_copies_are_counted_at_data(work: Path, how: str) -> None:
    """Without the milter: the policy daemon is asked again when the recipients are known."""
    rules = f"at rcpt {{ day: {FEW} }}\nat data {{ copies: {FEW} }}\n"
    policy = {"smtpd_data_restrictions": f"check_policy_service unix:{work}/mailreeve/policy.sock"}
    with Site(work, rules=rules, submission=policy) as site:
        taken, end = name_often(site, how)

    assert taken == NAMED
    assert end.startswith(("550 5.7.1", "554 5.7.1")), end


@pytest.mark.parametrize("how", RECIPIENTS)
def test_a_milter_that_decides_rcpt_counts_each(work: Path, how: str) -> None:
    """It hears of each once, so the fourth copy is refused, and three are delivered at most."""
    early = ["connect", "helo", "mail", "data"]
    decides = {"policyd": {"decides": early}, "milter": {"decides": ["rcpt", "end-of-message"]}}
    with Site(work, rules=f"at rcpt {{ day: {FEW} }}\n", settings=decides) as site:
        taken, end = name_often(site, how)
        site.postfix.wait_empty()
        copies = site.postfix.delivered("bob@example.org")

    assert (taken, end[:3]) == (3, "250")
    assert 1 <= len(copies) <= 3


@pytest.mark.parametrize("how", ["orcpt", "notify"])
def test_postfix_can_refuse_what_makes_copies(work: Path, how: str) -> None:
    """As the page on limits says."""
    options = {"smtpd_discard_ehlo_keywords": "dsn"}
    with Site(work, rules="", submission=options) as site, site.session(LAPTOP, ALICE) as session:
        assert session.command("MAIL FROM:<alice@example.org>").ok
        reply = session.command(f"RCPT TO:{RECIPIENTS[how](1)}")

    assert f"{reply.code} {reply.text}" == "501 5.7.1 DSN support is disabled"
