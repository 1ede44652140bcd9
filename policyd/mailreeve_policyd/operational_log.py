"""What a daemon says of itself: one event a record, as text or JSON, to standard error or syslog.

docs/log-messages.md has every event. Mail never waits for this log either: what finds no room is lost, and
the next line says how many. Knows nothing of the events themselves.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from copy import copy
from datetime import UTC, datetime
from typing import Literal, Protocol

import msgspec

from mailreeve_policyd.escape import escape
from mailreeve_policyd.moderation import Moderation
from mailreeve_policyd.settings import Settings
from mailreeve_policyd.sink import Sink
from mailreeve_policyd.sink_stream import StreamSink
from mailreeve_policyd.sink_syslog import Severity, Syslog, open_syslog

MAX_MESSAGE = 1200
"""Characters of an event's text, of which the longest are mistakes in a file, with their place and a hint."""

MAX_TRACEBACK = 2500
"""Characters of the end of a traceback. Together with the message it goes into a pipe in one piece (4096)."""

TRACEBACKS_A_MINUTE = 10
"""Of one event, in one process: a bug that every message meets says each time what it did, in one line."""

OWN_LOGGERS = ("mailreeve_policyd", "mailreeve_milter", "mailreeve_admin")

_SEVERITIES = {
    logging.DEBUG: Severity.DEBUG,
    logging.INFO: Severity.INFO,
    logging.WARNING: Severity.WARNING,
    logging.ERROR: Severity.ERROR,
    logging.CRITICAL: Severity.CRITICAL,
}

_encode = msgspec.json.Encoder().encode


class Event(msgspec.Struct, frozen=True, omit_defaults=True):
    """An event as JSON. `event` is the message before values were put into it: it stays the same."""

    time: str
    level: str
    daemon: str
    pid: int
    event: str
    message: str
    queue_id: str | None = None
    traceback: str | None = None


class Place(Protocol):
    """Where events go."""

    def say(self, daemon: str, record: logging.LogRecord) -> None:
        """Write one event. Raises OSError."""

    def close(self) -> None:
        """Close what was opened. Never raises."""


class LogHandler(logging.Handler):
    """Python's logging to a place; `lost` counts what the place did not take."""

    def __init__(self, daemon: str, place: Place) -> None:
        super().__init__()
        self.lost = 0
        self._daemon = daemon
        self._place = place
        self._told = 0
        self._tracebacks = Moderation(TRACEBACKS_A_MINUTE)

    def emit(self, record: logging.LogRecord) -> None:
        """Say it; first, how many before it were lost."""
        try:
            if self.lost > self._told:
                self._say_lost()
            self._place.say(self._daemon, self._bounded(record))
        except OSError:
            self.lost += 1
        except Exception:  # noqa: BLE001 -- as logging's own handlers
            self.handleError(record)

    def close(self) -> None:
        """Another handler has taken over."""
        self._place.close()
        super().close()

    def _bounded(self, record: logging.LogRecord) -> logging.LogRecord:
        """Without its traceback, where the log has enough of them from this event."""
        if not record.exc_info or self._tracebacks.admit(str(record.msg)) is not None:
            return record
        without = copy(record)
        without.exc_info = None
        return without

    def _say_lost(self) -> None:
        lost = self.lost
        message, missing = "%d lines of this log were lost", lost - self._told
        self._place.say(
            self._daemon, logging.LogRecord(__name__, logging.WARNING, __file__, 0, message, (missing,), None)
        )
        self._told = lost


class StreamPlace:
    """Lines on a stream. `form` makes them of an event; `with_levels` puts <N> before each (sd-daemon(3))."""

    def __init__(
        self, sink: Sink, form: Callable[[str, logging.LogRecord], str], *, with_levels: bool
    ) -> None:
        self._sink = sink
        self._form = form
        self._with_levels = with_levels

    def say(self, daemon: str, record: logging.LogRecord) -> None:
        """All lines of an event in one write."""
        text = self._form(daemon, record)
        if self._with_levels:
            level = f"<{severity_of(record):d}>"
            text = "\n".join(level + line for line in text.split("\n"))
        self._sink.write(text.encode("utf-8", "backslashreplace") + b"\n")

    def close(self) -> None:
        """Close what was opened for the stream, which is not ours."""
        self._sink.close()


class SyslogPlace:
    """Messages to syslog: one an event as JSON, as text one a line."""

    def __init__(self, syslog: Syslog, form: Literal["text", "json"]) -> None:
        self._syslog = syslog
        self._form = form

    def say(self, daemon: str, record: logging.LogRecord) -> None:
        """Syslog tells when, who and how bad; text need not say it again."""
        lines = [format_json(daemon, record)] if self._form == "json" else event_text(record).split("\n")
        for line in lines:
            self._syslog.send(severity_of(record), "log", line.encode("utf-8", "backslashreplace"))

    def close(self) -> None:
        """Leave the service."""
        self._syslog.close()


def severity_of(record: logging.LogRecord) -> Severity:
    """Syslog's word for a level."""
    return _SEVERITIES.get(record.levelno, Severity.ERROR)


def format_text(daemon: str, record: logging.LogRecord) -> str:
    """When, which process, how bad, what."""
    moment = datetime.fromtimestamp(record.created).astimezone().isoformat(" ", "milliseconds")
    return f"{moment} mailreeve {daemon}[{os.getpid()}] {record.levelname.lower()}: {event_text(record)}"


def format_for_journal(daemon: str, record: logging.LogRecord) -> str:
    """Without what the journal knows; which worker it is it does not."""
    return f"{daemon}[{os.getpid()}] {record.levelname.lower()}: {event_text(record)}"


def format_json(daemon: str, record: logging.LogRecord) -> str:
    """An `Event`."""
    moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
    return _encode(
        Event(
            moment.removesuffix("+00:00") + "Z",
            record.levelname.lower(),
            daemon,
            os.getpid(),
            _printable(str(record.msg))[:MAX_MESSAGE],
            _cut(_printable(record.getMessage())),
            getattr(record, "queue_id", None),
            _traceback(record),
        )
    ).decode()


def event_text(record: logging.LogRecord) -> str:
    """The message, with the traceback of a bug below it."""
    text, traceback = _cut(_printable(record.getMessage())), _traceback(record)
    return f"{text}\n{traceback}" if traceback else text


def _traceback(record: logging.LogRecord) -> str | None:
    """The end of it, which says what happened."""
    if not record.exc_info:
        return None
    text = _printable(_TRACEBACKS.formatException(record.exc_info))
    return text if len(text) <= MAX_TRACEBACK else "..." + text[-MAX_TRACEBACK:]


_TRACEBACKS = logging.Formatter()


def _printable(text: str) -> str:
    """Line ends are ours. All else was escaped before, where it came from a wire: this is the second lock."""
    return "\n".join(line if line.isprintable() else escape(line, MAX_MESSAGE) for line in text.split("\n"))


def _cut(text: str) -> str:
    return text if len(text) <= MAX_MESSAGE else text[:MAX_MESSAGE] + "..."


def is_journal(descriptor: int) -> bool:
    """Does systemd read this descriptor for the journal (JOURNAL_STREAM in systemd.exec(5))?"""
    try:
        status = os.fstat(descriptor)
    except OSError:
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


def begin_log(daemon: str) -> None:
    """Until the configuration is read: text on standard error."""
    _install(LogHandler(daemon, _stderr("text")), logging.INFO)


def follow_settings(daemon: str, settings: Settings) -> None:
    """From now on as `[log]` says. For the parent after it has read the configuration; workers inherit it."""
    told = settings.log
    place: Place
    if told.to == "syslog":
        place = SyslogPlace(open_syslog(settings.syslog, f"mailreeve-{daemon}"), told.format)
    else:
        place = _stderr(told.format)
    _install(LogHandler(daemon, place), logging.getLevelNamesMapping()[told.level.upper()])


def _stderr(form: Literal["text", "json"]) -> StreamPlace:
    descriptor = sys.stderr.fileno()
    journal = is_journal(descriptor)
    if form == "json":
        return StreamPlace(StreamSink(descriptor), format_json, with_levels=journal)
    text = format_for_journal if journal else format_text
    return StreamPlace(StreamSink(descriptor), text, with_levels=journal)


def _install(handler: LogHandler, level: int) -> None:
    """`debug` is of our own code: the libraries' would tell of each connection, and perhaps of a secret."""
    root = logging.getLogger()
    for before in root.handlers:
        before.close()
    root.handlers[:] = [handler]
    root.setLevel(max(level, logging.INFO))
    for name in OWN_LOGGERS:
        logging.getLogger(name).setLevel(level)
