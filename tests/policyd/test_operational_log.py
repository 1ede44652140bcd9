from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from mailreeve_policyd.operational_log import (
    OWN_LOGGERS,
    LogHandler,
    StreamPlace,
    SyslogPlace,
    begin_log,
    follow_settings,
    format_for_journal,
    format_json,
    format_text,
    is_journal,
)
from mailreeve_policyd.settings import Log, Settings
from mailreeve_policyd.settings import Syslog as SyslogSettings
from mailreeve_policyd.sink_syslog import Syslog, SyslogAddress
from tests.policyd.log_services import unix_service

OURS = "mailreeve_policyd.test"


class Lines:
    """A place that keeps lines, or takes none while `is_full`."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.is_full = False

    def write(self, line: bytes) -> None:
        if self.is_full:
            raise BlockingIOError
        self.lines.append(line)

    def reopen(self) -> None:
        """Nothing is open."""

    def close(self) -> None:
        """Nothing is open."""


@pytest.fixture(autouse=True)
def log_as_before() -> Iterator[None]:
    """Python's logging, which is afterwards as it was."""
    loggers = [logging.getLogger(name) for name in (None, *OWN_LOGGERS)]
    levels = [one.level for one in loggers]
    handlers = loggers[0].handlers[:]
    yield
    for handler in set(loggers[0].handlers) - set(handlers):
        handler.close()
    loggers[0].handlers[:] = handlers
    for one, level in zip(loggers, levels, strict=True):
        one.setLevel(level)


def event(message: str = "%s went by", *values: Any, **extra: Any) -> logging.LogRecord:
    record = logging.LogRecord(OURS, logging.WARNING, "path", 1, message, values or ("mail",), None)
    record.created = 1_772_366_400.123
    record.__dict__ |= extra
    return record


@contextmanager
def stderr_is(descriptor: int) -> Iterator[None]:
    """This process' standard error, for a while."""
    before = sys.stderr
    with os.fdopen(os.dup(descriptor), "w") as stream:
        sys.stderr = stream
        try:
            yield
        finally:
            sys.stderr = before


def test_text_says_when_which_process_how_bad_and_what() -> None:
    """The level in lower case, as mail servers write it; the time with its offset."""
    text = format_text("milter", event())

    assert text.endswith(f" mailreeve milter[{os.getpid()}] warning: mail went by")
    assert text[:23].count(":") == 2


def test_json_is_an_object_with_the_event_that_stays_the_same() -> None:
    """Who counts events or alerts on them compares `event`; values stand in `message` alone."""
    found = json.loads(format_json("policyd", event("%s: warned by %s", "4ABC", "tell", queue_id="4ABC")))

    assert found == {
        "time": "2026-03-01T12:00:00.123Z",
        "level": "warning",
        "daemon": "policyd",
        "pid": os.getpid(),
        "event": "%s: warned by %s",
        "message": "4ABC: warned by tell",
        "queue_id": "4ABC",
    }


def bug() -> logging.LogRecord:
    try:
        int("deep\x1b[31m")
    except ValueError:
        record = event("a bug")
        record.args = ()
        record.exc_info = sys.exc_info()
        return record
    raise AssertionError("that is a number")


def test_a_bug_has_the_end_of_its_traceback() -> None:
    """In text below the message, in JSON beside it; terminal sequences do not reach a terminal."""
    shown = json.loads(format_json("policyd", bug()))

    assert shown["message"] == "a bug"
    assert "\nValueError: invalid literal" in shown["traceback"]
    assert format_text("policyd", bug()).endswith("a bug\n" + shown["traceback"])


def test_an_event_is_bounded_and_printable() -> None:
    """The second lock: whatever came from a wire was escaped where it was logged."""
    for form in (format_text, format_for_journal, format_json):
        assert len(form("policyd", event("%s", "x" * 100_000))) < 2000
        assert "\x1b" not in form("policyd", event("%s", "\x1b[31m"))
        assert r"\x80" in form("policyd", event("%s", "\udc80"))


def test_under_systemd_each_line_begins_with_its_level() -> None:
    """sd-daemon(3): <4> is a warning; the journal has its own time."""
    lines = Lines()
    StreamPlace(lines, format_for_journal, with_levels=True).say("policyd", event("one\ntwo%s", ""))

    assert lines.lines == [f"<4>policyd[{os.getpid()}] warning: one\n<4>two\n".encode()]


def test_the_journal_is_known_by_the_descriptor(monkeypatch: pytest.MonkeyPatch) -> None:
    """A daemon whose standard error was sent elsewhere inherits the variable all the same."""
    reading, writing = os.pipe()
    status = os.fstat(writing)
    monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino}")

    with Path(os.devnull).open("wb") as other:
        assert (is_journal(writing), is_journal(other.fileno())) == (True, False)
    os.close(reading)
    os.close(writing)


def test_a_log_that_takes_nothing_holds_up_nobody_and_says_how_much_was_lost() -> None:
    """A hanging log service must not stop mail; what is missing is said when it is back."""
    lines = Lines()
    handler = LogHandler("policyd", StreamPlace(lines, format_for_journal, with_levels=False))
    lines.is_full = True
    for _ in range(3):
        handler.handle(event())
    lines.is_full = False
    for _ in range(2):
        handler.handle(event())

    said = [line.decode().partition(": ")[2] for line in lines.lines]
    assert said == ["3 lines of this log were lost\n", "mail went by\n", "mail went by\n"]
    assert handler.lost == 3


def test_a_bug_that_every_message_meets_does_not_fill_the_log_with_tracebacks() -> None:
    """Each is said in a line; ten a minute of one event, in one process, have more than that."""
    lines = Lines()
    handler = LogHandler("policyd", StreamPlace(lines, format_for_journal, with_levels=False))
    for _ in range(100):
        handler.handle(bug())

    assert len(lines.lines) == 100
    assert [b"\nValueError" in line for line in lines.lines] == [True] * 10 + [False] * 90
    assert lines.lines[-1].endswith(b": a bug\n")


def test_syslog_gets_a_message_a_line_or_one_object(tmp_path: Path) -> None:
    """Facility mail is 2, warning 4: <20>. Syslog has its own time and process."""
    with unix_service(tmp_path / "log") as service:
        syslog = Syslog(SyslogAddress(path=str(tmp_path / "log")), "mail", "mailreeve-policyd")
        SyslogPlace(syslog, "text").say("policyd", event("one\ntwo%s", ""))
        SyslogPlace(syslog, "json").say("policyd", event("one\ntwo%s", ""))
        first, second, third = (service.next().decode() for _ in range(3))
        syslog.close()

    assert [text.partition(" ")[0][:4] for text in (first, second, third)] == ["<20>"] * 3
    assert [text.partition("]: ")[2] for text in (first, second)] == ["one", "two"]
    assert json.loads(third.partition("]: ")[2])["message"] == "one\ntwo"


def test_the_settings_choose_level_form_and_place(tmp_path: Path) -> None:
    """`[log]`: a warning is said at level warning, a start is not."""
    reading, writing = os.pipe()
    with stderr_is(writing):
        follow_settings("policyd", Settings(log=Log(format="json", level="warning")))
        logging.getLogger(OURS).info("a start")
        logging.getLogger(OURS).warning("trouble")
    assert json.loads(os.read(reading, 4096))["message"] == "trouble"

    with unix_service(tmp_path / "log") as service:
        settings = SyslogSettings(address=f"unix:{tmp_path}/log", facility="local3")
        follow_settings("milter", Settings(log=Log(to="syslog"), syslog=settings))
        logging.getLogger(OURS).info("a start")
        message = service.next().decode()
    assert message.startswith("<158>")  # local3 is 19, info 6
    assert "mailreeve-milter[" in message
    assert message.endswith("]: a start")
    os.close(reading)
    os.close(writing)


def test_debug_is_of_our_own_code_alone() -> None:
    """Libraries tell of each connection then, and might tell what stands in a URL."""
    reading, writing = os.pipe()
    with stderr_is(writing):
        follow_settings("policyd", Settings(log=Log(level="debug")))
        logging.getLogger("redis").debug("a secret")
        logging.getLogger(OURS).debug("ours")

    assert os.read(reading, 4096).decode().endswith(" debug: ours\n")
    os.close(reading)
    os.close(writing)


def test_before_the_configuration_is_read_there_is_text_on_standard_error() -> None:
    """So a mistake in the configuration is told where whoever starts the daemon looks."""
    reading, writing = os.pipe()
    with stderr_is(writing):
        begin_log("policyd")
        logging.getLogger(OURS).critical("mailreeve.toml: unknown option")

    assert os.read(reading, 4096).decode().endswith(" critical: mailreeve.toml: unknown option\n")
    os.close(reading)
    os.close(writing)
