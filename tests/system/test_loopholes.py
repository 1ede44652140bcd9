"""Ways around the shipped rules that somebody might try, through the real Postfix."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.lab.daemons import Engine
from tests.lab.keys import SigningKeys
from tests.lab.outside import OutsideDomain
from tests.lab.site import LAPTOP, SHIPPED_RULES, Record, Site
from tests.lab.smtp import Client, Login

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


# Each way has a login of its own, so that what a site counted for one says nothing of another.
LOGINS = {how: Login(f"{how}@example.org", "open sesame") for how in RECIPIENTS}


@contextmanager
def shared(site: Site) -> Iterator[Site]:
    """A running site, for all the ways in turn."""
    for login in LOGINS.values():
        site.postfix.add_user(login.user, login.password)
    with site:
        yield site


@pytest.fixture(scope="module")
def shipped(shared_work: Path, our_keys: SigningKeys, bank: OutsideDomain, engine: Engine) -> Iterator[Site]:
    """The site with the shipped rules."""
    work = make_folder(shared_work, f"shipped-{engine}")
    with Site(work, rules=SHIPPED_RULES, keys=our_keys, engine=engine, zone=bank.zone) as site:
        yield site


@pytest.fixture(scope="module")
def counts_at_end(shared_work: Path, engine: Engine) -> Iterator[Site]:
    """A site whose milter counts every recipient once more, at end-of-message."""
    rules = f"at rcpt {{ day: {FEW} }}\nat end-of-message {{ copies: {FEW} }}\n"
    with shared(Site(make_folder(shared_work, f"end-{engine}"), rules=rules, engine=engine)) as site:
        yield site


@pytest.fixture(scope="module")
def counts_at_data(shared_work: Path) -> Iterator[Site]:
    """A site whose policy daemon is asked again when the recipients are known."""
    rules = f"at rcpt {{ day: {FEW} }}\nat data {{ copies: {FEW} }}\n"
    work = make_folder(shared_work, "data")
    policy = {"smtpd_data_restrictions": f"check_policy_service unix:{work}/mailreeve/policy.sock"}
    with shared(Site(work, rules=rules, submission=policy)) as site:
        yield site


@pytest.fixture(scope="module")
def counts_at_rcpt(shared_work: Path, engine: Engine) -> Iterator[Site]:
    """A site whose milter decides each recipient."""
    early = ["connect", "helo", "mail", "data"]
    decides = {"policyd": {"decides": early}, "milter": {"decides": ["rcpt", "end-of-message"]}}
    work = make_folder(shared_work, f"rcpt-{engine}")
    with shared(Site(work, rules=f"at rcpt {{ day: {FEW} }}\n", engine=engine, settings=decides)) as site:
        yield site


@pytest.fixture(scope="module")
def without_dsn(shared_work: Path) -> Iterator[Site]:
    """A site whose Postfix offers no DSN, as the page on limits says."""
    options = {"smtpd_discard_ehlo_keywords": "dsn"}
    with shared(Site(make_folder(shared_work, "dsn"), rules="", submission=options)) as site:
        yield site


def make_folder(shared_work: Path, name: str) -> Path:
    """A folder for one of the sites that share a work folder."""
    folder = shared_work / name
    folder.mkdir()
    return folder


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
    """One message of a login that names one mailbox often: how often that was taken, and the last reply."""
    with site.session(LAPTOP, LOGINS[how]) as session:
        assert session.command("MAIL FROM:<alice@example.org>").ok
        taken = sum(session.command(f"RCPT TO:{RECIPIENTS[how](number)}").ok for number in range(NAMED))
        end = session.command("DATA")
        if end.code == 354:
            session.send(MESSAGE + b".\r\n")
            end = session.read_reply()
        return taken, f"{end.code} {end.text}"


@pytest.mark.parametrize("how", RECIPIENTS)
def test_copies_are_counted_at_end_of_message(counts_at_end: Site, how: str) -> None:
    """At rcpt Postfix' questions look alike; in the end each copy counts, and too many do not leave."""
    taken, end = name_often(counts_at_end, how)

    def of_this_message(record: Record) -> bool:
        return bool(record["stage"] == "end-of-message" and record["login"] == LOGINS[how].user)

    [copies] = counts_at_end.record_wait(of_this_message)["limits"]

    assert taken == NAMED
    assert end.startswith("550 5.7.1"), end
    assert (copies["rule"], copies["exceeded"]) == ("copies", True)


@pytest.mark.parametrize("how", RECIPIENTS)
def test_copies_are_counted_at_data(counts_at_data: Site, how: str) -> None:
    """Without the milter: the policy daemon is asked again when the recipients are known."""
    taken, end = name_often(counts_at_data, how)

    assert taken == NAMED
    assert end.startswith(("550 5.7.1", "554 5.7.1")), end


@pytest.mark.parametrize("how", RECIPIENTS)
def test_a_milter_that_decides_rcpt_counts_each(counts_at_rcpt: Site, how: str) -> None:
    """It hears of each once, so the fourth copy is refused, and three are delivered at most."""
    postfix = counts_at_rcpt.postfix
    before = len(postfix.delivered("bob@example.org"))
    taken, end = name_often(counts_at_rcpt, how)
    postfix.wait_empty()
    copies = len(postfix.delivered("bob@example.org")) - before

    assert (taken, end[:3]) == (3, "250")
    assert 1 <= copies <= 3


@pytest.mark.parametrize("how", ["orcpt", "notify"])
def test_postfix_can_refuse_what_makes_copies(without_dsn: Site, how: str) -> None:
    """As the page on limits says."""
    with without_dsn.session(LAPTOP, LOGINS[how]) as session:
        assert session.command("MAIL FROM:<alice@example.org>").ok
        reply = session.command(f"RCPT TO:{RECIPIENTS[how](1)}")

    assert f"{reply.code} {reply.text}" == "501 5.7.1 DSN support is disabled"
