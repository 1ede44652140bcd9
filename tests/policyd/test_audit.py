from __future__ import annotations

import json
import logging
import os
import resource
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailreeve_policyd.audit import SILENT_SECONDS, AuditLog, Signature, open_audit_log, open_sink
from mailreeve_policyd.audit_line import MAX_LINE_OCTETS
from mailreeve_policyd.audit_record import AuditRecord
from mailreeve_policyd.authres import MethodResult
from mailreeve_policyd.config import parse_configuration
from mailreeve_policyd.errors import ConfigError
from mailreeve_policyd.escape import escape
from mailreeve_policyd.notice import Notice, NoticeKind
from mailreeve_policyd.sink import Sink, Written
from mailreeve_policyd.sink_file import FileSink
from mailreeve_policyd.sink_journal import JournalSink
from mailreeve_policyd.sink_stream import StreamSink
from mailreeve_policyd.sink_syslog import Syslog, SyslogAddress, SyslogSink
from mailreeve_policyd.smtp import EnhancedStatus, Reply, Stage, parse_domain, parse_mailbox
from mailreeve_policyd.transaction import Envelope, Evidence, Session, Tls, Transaction, parse_address
from mailreeve_policyd.verdict import Action, AddHeader, LimitUsage, Observed, Verdict

NOON = datetime(2026, 3, 1, 13, 0, 0, 123456, tzinfo=timezone(timedelta(hours=1)))
SPENT = {"total": 0.00123456, "decision": 0.001}


class Lines:
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
    def records(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.lines]


def audit_to(sink: Lines) -> AuditLog:
    return AuditLog("policyd", sink, lambda: NOON)


def full_transaction(text: str = "x", count: int = 1) -> Transaction:
    """Every place that a text can have, filled with it."""
    mailbox = parse_mailbox(text or "x")
    session = Session(
        client_address=parse_address("2001:db8:1111:2222:3333:4444:5555:6666"),
        client_port=65535,
        client_name=text,
        helo_name=text,
        sasl_username=text,
        tls=Tls(text, text, 2**70, text, text, text, text),
        policy_context=text,
    )
    properties = {f"smtp.{number}{text}": text for number in range(count)}
    return Transaction(
        Stage.RCPT,
        session,
        Envelope(mailbox, (mailbox,) * count),
        recipient_count=2**70,
        size=2**70,
        queue_id=text,
        instance=text,
        evidence=Evidence((MethodResult(text, text, properties, text),) * count, mailbox, dmarc_policy=text),
        message_id=text,
    )


def full_verdict(text: str = "x", count: int = 1) -> Verdict:
    return Verdict(
        Action.DEFER,
        Stage.MAIL,
        rule=text,
        reply=Reply(450, EnhancedStatus(4, 7, 1), text),
        reason=text,
        edits=(AddHeader(text, text),) * count,
        warnings=(text,) * count,
        limits=(LimitUsage(text, 2**70, 2**70, True, timedelta(days=31), True, True),) * count,
        unknown=(text,) * count,
        skipped=(text,) * count,
        target=text,
        copies=(text,) * count,
        notices=(Notice(NoticeKind.EXCEEDED, text, Stage.RCPT, text, b"", timedelta(days=31)),) * count,
        observed=(Observed(text, Stage.END_OF_MESSAGE, "add-header", text),) * count,
    )


def warned_transaction(**names: Any) -> Transaction:
    session = Session(client_address=parse_address("192.0.2.7"))
    return Transaction(Stage.RCPT, session, Envelope(parse_mailbox("bob@example.net")), **names)


def test_what_rules_say_is_escaped_once() -> None:
    """Values that stand in a reply were escaped when it was made: the record shows what the client saw."""
    sink = Lines()
    text = r"Not from \xff\\x"
    verdict = Verdict(
        Action.REJECT,
        Stage.RCPT,
        rule="no",
        reply=Reply(550, EnhancedStatus(5, 7, 1), text),
        reason=text,
        warnings=(f"no: {text}",),
    )

    audit_to(sink).decision(warned_transaction(), verdict, SPENT)

    [record] = sink.records
    assert record["verdict"]["reply"] == f"550 5.7.1 {text}"
    assert record["verdict"]["reason"] == text
    assert record["warnings"] == [f"no: {text}"]


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ({"queue_id": "4ABC", "instance": "1f.2"}, "4ABC: warned by tell: look at bob"),
        ({"instance": "1f.2\nx"}, r"1f.2\x0ax: warned by tell: look at bob"),
        ({}, "192.0.2.7: warned by tell: look at bob"),
    ],
)
def test_a_warning_is_written_to_the_log_once(
    names: dict[str, str], said: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Level warning, with what the MTA calls the message; an answer that is repeated does not warn again."""
    audit = audit_to(Lines())
    verdict = Verdict(Action.CONTINUE, Stage.RCPT, warnings=("tell: look at bob",))

    for is_repeated in (False, True):
        audit.decision(warned_transaction(**names), verdict, SPENT, repeated=is_repeated)

    assert [(one.levelname, one.getMessage()) for one in caplog.records] == [("WARNING", said)]


def test_a_decision_is_one_json_line_with_its_keys() -> None:
    """What an operator asks of a line: when, who, what, why, and how long it took."""
    sink = Lines()
    transaction = Transaction(
        Stage.RCPT,
        Session(client_address=parse_address("192.0.2.7"), client_port=40000, helo_name="mail.example.net"),
        Envelope(parse_mailbox("bob@example.net")),
        recipient=parse_mailbox("alice@example.org"),
        size=1234,
        instance="1f.2.3.0",
    )
    verdict = Verdict(
        Action.DEFER,
        Stage.RCPT,
        rule="user-day",
        reply=Reply(450, EnhancedStatus(4, 7, 1), "Daily limit reached"),
        limits=(LimitUsage("user-day", 1000, 1000, True, timedelta(seconds=61.2)),),
    )

    audit_to(sink).decision(transaction, verdict, SPENT)

    assert sink.lines[0].endswith(b"}\n")
    assert sink.records == [
        {
            "time": "2026-03-01T12:00:00.123Z",
            "daemon": "policyd",
            "event": "decision",
            "stage": "rcpt",
            "instance": "1f.2.3.0",
            "client": {"address": "192.0.2.7", "port": 40000},
            "helo": "mail.example.net",
            "sender": "bob@example.net",
            "recipients": ["alice@example.org"],
            "size": 1234,
            "verdict": {
                "action": "defer",
                "stage": "rcpt",
                "rule": "user-day",
                "reply": "450 4.7.1 Daily limit reached",
            },
            "limits": [
                {
                    "rule": "user-day",
                    "used": 1000,
                    "maximum": 1000,
                    "exceeded": True,
                    "retry_after_seconds": 62,
                }
            ],
            "spent_ms": {"total": 1.235, "decision": 1.0},
        }
    ]


def test_a_message_carries_results_signatures_and_changes() -> None:
    """What only the milter knows."""
    sink = Lines()
    transaction = Transaction(
        Stage.END_OF_MESSAGE,
        Session(),
        Envelope(None, (parse_mailbox("alice@example.org"), parse_mailbox("carol@example.com"))),
        queue_id="4B1",
        message_id="<1@example.net>",
        evidence=Evidence(
            (MethodResult("dkim", "pass", {"header.d": "example.net"}, "good"),),
            parse_mailbox("bob@example.net"),
            dmarc_policy="reject",
        ),
    )

    AuditLog("milter", sink, lambda: NOON).message(
        transaction,
        Verdict(Action.ACCEPT, Stage.END_OF_MESSAGE, rule="lists", edits=(AddHeader("X-A", "b"),)),
        SPENT,
        signatures=[Signature("example.org", "r2026", "rsa-sha256")],
        added=["Authentication-Results"],
        removed=["Authentication-Results"],
        error="DNS",
    )

    [record] = sink.records
    assert (record["daemon"], record["event"], record["sender"]) == ("milter", "message", "<>")
    assert record["recipients"] == ["alice@example.org", "carol@example.com"]
    assert (record["queue_id"], record["message_id"]) == ("4B1", "<1@example.net>")
    assert record["results"] == [
        {
            "method": "dkim",
            "result": "pass",
            "properties": {"header.d": "example.net"},
            "reason": "good",
        }
    ]
    assert (record["author_domain"], record["dmarc_policy"]) == ("example.net", "reject")
    assert record["signatures"] == [{"domain": "example.org", "selector": "r2026", "algorithm": "rsa-sha256"}]
    assert record["added"] == ["X-A", "Authentication-Results"]
    assert record["removed"] == ["Authentication-Results"]
    assert record["error"] == "DNS"


def test_each_line_has_its_own_time() -> None:
    """UTC, milliseconds, whatever the clock's zone is, across the second, the day and the year."""
    sink, east = Lines(), timezone(timedelta(hours=1))
    moments = [
        datetime(2027, 1, 1, 0, 59, 59, 999_999, tzinfo=east),
        datetime(2026, 12, 31, 23, 59, 59, 998_000, tzinfo=UTC),
        datetime(2027, 1, 1, 0, 0, 0, 1_500, tzinfo=UTC),
        datetime(2026, 12, 31, 23, 59, 59, 5_000, tzinfo=UTC),
    ]
    clock = iter(moments)
    audit = AuditLog("milter", sink, lambda: next(clock))
    for _ in moments:
        audit.decision(Transaction(Stage.CONNECT, Session()), Verdict(Action.CONTINUE, Stage.CONNECT), SPENT)

    assert [record["time"] for record in sink.records] == [
        "2026-12-31T23:59:59.999Z",
        "2026-12-31T23:59:59.998Z",
        "2027-01-01T00:00:00.001Z",
        "2026-12-31T23:59:59.005Z",
    ]


def test_keys_without_a_value_are_missing_and_the_promised_ones_are_there() -> None:
    """docs/audit.md: seven keys always."""
    sink = Lines()
    audit_to(sink).decision(
        Transaction(Stage.CONNECT, Session()), Verdict(Action.CONTINUE, Stage.CONNECT), {"total": 0.0}
    )

    assert sink.records == [
        {
            "time": "2026-03-01T12:00:00.123Z",
            "daemon": "policyd",
            "event": "decision",
            "stage": "connect",
            "client": {},
            "verdict": {"action": "continue", "stage": "connect"},
            "spent_ms": {"total": 0.0},
        }
    ]


def test_a_repeated_refusal_and_a_degraded_limit_say_so() -> None:
    """Who adds up the record must not count an answer twice; who trusts it must see a store's outage."""
    sink = Lines()
    audit_to(sink).decision(full_transaction(), full_verdict(), SPENT, repeated=True)

    [record] = sink.records
    assert (record["repeated"], record["degraded"]) == (True, True)


@given(st.text(max_size=400), st.integers(0, 60))
@settings(max_examples=60)
def test_a_line_is_bounded_and_whole_whatever_the_wire_held(text: str, count: int) -> None:
    """Any text in every place, any number of items: one line of JSON, short enough for a pipe."""
    sink = Lines()
    _record_everything(sink, text, count)

    [line] = sink.lines
    assert len(line) <= MAX_LINE_OCTETS
    assert line.count(b"\n") == 1
    assert json.loads(line)["event"] == "message"


@pytest.mark.parametrize("text", ['"' * 500, "\\" * 500, "\U0001f4a9" * 500, "\n" * 500, "\udc80" * 500])
def test_the_worst_texts_fit_a_line(text: str) -> None:
    """Quotes double in JSON, an emoji has four octets, a control becomes four characters."""
    sink = Lines()
    _record_everything(sink, text, 60)

    assert len(sink.lines[0]) <= MAX_LINE_OCTETS
    assert sink.records[0]["truncated"] is True


def test_how_long_a_line_may_be_is_a_setting(tmp_path: Path) -> None:
    """Where the record goes to a file: what would be shortened by default is whole."""
    text = f'[audit]\nto = "file"\nfile = "{tmp_path}/audit.jsonl"\nmax_line_bytes = '
    lengths = []
    for most in (4096, 32_768):
        audit = open_audit_log(parse_configuration(f"{text}{most}\n".encode(), tmp_path / "x.toml"), "milter")
        audit.message(full_transaction("a" * 200, 4), full_verdict("a" * 200, 4), SPENT)
        line = (tmp_path / "audit.jsonl").read_bytes().splitlines(keepends=True)[-1]
        assert len(line) <= most
        lengths.append((len(line) > 4096, json.loads(line).get("truncated", False)))

    assert lengths == [(False, True), (True, False)]


@pytest.mark.parametrize(
    "text",
    [
        "max_line_bytes = 4095",
        'max_line_bytes = 32769\nto = "file"',
        "max_line_bytes = 4097",
        'max_line_bytes = 4097\nto = "syslog"',
    ],
)
def test_a_line_is_neither_too_short_to_say_all_nor_too_long_for_its_place(text: str) -> None:
    """The shortest record needs so much; a pipe takes no more in one piece."""
    with pytest.raises(ConfigError, match=r"audit\.max_line_bytes"):
        parse_configuration(f"[audit]\n{text}\n".encode(), Path("mailreeve.toml"))


def _record_everything(sink: Lines, text: str, count: int) -> None:
    audit_to(sink).message(
        full_transaction(text, count),
        full_verdict(text, count),
        {"total": 1e6, "evidence": 1e6, "decision": 1e6, "signing": 1e6},
        signatures=[Signature(text, text, text)] * count,
        added=[text] * count,
        removed=[text] * count,
        error=text,
    )


def test_text_of_the_wire_is_escaped() -> None:
    """Controls, terminal sequences and lone octets are shown, not sent."""
    sink = Lines()
    session = Session(helo_name="a\x1b[31m\udcff\u2028b")
    audit_to(sink).decision(Transaction(Stage.HELO, session), Verdict(Action.CONTINUE, Stage.HELO), SPENT)

    assert sink.records[0]["helo"] == r"a\x1b[31m\xff\u2028b"


AWKWARD = '"\\\x7f\x1b\n\udc80\u00e9\u2028 ab'
"""What JSON escapes, what escape.py escapes, what both do, and what neither does."""


@given(
    st.text(AWKWARD, max_size=20) | st.sampled_from(["x" * 255, "x" * 256, "x" * 254 + "\n", "\x7f"]),
    st.text("ab ", max_size=40),
)
@settings(max_examples=100)
def test_one_awkward_text_is_escaped_and_the_others_stay(awkward: str, plain: str) -> None:
    """A line is looked at as a whole: wherever in it the one text stands, nothing else changes."""
    sink = Lines()
    bob, alice = parse_mailbox(plain), parse_mailbox(awkward)
    for helo, login, sender, recipient in ((awkward, plain, bob, alice), (plain, awkward, alice, bob)):
        transaction = Transaction(
            Stage.RCPT,
            Session(helo_name=helo, sasl_username=login),
            Envelope(sender),
            recipient=recipient,
            evidence=Evidence((MethodResult("spf", "pass", {helo: login}, helo),)),
        )
        audit_to(sink).decision(transaction, Verdict(Action.CONTINUE, Stage.RCPT), SPENT)
        record = sink.records[-1]

        assert (record["helo"], record["login"]) == (escape(helo), escape(login))
        assert (record["sender"], record["recipients"]) == (escape(str(sender)), [escape(str(recipient))])
        assert record["results"] == [
            {
                "method": "spf",
                "result": "pass",
                "properties": {escape(helo): escape(login)},
                "reason": escape(helo),
            }
        ]
        assert "truncated" not in record


def test_lists_are_cut_where_every_text_is_plain() -> None:
    """32 entries of each, and only recipients that are missing make a line a truncated one."""
    sink = Lines()
    mailboxes = (parse_mailbox("a@b.example"),) * 33
    for envelope in (Envelope(None, mailboxes), Envelope(None)):
        audit_to(sink).decision(
            Transaction(Stage.DATA, Session(), envelope),
            Verdict(Action.CONTINUE, Stage.DATA, unknown=("spf",) * 33, skipped=("x",) * 32),
            SPENT,
        )

    counts = [
        (len(one.get("recipients", ())), len(one["unknown"]), len(one["skipped"])) for one in sink.records
    ]
    assert counts == [(32, 32, 32), (0, 32, 32)]
    assert [one.get("truncated", False) for one in sink.records] == [True, False]


# -- where lines go ---------------------------------------------------------------------------------------


def test_a_file_is_appended_to_by_several_logs(tmp_path: Path) -> None:
    """Workers share a file: what is there stays."""
    path = tmp_path / "audit.jsonl"
    first, second = FileSink(path), FileSink(path)
    first.write(b"1\n")
    second.write(b"2\n")
    first.write(b"3\n")

    assert path.read_bytes() == b"1\n2\n3\n"
    first.close()
    second.close()


def test_a_torn_line_does_not_spoil_the_next(tmp_path: Path) -> None:
    """A disk that becomes full in the middle of a line tears that record alone."""
    path = tmp_path / "audit.jsonl"
    sink = FileSink(path)
    sink.write(b'{"n":1}\n')
    with file_size_limit(12), pytest.raises(OSError, match="only 4 of 8 octets"):
        sink.write(b'{"n":2}\n')
    sink.write(b'{"n":3}\n')
    sink.write(b'{"n":4}\n')

    assert path.read_bytes() == b'{"n":1}\n{"n"\n{"n":3}\n{"n":4}\n'
    sink.close()


def test_of_several_lines_a_full_disk_tears_one(tmp_path: Path) -> None:
    """Those before it are there, and it is told how many; the next one has a line of its own."""
    path = tmp_path / "audit.jsonl"
    sink = FileSink(path)
    with file_size_limit(7):
        written = sink.write_each([b"1\n", b"2\n", b"3\n", b"4\n"])
        assert (written.count, str(written.error)) == (3, "only 7 of 8 octets were written")
        written = sink.write_each([b"5\n", b"6\n"])
        assert (written.count, type(written.error)) == (0, OSError)
    assert sink.write_each([b"7\n", b"8\n"]) == Written(2)

    assert path.read_bytes() == b"1\n2\n3\n4\n7\n8\n"
    sink.close()


def test_a_line_that_did_not_fit_at_all_leaves_nothing_behind(tmp_path: Path) -> None:
    """No empty line either: every line of the record is one of JSON."""
    path = tmp_path / "audit.jsonl"
    sink = FileSink(path)
    sink.write(b"1\n")
    with file_size_limit(2), pytest.raises(OSError, match="File too large"):
        sink.write(b"2\n")
    sink.write(b"3\n")

    assert path.read_bytes() == b"1\n3\n"
    sink.close()


@pytest.mark.parametrize(("left", "found"), [(b"1\n{", b"1\n{\n2\n"), (b"1\n", b"1\n2\n"), (b"", b"2\n")])
def test_a_line_that_a_dead_process_left_unfinished_is_ended(
    tmp_path: Path, left: bytes, found: bytes
) -> None:
    """So the first record after a power cut can be read."""
    path = tmp_path / "audit.jsonl"
    path.write_bytes(left)
    sink = FileSink(path)
    sink.write(b"2\n")

    assert path.read_bytes() == found
    sink.close()


def test_a_pipe_in_the_files_place_is_never_waited_for(tmp_path: Path) -> None:
    """Neither for somebody to read it nor for room in it: mail goes on, and what is read is recorded."""
    path = tmp_path / "audit.jsonl"
    os.mkfifo(path)
    sink = FileSink(path)
    with pytest.raises(OSError, match="No such device"):
        sink.write(b"1\n")

    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    sink.write(b"2\n")
    assert os.read(reader, 10) == b"2\n"
    fill(path)
    with pytest.raises(BlockingIOError):
        sink.write(b"3\n")
    os.close(reader)
    with pytest.raises(BrokenPipeError):
        sink.write(b"4\n")
    sink.close()


def fill(pipe: Path) -> None:
    """Leave no room in a pipe."""
    writer = os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
    with suppress(BlockingIOError):
        while True:
            os.write(writer, bytes(4096))
    os.close(writer)


@contextmanager
def file_size_limit(octets: int) -> Iterator[None]:
    """A disk that is full: no file of this process grows beyond this size."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (octets, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_rotated_file_is_opened_anew(tmp_path: Path) -> None:
    """Lines go to the file that has the name, whether logrotate made one or not: within a second."""
    path, now = tmp_path / "audit.jsonl", [7.0]
    sink = FileSink(path, lambda: now[0])
    sink.write(b"1\n")
    path.rename(tmp_path / "audit.jsonl.1")
    now[0] += 0.5
    sink.write(b"2\n")
    now[0] += 0.5
    sink.write(b"3\n")

    assert (tmp_path / "audit.jsonl.1").read_bytes() == b"1\n2\n"
    assert path.read_bytes() == b"3\n"
    sink.close()


def test_a_signal_has_a_rotated_file_opened_at_once(tmp_path: Path) -> None:
    """SIGUSR1 comes to `reopen`: no line is written to the old file afterwards."""
    path = tmp_path / "audit.jsonl"
    sink = FileSink(path, lambda: 7.0)
    sink.write(b"1\n")
    path.rename(tmp_path / "audit.jsonl.1")
    sink.reopen()
    sink.write(b"2\n")

    assert (tmp_path / "audit.jsonl.1").read_bytes() == b"1\n"
    assert path.read_bytes() == b"2\n"
    sink.close()


def test_lines_of_many_threads_stay_whole(tmp_path: Path) -> None:
    """Each is a single write, also while the file is rotated."""
    path = tmp_path / "audit.jsonl"
    sink = FileSink(path)

    def write(letter: bytes) -> None:
        for number in range(50):
            sink.write(letter * 1000 + b"\n")
            if number % 10 == 0:
                sink.reopen()

    threads = [threading.Thread(target=write, args=(letter,)) for letter in (b"a", b"b", b"c")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    lines = path.read_bytes().splitlines()
    assert len(lines) == 150
    assert all(line in (b"a" * 1000, b"b" * 1000, b"c" * 1000) for line in lines)
    sink.close()


def test_a_place_that_cannot_be_written_is_said_once_and_mail_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A full disk must not stop mail, nor fill the other log too; the return is said as well."""
    path = tmp_path / "missing" / "audit.jsonl"
    audit = AuditLog("policyd", FileSink(path))
    happened = Transaction(Stage.CONNECT, Session()), Verdict(Action.CONTINUE, Stage.CONNECT), SPENT
    caplog.set_level(logging.INFO)

    for _ in range(3):
        audit.decision(*happened)
    path.parent.mkdir()
    for _ in range(2):
        audit.decision(*happened)

    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("ERROR", "the record cannot be written, mail goes on: No such file or directory"),
        ("INFO", "the record is written again, 3 lines were lost"),
    ]
    assert path.read_bytes().count(b"\n") == 2
    assert (audit.counts.written, audit.counts.lost, audit.counts.recorded()) == (2, 3, 5)
    audit.close()


def test_decisions_made_together_are_written_together(tmp_path: Path) -> None:
    """One write for all, each a line as ever; of a disk that becomes full, what went and what was lost."""
    path = tmp_path / "audit.jsonl"
    audit = AuditLog("policyd", FileSink(path), lambda: NOON)
    happened = Transaction(Stage.CONNECT, Session()), Verdict(Action.CONTINUE, Stage.CONNECT), SPENT
    long = full_transaction("x" * 255, 32), full_verdict("x" * 255, 32), SPENT
    audit.decision(*happened)
    octets = path.stat().st_size

    for room in (3 * octets, 4 * octets + 10):
        together = audit.decisions()
        for one in (happened, happened, long):
            together.decision(*one)
        assert path.stat().st_size == octets, "nothing is written before all is"
        with file_size_limit(room):
            together.write()
        path.write_bytes(path.read_bytes()[:octets])
    assert (audit.counts.written, audit.counts.lost, audit.counts.truncated) == (5, 2, 0)

    together = audit.decisions()
    together.decision(*long)
    together.decision(*happened)
    together.write()
    assert [len(line) > octets for line in path.read_bytes().splitlines()] == [False, True, False]
    assert (audit.counts.written, audit.counts.lost, audit.counts.truncated) == (7, 2, 1)
    audit.close()


def test_decisions_made_together_go_to_any_place(caplog: pytest.LogCaptureFixture) -> None:
    """One that takes a line at a time is given each, and each is counted for itself."""
    audit = AuditLog("policyd", Flapping())
    together = audit.decisions()
    for _ in range(5):
        together.decision(Transaction(Stage.CONNECT, Session()), Verdict(Action.CONTINUE, Stage.CONNECT), {})
    together.write()
    audit.decisions().write()

    assert (audit.counts.written, audit.counts.lost) == (2, 3)
    assert [record.levelname for record in caplog.records] == ["ERROR"]


def full_disk(_: Path) -> Sink:
    return FileSink(Path("/dev/full"))


def syslog_that_is_away(folder: Path) -> Sink:
    return SyslogSink(Syslog(SyslogAddress(path=str(folder / "log")), "mail", "mailreeve-policyd"))


def journal_that_is_away(folder: Path) -> Sink:
    return JournalSink("mailreeve-policyd", "mail", folder / "journal")


@pytest.mark.parametrize("sink", [full_disk, syslog_that_is_away, journal_that_is_away])
def test_no_kind_of_place_stops_mail_when_it_fails(
    sink: Callable[[Path], Sink], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing is raised to the door, the log has one line, and what was lost is counted."""
    audit = AuditLog("policyd", sink(tmp_path))
    for _ in range(3):
        audit.decision(Transaction(Stage.CONNECT, Session()), Verdict(Action.CONTINUE, Stage.CONNECT), SPENT)

    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert (audit.counts.written, audit.counts.lost) == (0, 3)
    audit.close()


def test_a_pipe_whose_reader_hangs_stops_no_mail_and_is_written_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Each outage is said once, however many lines it costs; no line is torn."""
    caplog.set_level(logging.INFO)
    reading, writing = os.pipe()
    now = [0.0]
    audit = AuditLog("policyd", StreamSink(writing, lambda: 0.0), stopwatch=lambda: now[0])
    happened = Transaction(Stage.CONNECT, Session()), Verdict(Action.CONTINUE, Stage.CONNECT), SPENT
    outages, read = 2, b""
    for outage in range(outages):
        while audit.counts.lost < 5 * (outage + 1):
            audit.decision(*happened)
        read += os.read(reading, 1 << 20)
        audit.decision(*happened)
        now[0] += SILENT_SECONDS
    read += os.read(reading, 1 << 20)

    assert [record.levelname for record in caplog.records] == ["ERROR", "INFO"] * outages
    assert "5 lines were lost" in caplog.text
    assert len([json.loads(line) for line in read.splitlines()]) == audit.counts.written
    audit.close()
    os.close(reading)
    os.close(writing)


def test_a_place_that_comes_and_goes_is_not_said_each_time(caplog: pytest.LogCaptureFixture) -> None:
    """Once a minute, with what was lost in between: the log must not grow as the record would have."""
    caplog.set_level(logging.INFO)
    sink, now = Flapping(), [0.0]
    audit = AuditLog("policyd", sink, stopwatch=lambda: now[0])
    for moment in (0.0, 0.0, 0.1, 0.2, 0.3, 0.4, SILENT_SECONDS, SILENT_SECONDS):
        now[0] = moment
        audit.decision(Transaction(Stage.CONNECT, Session()), Verdict(Action.CONTINUE, Stage.CONNECT), SPENT)

    assert [record.getMessage().rpartition(", ")[2] for record in caplog.records] == [
        "mail goes on: full",
        "1 lines were lost",
        "mail goes on: full",
        "3 lines were lost",
    ]


def test_what_is_lost_in_the_minute_after_an_outage_is_told(caplog: pytest.LogCaptureFixture) -> None:
    """Whether or not there is another one by then."""
    caplog.set_level(logging.INFO)
    sink, now = Flapping(), [0.0]
    audit = AuditLog("policyd", sink, stopwatch=lambda: now[0])
    for moment in (0.0, 0.0, 0.1, 0.2, SILENT_SECONDS - 0.1, SILENT_SECONDS, SILENT_SECONDS + 0.1):
        now[0] = moment
        audit.decision(Transaction(Stage.CONNECT, Session()), Verdict(Action.CONTINUE, Stage.CONNECT), SPENT)

    assert [record.getMessage().rpartition(", ")[2] for record in caplog.records] == [
        "mail goes on: full",
        "1 lines were lost",
        "2 lines were lost",
    ]


class Flapping:
    """A sink that takes every second line."""

    def __init__(self) -> None:
        self.takes = True

    def write(self, line: bytes) -> None:
        self.takes = not self.takes
        if not self.takes:
            raise BlockingIOError(11, "full")

    def reopen(self) -> None:
        """Nothing is open."""

    def close(self) -> None:
        """Nothing is open."""


def test_records_that_were_shortened_are_counted() -> None:
    """And none is counted for a text that only looks so."""
    sink = Lines()
    audit = audit_to(sink)
    looks = Transaction(Stage.HELO, Session(helo_name='"truncated":true'))
    audit.decision(looks, Verdict(Action.CONTINUE, Stage.HELO), SPENT)
    assert audit.counts.truncated == 0
    audit.decision(full_transaction("x" * 255, 32), full_verdict("x" * 255, 32), SPENT)

    assert audit.counts.truncated == 1
    assert len(sink.lines) == 2


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ('to = "stdout"', StreamSink),
        ('to = "file"', FileSink),
        ('to = "syslog"', SyslogSink),
        ('to = "journal"', JournalSink),
    ],
)
def test_each_word_of_the_setting_is_a_place(text: str, kind: type) -> None:
    """`[audit] to`."""
    configuration = parse_configuration(f"[audit]\n{text}\n".encode(), Path("mailreeve.toml"))

    assert isinstance(open_sink(configuration, "mailreeve-policyd"), kind)


def test_the_configuration_says_where_the_record_goes(tmp_path: Path) -> None:
    """A relative file starts at the configuration's folder; it is readable by its group alone."""
    text = b'[audit]\nto = "file"\nfile = "audit.jsonl"\n'
    audit = open_audit_log(parse_configuration(text, tmp_path / "mailreeve.toml"), "policyd")
    audit.decision(Transaction(Stage.CONNECT, Session()), Verdict(Action.CONTINUE, Stage.CONNECT), SPENT)

    written = tmp_path / "audit.jsonl"
    assert datetime.fromisoformat(json.loads(written.read_bytes())["time"]).tzinfo == UTC
    assert written.stat().st_mode & 0o007 == 0
    audit.close()


def test_domains_appear_as_a_labels() -> None:
    """The record holds what the rules compared."""
    sink = Lines()
    envelope = Envelope(parse_mailbox("bob@bücher.example"))
    audit_to(sink).decision(
        Transaction(Stage.MAIL, Session(), envelope), Verdict(Action.CONTINUE, Stage.MAIL), SPENT
    )

    assert sink.records[0]["sender"] == "bob@" + parse_domain("bücher.example")


def test_every_key_is_promised_in_the_documentation() -> None:
    """docs/audit.md lists each key of the record, those of its parts with their path."""
    documentation = (Path(__file__).parents[2] / "docs" / "audit.md").read_text()
    for key in _keys(AuditRecord, ""):
        assert f"`{key}`" in documentation, key


def _keys(struct: type[msgspec.Struct], prefix: str) -> Iterator[str]:
    for field in msgspec.structs.fields(struct):
        yield prefix + field.name
        parts = [field.type, *get_args(field.type)]
        for part in parts:
            if isinstance(part, type) and issubclass(part, msgspec.Struct):
                yield from _keys(part, f"{prefix}{field.name}.")
