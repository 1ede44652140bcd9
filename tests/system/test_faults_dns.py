"""DNS that is slow, lies, comes and goes: mail waits or passes as the rules say, and none passes unmarked."""

from __future__ import annotations

import select
import time
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import count
from pathlib import Path

import pytest

from tests.lab.daemons import Engine
from tests.lab.delivered import read_delivered
from tests.lab.dns import SILENT, Fault
from tests.lab.outside import OutsideDomain, compose
from tests.lab.policy import PolicyClient
from tests.lab.process import wait_until
from tests.lab.site import Sent, Site
from tests.lab.work import work_folder
from tests.milterd.miltertalk import MilterTalk

REFUSING = """
at end-of-message {
    forged: reject "5.7.26 Fails DMARC" if dmarc is fail and dmarc_policy is reject and spf is fail
}
"""
FORGED = 'at rcpt {\n    spoofed: reject "5.7.1 Forged" if spf is fail\n}\n'
STRANGER = "198.51.100.66"
MAILBOX = "bob@example.org"
WAITING = 50
SOON_SECONDS = 1.0
IMPATIENT = {"dns": {"timeout_seconds": 0.4, "message_budget_seconds": 0.8}}
PATIENT = {"dns": {"timeout_seconds": 6.0, "message_budget_seconds": 6.0}}

_number = count(1)


@pytest.fixture(scope="module")
def site(engine: Engine) -> Iterator[Site]:
    """One of each engine; each test has a domain of its own, of which nothing is remembered."""
    with work_folder() as folder, Site(folder, rules=REFUSING, engine=engine, settings=IMPATIENT) as site:
        yield site


@pytest.fixture
def sender(site: Site) -> Iterator[OutsideDomain]:
    """A domain that does everything right."""
    domain = OutsideDomain(f"d{next(_number)}.example", "192.0.2.25")
    site.dns.add(domain.zone)
    yield domain
    site.dns.heal()


def names_of(domain: OutsideDomain) -> tuple[str, ...]:
    """Every name of it that is asked for."""
    beside = (f"mail.{domain.name}", f"_dmarc.{domain.name}", f"{domain.selector}._domainkey.{domain.name}")
    return (domain.name, *beside)


def spoil(site: Site, domain: OutsideDomain, fault: Fault) -> None:
    """Have all its names answered with a fault."""
    for name in names_of(domain):
        site.dns.fail(name, fault)


def send(site: Site, domain: OutsideDomain) -> Sent:
    """A message of it, rightly signed."""
    author = f"alerts@{domain.name}"
    message = domain.sign(compose(author, MAILBOX, "Statement", "Dear Bob"))
    return site.send(domain.server, author, [MAILBOX], message)


def is_taken(site: Site, domain: OutsideDomain) -> bool:
    """Does a message of it pass? It is marked as what it is then, and refused never."""
    end = send(site, domain).end
    assert end is not None
    assert end.ok or end.code // 100 == 4, end
    return end.ok


def results(site: Site) -> str:
    """The field that the next delivered message got."""
    [field] = read_delivered(site.postfix.next_message(MAILBOX)).values("Authentication-Results")
    return field


@pytest.mark.parametrize(
    "fault",
    [Fault(lies="id"), Fault(lies="question"), SILENT, Fault(truncated=True, lies="question")],
    ids=["another id", "another question", "silent", "truncated, and another question by TCP"],
)
def test_what_is_no_answer_defers_the_mail_until_there_is_one(
    site: Site, sender: OutsideDomain, fault: Fault
) -> None:
    """An answer to nobody's question counts as none: 4xx, nothing delivered; once healed, it passes."""
    spoil(site, sender, fault)
    refused = send(site, sender).end
    assert refused is not None
    assert refused.code // 100 == 4, refused

    site.dns.heal()
    wait_until(lambda: is_taken(site, sender), "the answers are asked for again")
    field = results(site)
    assert "dmarc=pass" in field
    assert "=fail" not in field  # SPF's questions may still be remembered as unanswered, for some seconds


@pytest.mark.parametrize(
    "fault", [Fault(delay_seconds=0.1), Fault(truncated=True)], ids=["slow", "truncated"]
)
def test_an_answer_that_comes_late_or_by_tcp_is_an_answer(
    site: Site, sender: OutsideDomain, fault: Fault
) -> None:
    """Within the time for a message, and by TCP where UDP is too small: everything passes."""
    spoil(site, sender, fault)
    assert send(site, sender).queue_id
    assert "dmarc=pass" in results(site)


def test_dns_that_comes_and_goes_never_makes_good_mail_fail(site: Site, sender: OutsideDomain) -> None:
    """Each second question is lost: the message waits, or passes; it is neither refused nor marked failed."""
    spoil(site, sender, Fault(silent=True, flaps=True))
    wait_until(lambda: is_taken(site, sender), "enough is known")
    assert "=fail" not in results(site)


def test_mail_whose_answers_are_known_passes_while_fifty_wait(work: Path) -> None:
    """The native engine: 50 messages wait for a silent server, and one that need not wait is done at once."""
    bank = OutsideDomain("bank.example", "192.0.2.25")
    site = Site(work, rules=REFUSING, engine="native", settings=PATIENT, zone=bank.zone)
    with site.without_postfix(), ExitStack() as talks:
        begun = talks.enter_context(MilterTalk(site.milter_address))
        judge(begun, bank.name, bank.address)
        waiting = []
        for number in range(WAITING):
            name = f"silent{number}.example"
            site.dns.fail(name, SILENT)
            talk = talks.enter_context(MilterTalk(site.milter_address))
            begin(talk, name, "192.0.2.99")
            talk.send("E")
            waiting.append(talk)
        wait_until(
            lambda: all(site.dns.count(f"silent{number}.example") for number in range(WAITING)), "all wait"
        )
        start = time.monotonic()
        judge(begun, bank.name, bank.address)
        took = time.monotonic() - start

        still = [talk.socket for talk in waiting]
        assert not select.select(still, (), (), 0)[0], "some no longer wait: nothing was shown"
        assert took < SOON_SECONDS


NO_ANSWER = (Fault(lies="id"), Fault(lies="question"), SILENT, Fault(truncated=True, lies="question"))
ANSWER = (Fault(delay_seconds=0.1), Fault(truncated=True))


def test_the_policy_daemon_defers_what_it_cannot_ask_about_too(work: Path) -> None:
    """SPF at RCPT: what is no answer defers; what comes late or by TCP is one; forged mail passes never."""
    site = Site(work, rules=FORGED, settings=IMPATIENT)
    flapping = Fault(silent=True, flaps=True)
    faults = {
        OutsideDomain(f"p{number}.example", "192.0.2.25"): fault
        for number, fault in enumerate((*NO_ANSWER, *ANSWER, flapping))
    }
    with site.without_postfix():
        for domain, fault in faults.items():
            site.dns.add(domain.zone)
            spoil(site, domain, fault)
            answers = [asked(site, domain.name, client) for client in (domain.address, STRANGER)]
            if fault in NO_ANSWER:
                assert answers == ["DEFER_IF_PERMIT 4.4.3"] * 2, fault
            elif fault in ANSWER:
                assert answers == ["DUNNO", "REJECT 5.7.1"], fault
            else:
                assert answers[1] != "DUNNO"
        site.dns.heal()
        for domain in faults:
            wait_until(lambda: asked(site, domain.name, domain.address) == "DUNNO", "asked again")  # noqa: B023
            assert asked(site, domain.name, STRANGER) == "REJECT 5.7.1"


def test_the_policy_daemon_answers_what_is_known_while_fifty_wait(work: Path) -> None:
    """Requests that wait for a silent server hold up no other."""
    bank = OutsideDomain("bank.example", "192.0.2.25")
    site = Site(work, rules=FORGED, settings=PATIENT, zone=bank.zone)
    with site.without_postfix(), ExitStack() as clients:
        assert asked(site, bank.name, bank.address) == "DUNNO"
        waiting = []
        for number in range(WAITING):
            name = f"silent{number}.example"
            site.dns.fail(name, SILENT)
            client = clients.enter_context(PolicyClient(site.policy_address))
            client.send(sender=f"alerts@{name}", recipient=MAILBOX, client_address="192.0.2.99")
            waiting.append(client)
        wait_until(
            lambda: all(site.dns.count(f"silent{number}.example") for number in range(WAITING)), "all wait"
        )
        start = time.monotonic()
        assert asked(site, bank.name, bank.address) == "DUNNO"
        took = time.monotonic() - start

        assert not any(client.has_answer for client in waiting), "some no longer wait: nothing was shown"
        assert took < SOON_SECONDS


def test_no_message_asks_more_questions_than_the_setting_says(work: Path, engine: Engine) -> None:
    """A tree of names for SPF: temperror, which waits where a rule needs it, and a record of the bound."""
    tree = 'evil.example. TXT "v=spf1 mx:1.evil.example mx:2.evil.example mx:3.evil.example -all"\n'
    for branch in range(1, 4):
        for leaf in range(9):
            tree += f"{branch}.evil.example. MX 10 {leaf}.{branch}.evil.example.\n"
    site = Site(
        work,
        rules=FORGED + REFUSING,
        engine=engine,
        settings={"dns": {"max_questions": 20}},
        zone=tree,
    )
    with site.without_postfix(), MilterTalk(site.milter_address) as talk:
        assert asked(site, "evil.example", STRANGER) == "DEFER_IF_PERMIT 4.4.3"
        begin(talk, "evil.example", STRANGER)
        assert talk.end_of_message()[0].data.startswith(b"451 4.4.3")
        bounds = [record for record in site.records() if record["event"] == "bound"]
        assert {(one["daemon"], one["bound"], one["maximum"], one["consequence"]) for one in bounds} == {
            (daemon, "dns.max_questions", 20, "left-out") for daemon in ("policyd", "milter")
        }
        assert {one["client"]["address"] for one in bounds} == {STRANGER}
        assert all(site.dns.count(f"{leaf}.3.evil.example") == 0 for leaf in range(9))


def asked(site: Site, domain: str, client_address: str) -> str:
    """The first two words of what the policy daemon answers about mail of a domain, or its only one."""
    with PolicyClient(site.policy_address) as client:
        answer = client.ask(
            sender=f"alerts@{domain}",
            recipient=MAILBOX,
            client_address=client_address,
            helo_name=f"mail.{domain}",
        )
    return " ".join(answer.split()[:2])


def begin(talk: MilterTalk, domain: str, client: str) -> None:
    """A message of a domain, as far as its end."""
    talk.connect(f"mail.{domain}", client)
    talk.helo(f"mail.{domain}")
    talk.mail(f"<alerts@{domain}>")
    talk.rcpt(f"<{MAILBOX}>")
    talk.data()
    talk.header(b"From", f" alerts@{domain}".encode())
    talk.end_of_headers()
    talk.body(b"Dear Bob\r\n")


def judge(talk: MilterTalk, domain: str, client: str) -> None:
    """A message of a domain, which passes and is marked."""
    begin(talk, domain, client)
    packets = talk.end_of_message()
    assert packets[-1].command == "c"
    assert b"spf=pass" in packets[0].data
