from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mailreeve_policyd.audit import AuditLog
from mailreeve_policyd.authres import MethodResult
from mailreeve_policyd.blocks import Gather
from mailreeve_policyd.door import PolicyConnection, PolicyDoor
from mailreeve_policyd.errors import ProtocolError
from mailreeve_policyd.question import Question
from mailreeve_policyd.resolver import NotAtHandError
from mailreeve_policyd.sink import Sink
from mailreeve_policyd.sink_file import FileSink
from mailreeve_policyd.smtp import Stage
from mailreeve_policyd.transaction import Evidence, Transaction
from mailreeve_policyd.verdict import Action, AddHeader, Verdict

RCPT = {"request": "smtpd_access_policy", "protocol_state": "RCPT", "recipient": "alice@example.org"}


class Records:
    """A sink that keeps what is written."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []

    def write(self, line: bytes) -> None:
        self.lines.append(line)

    def reopen(self) -> None:
        """Nothing is open."""

    def close(self) -> None:
        """Nothing is open."""

    @property
    def only(self) -> dict[str, Any]:
        [line] = self.lines
        record: dict[str, Any] = msgspec.json.decode(line)
        return record


class Scripted:
    """Decides as it was told, and remembers what it was asked."""

    def __init__(self, outcome: Verdict | Exception) -> None:
        self.outcome = outcome
        self.asked: list[tuple[Transaction, tuple[Stage, ...]]] = []

    def decide(self, transaction: Transaction, stages: tuple[Stage, ...]) -> Verdict:
        self.asked.append((transaction, stages))
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome

    def decide_each(
        self, questions: Sequence[tuple[Transaction, tuple[Stage, ...]]]
    ) -> list[Verdict | Exception]:
        self.asked += questions
        return [
            ValueError("a bug") if str(transaction.recipient) == "bug@example.org" else self.outcome
            for transaction, _ in questions
        ]


def find_all(_: Transaction, asked: frozenset[str]) -> Evidence:
    """What is asked for passes."""
    return Evidence(tuple(MethodResult(name, "pass") for name in asked))


def door_of(
    policy: Scripted,
    records: Sink,
    needs: Iterable[str] = (),
    decides: Iterable[Stage] = Stage,
    gather: Gather = find_all,
) -> PolicyDoor:
    ticks = iter(range(100))
    return PolicyDoor(
        policy=policy,
        needs=lambda _: frozenset(needs),
        decides=frozenset(decides),
        gather=gather,
        audit=AuditLog("policyd", records),
        stopwatch=lambda: float(next(ticks)),
    )


def test_the_record_says_how_long_what_took() -> None:
    """A slow answer must be traceable to DNS or to the decision."""
    records = Records()
    door = door_of(Scripted(Verdict(Action.CONTINUE, Stage.RCPT)), records)

    assert door.connection().answer(RCPT) == b"action=DUNNO\n\n"
    assert records.only["spent_ms"] == {"total": 2000.0, "evidence": 1000.0, "decision": 1000.0}


def test_rules_see_the_evidence_that_they_need() -> None:
    """Gathered before the decision, once."""
    policy = Scripted(Verdict(Action.CONTINUE, Stage.RCPT))
    door_of(policy, Records(), needs={"iprev"}).connection().answer(RCPT)

    [(transaction, stages)] = policy.asked
    assert transaction.evidence is not None
    assert transaction.evidence.result("iprev") is not None
    assert stages == (Stage.CONNECT, Stage.HELO, Stage.MAIL, Stage.RCPT)


def test_a_bug_while_deciding_leaves_neither_answer_nor_record() -> None:
    """The server logs it and closes; the record holds what was answered."""
    records = Records()
    door = door_of(Scripted(ZeroDivisionError("a bug")), records)

    with pytest.raises(ZeroDivisionError):
        door.connection().answer(RCPT)
    assert records.lines == []


def test_a_request_without_a_state_is_a_protocol_error() -> None:
    """It is closed without an answer."""
    door = door_of(Scripted(Verdict(Action.CONTINUE, Stage.RCPT)), Records())

    with pytest.raises(ProtocolError):
        door.connection().answer({"request": "smtpd_access_policy"})


def test_a_stage_of_the_other_daemon_asks_nobody() -> None:
    """DUNNO, no decision, no record."""
    policy, records = Scripted(Verdict(Action.CONTINUE, Stage.RCPT)), Records()
    door = door_of(policy, records, decides={Stage.DATA})

    assert door.connection().answer(RCPT) == b"action=DUNNO\n\n"
    assert (policy.asked, records.lines) == ([], [])


def test_the_record_names_fields_that_were_added_and_those_that_were_not() -> None:
    """An answer carries one field."""
    records = Records()
    edits = (AddHeader("X-A", "1"), AddHeader("X-B", "2"))
    policy = Scripted(Verdict(Action.CONTINUE, Stage.RCPT, edits=edits, skipped=("rule-c",)))

    assert door_of(policy, records).connection().answer(RCPT) == b"action=PREPEND X-A: 1\n\n"
    assert (records.only["added"], records.only["skipped"]) == (["X-A"], ["rule-c", "add-header X-B"])


def test_connections_do_not_share_their_memory() -> None:
    """Two smtpd processes handle two messages, whatever they have in common."""
    policy = Scripted(Verdict(Action.CONTINUE, Stage.RCPT))
    door = door_of(policy, Records())
    request = RCPT | {"instance": "1"}
    for connection in (door.connection(), door.connection()):
        connection.answer(request)

    assert [len(stages) for _, stages in policy.asked] == [4, 4]


def questions_of(door: PolicyDoor, *recipients: str) -> list[Question[PolicyConnection]]:
    """One of a connection each."""
    return [Question(door.connection(), RCPT | {"recipient": each}) for each in recipients]


def test_questions_of_several_connections_are_decided_at_once() -> None:
    """Each gets its answer and its line in the record; the policy is asked once for all."""
    policy, records = Scripted(Verdict(Action.CONTINUE, Stage.RCPT)), Records()
    door = door_of(policy, records)
    questions = questions_of(door, "a@example.org", "b@example.org")
    door.answer_each(questions)

    assert [question.answer for question in questions] == [b"action=DUNNO\n\n"] * 2
    assert [str(transaction.recipient) for transaction, _ in policy.asked] == [
        "a@example.org",
        "b@example.org",
    ]
    assert len(records.lines) == 2


def test_what_is_decided_at_once_is_written_at_once(tmp_path: Path) -> None:
    """Before the answers go: whoever has one finds it in the record, even if the process is killed."""
    door = door_of(Scripted(Verdict(Action.CONTINUE, Stage.RCPT)), FileSink(tmp_path / "audit.jsonl"))
    door.answer_each(questions_of(door, "a@example.org", "b@example.org"))

    lines = (tmp_path / "audit.jsonl").read_bytes().splitlines()
    recipients = [msgspec.json.decode(line)["recipients"] for line in lines]
    assert recipients == [["a@example.org"], ["b@example.org"]]
    door.audit.reopen()


def test_a_bug_with_one_question_is_no_matter_of_the_others() -> None:
    """The connection of that one ends; the others are answered."""
    door = door_of(Scripted(Verdict(Action.CONTINUE, Stage.RCPT)), Records())
    questions = questions_of(door, "a@example.org", "bug@example.org")
    broken = Question(door.connection(), {"request": "smtpd_access_policy"})
    door.answer_each([*questions, broken])

    assert [question.answer for question in (*questions, broken)] == [b"action=DUNNO\n\n", None, None]
    assert [type(question.error) for question in (*questions, broken)] == [
        type(None),
        ValueError,
        ProtocolError,
    ]


def test_what_must_wait_for_dns_is_asked_again_when_it_has() -> None:
    """The others are answered at once; what was found out is there when it is asked again."""
    policy = Scripted(Verdict(Action.CONTINUE, Stage.RCPT))

    def gather(transaction: Transaction, needs: frozenset[str]) -> Evidence:
        if threading.get_ident() == here:
            raise NotAtHandError
        return Evidence(tuple(MethodResult(name, "pass") for name in needs))

    here = threading.get_ident()
    door = door_of(policy, Records(), needs={"iprev"}, gather=gather)
    [question] = questions_of(door, "a@example.org")
    door.answer_each([question])
    assert (question.answer, question.error) == (None, None)
    assert question.wait_for is not None

    thread = threading.Thread(target=question.wait_for)
    thread.start()
    thread.join()
    door.answer_each([question])

    assert question.answer == b"action=DUNNO\n\n"
    [(transaction, _)] = policy.asked
    assert transaction.evidence is not None
    assert transaction.evidence.result("iprev") is not None


def test_a_bug_while_waiting_is_told_when_it_is_asked_again() -> None:
    """A thread that waits tells nobody: the question does."""

    def gather(transaction: Transaction, needs: frozenset[str]) -> Evidence:
        if threading.get_ident() == here:
            raise NotAtHandError
        raise ZeroDivisionError

    here = threading.get_ident()
    door = door_of(Scripted(Verdict(Action.CONTINUE, Stage.RCPT)), Records(), needs={"spf"}, gather=gather)
    [question] = questions_of(door, "a@example.org")
    door.answer_each([question])
    assert question.wait_for is not None
    thread = threading.Thread(target=question.wait_for)
    thread.start()
    thread.join()
    question.wait_for = None
    door.answer_each([question])

    assert isinstance(question.error, ZeroDivisionError)
