"""The rules file that we ship, and the reference of the language; its examples are test_rules_pages.py's."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from mailreeve_milter.authenticate import authenticate
from mailreeve_milter.message import HeaderField
from mailreeve_policyd.facts import Door
from mailreeve_policyd.limits_memory import MemoryStore
from mailreeve_policyd.policy import Policy
from mailreeve_policyd.resolver import ZoneResolver
from mailreeve_policyd.rules import Ruleset, actions_reference, facts_reference, load_ruleset
from mailreeve_policyd.smtp import Stage
from mailreeve_policyd.transaction import Transaction
from mailreeve_policyd.verdict import Action, Verdict
from tests.policyd.rules_text import MIDNIGHT, SPLIT, moment, ruleset_of

ROOT = Path(__file__).parent.parent.parent
EOM = Stage.END_OF_MESSAGE
COPIES = (("one", 1000), ("two", 1))


@pytest.fixture(scope="module")
def shipped() -> Ruleset:
    """The shipped rules; loading them runs their expect lines."""
    return load_ruleset(ROOT / "contrib" / "rules" / "rules", SPLIT)


def test_check_has_nothing_to_note_on_what_we_ship(shipped: Ruleset) -> None:
    """The first thing that an administrator reads is no list of doubts."""
    assert shipped.notes == ()


def judge(shipped: Ruleset, **given: Any) -> Verdict:
    """The verdict on a message from outside."""
    policy = Policy(shipped, MemoryStore(lambda: MIDNIGHT), Door.MILTER)
    return policy.decide(moment(EOM, **given))


def test_p_reject_alone_rejects_nothing(shipped: Ruleset) -> None:
    """RFC 9989 section 7.4: without other knowledge it is held."""
    given: dict[str, Any] = {"author": "ann@example.net", "dmarc_policy": "reject"}

    assert judge(shipped, results={"dmarc": "fail", "spf": "softfail"}, **given).action is Action.HOLD
    assert judge(shipped, results={"dmarc": "fail"}, **given).action is Action.HOLD


def test_a_forgery_that_spf_sees_too_is_rejected(shipped: Ruleset) -> None:
    """5.7.26, and the text says DMARC (RFC 9989 section 7.2)."""
    verdict = judge(
        shipped, author="ann@example.net", dmarc_policy="reject", results={"dmarc": "fail", "spf": "fail"}
    )
    assert str(verdict.reply) == "550 5.7.26 Fails DMARC of example.net"


@pytest.mark.parametrize("dmarc", ["fail", "none"])
def test_nobody_outside_writes_in_our_name(shipped: Ruleset, dmarc: str) -> None:
    """Unless DMARC passes, or they have a login, or are our own machines."""
    ours: dict[str, Any] = {"author": "ann@example.org", "results": {"dmarc": dmarc}}

    assert judge(shipped, **ours).rule == "forged-us"
    assert judge(shipped, login="ann@example.org", **ours).action is Action.ACCEPT
    assert judge(shipped, client="127.0.0.1", **ours).action is Action.ACCEPT
    assert judge(shipped, client=None, **ours).action is Action.ACCEPT


@pytest.mark.parametrize("dmarc", ["fail", "none"])
def test_nor_in_the_name_of_a_subdomain_of_ours(shipped: Ruleset, dmarc: str) -> None:
    """Whatever its policy is, and none has one of its own (RFC 9989 section 4.10)."""
    assert judge(shipped, author="ceo@mail.example.org", results={"dmarc": dmarc}).rule == "forged-us"
    assert judge(shipped, author="ceo@badexample.org", results={"dmarc": dmarc}).rule is None


@pytest.mark.parametrize(
    "value",
    [
        [b"CEO <ceo@example.org> ("],
        [b"CEO <@a:ceo@example.org>"],
        [b"ceo@example.org, x@evil.example"],
        [b"ceo@example.org", b"ceo@example.org"],
        [b"ceo@bank.example", b"x@evil.example"],
        [b"CEO of bank.example"],
        [],
    ],
)
def test_mail_without_one_author_does_not_come_in(shipped: Ruleset, value: list[bytes]) -> None:
    """Who reads it might see any author; of a bounce, where nobody hears of a refusal, somebody decides."""
    fields = [HeaderField(b"From", b" " + one + b"\r\n") for one in value]
    sender = "mallory@evil.example"
    evidence = authenticate(moment(EOM, sender=sender), fields, [], ZoneResolver(""))

    assert evidence.author is None
    refused = judge(shipped, sender=sender, evidence=evidence)
    assert str(refused.reply) == "550 5.7.1 From must name one author (DMARC)"
    assert judge(shipped, sender="", evidence=evidence).action is Action.HOLD
    assert judge(shipped, sender=sender, evidence=evidence, login="bob").action is Action.ACCEPT


def test_mail_whose_header_cannot_be_read_is_no_way_in(shipped: Ruleset) -> None:
    """One above max_header_bytes: its author cannot be known, so it is deferred, and a bounce held."""
    unread = {"results": {"dkim": "temperror", "dmarc": "temperror"}}

    assert judge(shipped, sender="mallory@evil.example", **unread).action is Action.DEFER
    assert judge(shipped, sender="", **unread).action is Action.HOLD


@pytest.mark.parametrize("policy", ["none", None])
def test_p_none_changes_nothing(shipped: Ruleset, policy: str | None) -> None:
    """RFC 9989 section 7.4."""
    verdict = judge(
        shipped, author="ann@example.net", dmarc_policy=policy, results={"dmarc": "fail", "spf": "fail"}
    )

    assert verdict.action is Action.CONTINUE


def test_dns_trouble_is_never_a_failure(shipped: Ruleset) -> None:
    """What might be rejected is deferred; what could not be, goes on (RFC 9989 section 5.3.6)."""
    assert (
        judge(shipped, author="a@example.net", results={"dmarc": "temperror", "spf": "fail"}).action
        is Action.DEFER
    )
    assert judge(shipped, author="a@example.net", results={"dmarc": "temperror", "spf": "pass"}).action is (
        Action.CONTINUE
    )


def test_one_mailbox_named_a_thousand_times_is_a_thousand_recipients(shipped: Ruleset) -> None:
    """At rcpt such a message counts once; it is as large as the quota by itself, and nothing more fits."""
    policy = Policy(shipped, MemoryStore(lambda: MIDNIGHT), Door.MILTER)
    first, second = (moment(EOM, name, login="bob", recipient_count=count) for name, count in COPIES)

    assert policy.decide(first).action is Action.ACCEPT
    assert policy.decide(second).rule == "user-copies"


def test_the_page_has_the_tables_that_the_code_has() -> None:
    """They are generated: write them anew when a fact or an action changes."""
    page = (ROOT / "docs" / "rules.md").read_text()

    assert facts_reference() in page
    assert actions_reference() in page


def test_the_limits_of_the_page_are_right() -> None:
    """Each line of the reference, as a rule."""
    page = (ROOT / "docs" / "rules.md").read_text()
    lines = re.findall(r"^    (limit \S.*)$", page, re.MULTILINE)
    table = 'table quotas = file "quotas.csv"\n'

    assert len(lines) == 5
    for line in lines:
        text = f"{table}at end-of-message {{ a: {line} }}"
        assert ruleset_of(text, files={"quotas.csv": ""}).rules


def local(number: int, sender: str = "www-data@mx.example.org", helo: str = "localhost") -> Transaction:
    """A message of the sendmail command, as Postfix tells a milter of it."""
    return moment(EOM, f"1a.{number}.0", client="127.0.0.1", helo=helo, sender=sender, recipient_count=1)


def test_a_web_form_is_held_and_its_neighbours_and_list_software_are_not(shipped: Ruleset) -> None:
    """200 recipients in an hour; whoever speaks SMTP on this machine says another name in HELO."""
    policy = Policy(shipped, MemoryStore(lambda: MIDNIGHT), Door.MILTER)
    answers = [policy.decide(local(number)) for number in range(201)]

    assert {answer.action for answer in answers[:200]} == {Action.ACCEPT}
    assert (answers[200].action, answers[200].rule) == (Action.HOLD, "web-forms")
    assert policy.decide(local(201, sender="shop@example.org")).action is Action.ACCEPT
    assert policy.decide(local(202, helo="lists.example.org")).action is Action.ACCEPT


def test_a_login_that_writes_to_500_strangers_in_a_day_is_held(shipped: Ruleset) -> None:
    """The 501st waits; nobody is refused for it."""
    clock = [MIDNIGHT]
    policy = Policy(shipped, MemoryStore(lambda: clock[0]), Door.POLICY)

    def to(number: int, login: str) -> Verdict:
        clock[0] += 2.0
        return policy.decide(
            moment(instance=f"1a.{login}.{number}", login=login, recipient=f"r{number}@example.net")
        )

    answers = [to(number, "bob@example.org") for number in range(501)]
    assert {answer.action for answer in answers[:500]} == {Action.CONTINUE}
    assert (answers[500].action, answers[500].rule) == (Action.HOLD, "user-crowd")
