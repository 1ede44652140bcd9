from __future__ import annotations

from pathlib import Path

import pytest

from mailreeve_policyd.sink_journal import JournalSink, format_field
from tests.policyd.log_services import fill, unix_service

LINE = (
    b'{"time":"2026-03-01T12:00:00.123Z","daemon":"milter","event":"message","stage":"end-of-message",'
    b'"queue_id":"4B1C2D","instance":"1f.2","message_id":"<1@example.net>","client":{"address":"192.0.2.7"},'
    b'"login":"bob","sender":"<>","recipients":["alice@example.org","carol@example.com"],'
    b'"author_domain":"example.net","verdict":{"action":"reject","stage":"rcpt","rule":"no"},'
    b'"spent_ms":{"total":1.0}}'
)


def sink_at(path: Path) -> JournalSink:
    return JournalSink("mailreeve-milter", "mail", path, lambda: 0.0)


def test_a_line_is_an_entry_with_fields_to_search_by(tmp_path: Path) -> None:
    """MESSAGE is the line; the journal takes a field several times, so each recipient has its own."""
    with unix_service(tmp_path / "journal") as service:
        sink = sink_at(tmp_path / "journal")
        sink.write(LINE + b"\n")
        entry = service.next()
        sink.close()

    assert entry.split(b"\n") == [
        b"PRIORITY=6",
        b"SYSLOG_IDENTIFIER=mailreeve-milter",
        b"SYSLOG_FACILITY=2",
        b"MESSAGE=" + LINE,
        b"MAILREEVE_EVENT=message",
        b"MAILREEVE_STAGE=end-of-message",
        b"MAILREEVE_QUEUE_ID=4B1C2D",
        b"MAILREEVE_INSTANCE=1f.2",
        b"MAILREEVE_MESSAGE_ID=<1@example.net>",
        b"MAILREEVE_CLIENT_ADDRESS=192.0.2.7",
        b"MAILREEVE_LOGIN=bob",
        b"MAILREEVE_SENDER=<>",
        b"MAILREEVE_RECIPIENT=alice@example.org",
        b"MAILREEVE_RECIPIENT=carol@example.com",
        b"MAILREEVE_AUTHOR_DOMAIN=example.net",
        b"MAILREEVE_ACTION=reject",
        b"MAILREEVE_RULE=no",
        b"",
    ]


def test_a_value_cannot_make_a_field(tmp_path: Path) -> None:
    """Lines have no line ends inside; a field that had one would be written with its length."""
    assert format_field("A", b"b\nPRIORITY=0") == b"A\n" + b"\x0c" + b"\0" * 7 + b"b\nPRIORITY=0\n"
    with unix_service(tmp_path / "journal") as service:
        sink = sink_at(tmp_path / "journal")
        sink.write(b'{"login":"bob\\nPRIORITY=0","verdict":{"action":"continue"}}\n')
        entry = service.next()
        sink.close()

    assert b"MAILREEVE_LOGIN\n" in entry


def test_a_line_of_another_kind_is_its_own_message(tmp_path: Path) -> None:
    """What is no record has no fields, and is written all the same."""
    with unix_service(tmp_path / "journal") as service:
        sink = sink_at(tmp_path / "journal")
        sink.write(b"[1]\n")
        assert service.next().endswith(b"MESSAGE=[1]\n")
        sink.close()


def test_a_journal_that_is_away_is_an_error_and_found_again(tmp_path: Path) -> None:
    """systemd-journald restarts: the first line after it arrives."""
    path = tmp_path / "journal"
    sink = sink_at(path)
    with pytest.raises(FileNotFoundError):
        sink.write(LINE)
    for _ in range(2):
        with unix_service(path) as service:
            sink.write(LINE)
            assert LINE in service.next()
    sink.close()


def test_a_journal_that_does_not_read_holds_up_nobody(tmp_path: Path) -> None:
    """Its queue is full: entries are lost at once; one that is read makes room again."""
    with unix_service(tmp_path / "journal") as service:
        sink = sink_at(tmp_path / "journal")
        sent = fill(sink.write, LINE)
        with pytest.raises(BlockingIOError):
            sink.write(LINE)
        assert len(service.drain()) == sent
        sink.write(LINE)
        assert LINE in service.next()
        sink.close()
