"""After the decision: notices are handed on and hold nothing up; our own pass by every rule."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address

from msgspec.structs import replace

from mailreeve_policyd.facts import Door
from mailreeve_policyd.limits_memory import MemoryStore
from mailreeve_policyd.notices import OWN_NOTICE, NoticeOffice, NoticingPolicy, Question
from mailreeve_policyd.notices_courier import Attempt, Courier, Fate, Patience
from mailreeve_policyd.notices_event import NoticeEvent
from mailreeve_policyd.notices_mark import PREFIX, NoticeMarks, make_mark
from mailreeve_policyd.policy import Policy
from mailreeve_policyd.rules.networks import NetworkSet
from mailreeve_policyd.smtp import Stage, parse_mailbox
from mailreeve_policyd.transaction import Envelope, Session, Transaction
from mailreeve_policyd.verdict import Action, Verdict
from tests.lab.process import wait_until
from tests.policyd.limit_stores import HandClock
from tests.policyd.notice_services import BOBS, REPORTER
from tests.policyd.rules_text import ruleset_of

SECRET = bytes(32)
ROOT = parse_mailbox("root@example.org")
RULES = """
at rcpt {
    day:   limit 10 recipients/day per sasl_username  warn at 80%
    none:  reject  if client_address in (127.0.0.1)
}
"""


@dataclass
class Desk:
    """A Target that may be made to wait."""

    name: str = "mail"
    told: list[NoticeEvent] = field(default_factory=list)
    is_open: threading.Event = field(default_factory=threading.Event)

    def addressees(self, event: NoticeEvent) -> Sequence[str]:
        return ("root@example.org",)

    def deliver(self, event: NoticeEvent, addressee: str) -> Attempt:
        self.is_open.wait(30)
        self.told.append(event)
        return Attempt(Fate.TAKEN, "250")


@dataclass
class Beside:
    """A policy with an office and a desk in memory."""

    clock: HandClock = field(default_factory=HandClock)
    desk: Desk = field(default_factory=Desk)

    def __post_init__(self) -> None:
        store = MemoryStore(self.clock)
        policy = Policy(ruleset_of(RULES), store, Door.POLICY, clock=self.clock)
        self.office = NoticeOffice(REPORTER, [Courier(self.desk, Patience())])
        marks = NoticeMarks(lambda: SECRET, store, Door.POLICY, NetworkSet(()), self.clock)
        self.policy = NoticingPolicy(policy, self.office, marks)

    def notice(self, recipient: str = "root@example.org") -> Transaction:
        """Mail with a mark for the administrator."""
        helo = f"{PREFIX}{make_mark(SECRET, 'root@example.org', self.clock())}.mx.example.org"
        session = Session(client_address=ip_address("127.0.0.1"), helo_name=helo)
        return Transaction(
            Stage.RCPT, session, Envelope(None), recipient=parse_mailbox(recipient), instance="n"
        )


def questions(first: int, count: int) -> list[Question]:
    return [
        (replace(BOBS, instance=str(number), recipient=ROOT), (Stage.RCPT,))
        for number in range(first, first + count)
    ]


def test_a_decision_never_waits_for_a_notice() -> None:
    """The verdict is there while whoever brings the notice has not even begun to be answered."""
    beside = Beside()

    verdicts = [beside.policy.decide(*question) for question in questions(0, 9)]

    assert [len(verdict.notices) for verdict in verdicts] == [0] * 7 + [1, 0]
    assert beside.desk.told == []
    assert beside.office.counters()[0].waiting == 1
    beside.desk.is_open.set()
    beside.office.close(30.0)
    (event,) = beside.desk.told
    assert (event.kind, event.rule, event.login) == ("warning", "day", "bob@example.org")
    assert event.standing is not None
    assert event.standing.used == 8
    assert beside.office.counters()[0].sent == 1


def test_requests_that_are_decided_together_tell_as_well() -> None:
    """One batch that crosses the share and one that exceeds the maximum: one notice each."""
    beside = Beside()
    beside.desk.is_open.set()

    beside.policy.decide_each(questions(0, 9))
    beside.policy.decide_each(questions(9, 9))
    beside.office.close(30.0)

    assert [event.kind for event in beside.desk.told] == ["warning", "exceeded"]


def test_our_own_notice_is_no_mail_for_the_rules() -> None:
    """A rule that rejects all mail from here lets it through; its neighbours in a batch are decided."""
    beside = Beside()
    strangers = replace(beside.notice(), session=Session(client_address=ip_address("127.0.0.1")))

    alone = beside.policy.decide(beside.notice(), (Stage.RCPT,))
    together = beside.policy.decide_each(
        [(beside.notice(), (Stage.RCPT,)), (strangers, (Stage.RCPT,)), *questions(0, 1)]
    )

    expected = Verdict(Action.ACCEPT, Stage.RCPT, rule=OWN_NOTICE)
    assert alone == together[0] == expected
    actions = [each.action for each in together if isinstance(each, Verdict)]
    assert actions == [Action.ACCEPT, Action.REJECT, Action.CONTINUE]


def test_a_mark_for_somebody_else_is_decided_as_all_mail() -> None:
    """The name in EHLO alone is worth nothing."""
    beside = Beside()

    assert beside.policy.decide(beside.notice("ann@example.net"), (Stage.RCPT,)).action is Action.REJECT


def test_an_office_without_targets_tells_nobody() -> None:
    """No thread, no counters."""
    office = NoticeOffice(REPORTER, [])
    before = threading.active_count()

    office.tell(BOBS, Verdict(Action.CONTINUE, Stage.RCPT))

    assert office.counters() == ()
    assert threading.active_count() == before
    office.close(0.0)


def test_one_target_that_hangs_holds_up_no_other() -> None:
    """Each has a thread of its own: mail comes while the webhook waits."""
    mail, webhook = Desk(), Desk("webhook")
    mail.is_open.set()
    office = NoticeOffice(REPORTER, [Courier(webhook, Patience()), Courier(mail, Patience())])
    store = MemoryStore(HandClock())
    policy = Policy(ruleset_of(RULES), store, Door.POLICY)
    noticing = NoticingPolicy(policy, office, NoticeMarks(lambda: None, store, Door.POLICY, NetworkSet(())))

    noticing.decide_each(questions(0, 9))
    wait_until(lambda: len(mail.told) == 1, "the mail")

    assert webhook.told == []
    webhook.is_open.set()
    office.close(30.0)
