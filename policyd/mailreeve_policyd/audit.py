"""The record of every decision: one verb an event.

Its form is audit_record.py's, its lines are audit_line.py's, its promise to the operator docs/audit.md; where
lines go is for the sinks to know. A record that cannot be written is said once in the log; mail goes on.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from math import inf
from typing import Literal

from mailreeve_policyd.audit_bound import MOST_A_MINUTE, Overrun, format_overrun
from mailreeve_policyd.audit_line import MAX_LINE_OCTETS, format_record
from mailreeve_policyd.audit_record import Occurrence, Signature
from mailreeve_policyd.config import Configuration
from mailreeve_policyd.escape import cut, escape
from mailreeve_policyd.moderation import Moderation
from mailreeve_policyd.sink import BatchSink, Sink, Written
from mailreeve_policyd.sink_file import FileSink
from mailreeve_policyd.sink_journal import JournalSink
from mailreeve_policyd.sink_stream import StreamSink
from mailreeve_policyd.sink_syslog import SyslogSink, open_syslog
from mailreeve_policyd.transaction import Transaction
from mailreeve_policyd.verdict import Verdict

__all__ = [
    "AuditCounts",
    "AuditLog",
    "Decisions",
    "FileSink",
    "Signature",
    "StreamSink",
    "open_audit_log",
]

log = logging.getLogger(__name__)


def _now() -> datetime:
    return datetime.now(UTC)


SILENT_SECONDS = 60.0
"""So long after an outage was said the next one is not: a place that comes and goes would fill the log."""


@dataclass(slots=True)
class AuditCounts:
    """What became of the records of this process, for the metrics; each number only grows.

    `lost` could not be written; `truncated` were written, with shorter texts and lists. `overruns` of both
    are about bounds, and not about mail.
    """

    written: int = 0
    lost: int = 0
    truncated: int = 0
    overruns: int = 0

    def recorded(self) -> int:
        """How many decisions and messages there were."""
        return self.written + self.lost - self.overruns


def _warn_operator(name: str, text: str) -> None:
    log.warning("%s: warned by %s", name, text, extra={"queue_id": name})


def _nobody(_occurrence: Occurrence) -> None:
    """Nobody counts."""


def _nobody_counts(_bound: str) -> None:
    """Nobody counts overruns either."""


Spent = Mapping[str, float]
"""Seconds: "total", and what it was spent on."""

Line = tuple[bytes, bool]
"""A record, its LF included, and whether it was shortened."""


class AuditLog:
    """The record of one daemon. Its verbs never raise for a place that cannot be written.

    What `warn` rules say goes to `warn`, too, with the name of the transaction: the operational log, which
    somebody reads. `observe` is told of everything that is recorded: it counts. `count_overrun` is told the
    bound of each overrun, also of those that are left out: `overruns_a_minute` of one bound are written.
    `clock` tells the time of records, `stopwatch` seconds that never go back.
    """

    def __init__(
        self,
        daemon: Literal["policyd", "milter"],
        sink: Sink,
        clock: Callable[[], datetime] = _now,
        *,
        warn: Callable[[str, str], None] = _warn_operator,
        observe: Callable[[Occurrence], None] = _nobody,
        count_overrun: Callable[[str], None] = _nobody_counts,
        overruns_a_minute: int = MOST_A_MINUTE,
        max_line_octets: int = MAX_LINE_OCTETS,
        stopwatch: Callable[[], float] = time.monotonic,
    ) -> None:
        self._daemon = daemon
        self._sink = sink
        self._batch_sink = sink if isinstance(sink, BatchSink) else None
        self._clock = clock
        self._warn = warn
        self._observe = observe
        self._count_overrun = count_overrun
        self._max_line_octets = max_line_octets
        self._moderation = Moderation(overruns_a_minute, stopwatch)
        self.counts = AuditCounts()
        self._stopwatch = stopwatch
        self._trouble = threading.Lock()
        self._is_away = False
        self._silent_until = -inf
        self._told = 0
        self._second = -1, ""

    def decision(
        self,
        transaction: Transaction,
        verdict: Verdict,
        spent: Spent,
        *,
        repeated: bool = False,
        error: str | None = None,
    ) -> None:
        """A policy request was answered.

        `repeated` says that the verdict is an earlier one, given again without being decided again.
        """
        self._write_one(self._decision(transaction, verdict, spent, repeated, error))

    def decisions(self) -> Decisions:
        """For requests that are answered together."""
        return Decisions(self._decision, self._write_each)

    def _decision(
        self,
        transaction: Transaction,
        verdict: Verdict,
        spent: Spent,
        repeated: bool = False,
        error: str | None = None,
    ) -> Line:
        return self._line(
            Occurrence(
                self._time(),
                self._daemon,
                "decision",
                transaction,
                verdict,
                spent,
                repeated=repeated,
                error=error,
            )
        )

    def message(
        self,
        transaction: Transaction,
        verdict: Verdict,
        spent: Spent,
        *,
        signatures: Sequence[Signature] = (),
        added: Sequence[str] = (),
        removed: Sequence[str] = (),
        error: str | None = None,
    ) -> None:
        """A message was answered. `added` and `removed` name header fields, beyond `verdict.edits`.

        `error` tells why the fail-safe answered and not the rules.
        """
        self._write_one(
            self._line(
                Occurrence(
                    self._time(),
                    self._daemon,
                    "message",
                    transaction,
                    verdict,
                    spent,
                    signatures=tuple(signatures),
                    added=tuple(added),
                    removed=tuple(removed),
                    error=error,
                )
            )
        )

    def overrun(self, overrun: Overrun) -> bool:
        """Something went beyond a bound. False if the record has enough of that bound: nor need the log tell.

        From any thread.
        """
        self._count_overrun(overrun.bound)
        unrecorded = self._moderation.admit(overrun.bound)
        if unrecorded is None:
            return False
        self.counts.overruns += 1
        self._write_one((format_overrun(overrun, self._time(), self._daemon, unrecorded), False))
        return True

    def reopen(self) -> None:
        """Open the place: the worker begins, or it was rotated. Never raises: lines that it refuses tell.

        At the begin, since later there may be no descriptor left for it.
        """
        self._sink.reopen()

    def close(self) -> None:
        """Nothing more is to be written."""
        self._sink.close()

    def _time(self) -> str:
        """RFC 3339, UTC, milliseconds; all but those is spelt once a second."""
        now = self._clock()
        second, spelt = int(now.timestamp()), self._second
        if spelt[0] != second:
            text = now.astimezone(UTC).isoformat(timespec="seconds").removesuffix("+00:00")
            self._second = spelt = second, text
        return f"{spelt[1]}.{now.microsecond // 1000:03d}Z"

    def _line(self, occurrence: Occurrence) -> Line:
        """The record of something, of which those are told who are to know."""
        self._observe(occurrence)
        if occurrence.verdict.warnings and not occurrence.repeated:
            for warning in occurrence.verdict.warnings:
                self._warn(_name(occurrence.transaction), cut(warning))
        return format_record(occurrence, self._max_line_octets)

    def _write_each(self, lines: Sequence[Line]) -> None:
        if self._batch_sink is None or len(lines) == 1:
            for line in lines:
                self._write_one(line)
            return
        self._count(lines, self._batch_sink.write_each([line for line, _ in lines]))

    def _write_one(self, line: Line) -> None:
        try:
            self._sink.write(line[0])
        except OSError as error:
            self._count_lost(1, error)
        else:
            self._count_written((line,))

    def _count(self, lines: Sequence[Line], written: Written) -> None:
        if written.count:
            self._count_written(lines[: written.count])
        if written.error is not None:
            self._count_lost(len(lines) - written.count, written.error)

    def _count_written(self, lines: Sequence[Line]) -> None:
        counts = self.counts
        counts.written += len(lines)
        for _, is_shortened in lines:
            if is_shortened:
                counts.truncated += 1
        if counts.lost != self._told:
            self._say_returned()

    def _count_lost(self, count: int, error: OSError) -> None:
        with self._trouble:
            self.counts.lost += count
            if self._is_away or self._stopwatch() < self._silent_until:
                return
            self._is_away, self._silent_until = True, self._stopwatch() + SILENT_SECONDS
        log.error("the record cannot be written, mail goes on: %s", error.strerror or str(error))

    def _say_returned(self) -> None:
        """What was lost while nothing was said is told after that time, with or without another outage."""
        with self._trouble:
            if not self._is_away:
                if self._stopwatch() < self._silent_until:
                    return
                self._silent_until = self._stopwatch() + SILENT_SECONDS
            self._is_away = False
            lost, self._told = self.counts.lost - self._told, self.counts.lost
        if lost:
            log.info("the record is written again, %d lines were lost", lost)


class Decisions:
    """What was decided together, and so is written together. For one thread, and one time."""

    __slots__ = ("_format", "_lines", "_write")

    def __init__(
        self,
        format_line: Callable[[Transaction, Verdict, Spent], Line],
        write: Callable[[Sequence[Line]], None],
    ) -> None:
        self._format = format_line
        self._write = write
        self._lines: list[Line] = []

    def decision(self, transaction: Transaction, verdict: Verdict, spent: Spent) -> None:
        """As AuditLog.decision; nothing is in the record before `write`."""
        self._lines.append(self._format(transaction, verdict, spent))

    def write(self) -> None:
        """Write all, before the first of them is answered: a process that is killed then loses none."""
        if self._lines:
            self._write(self._lines)


def _name(transaction: Transaction) -> str:
    """How the MTA's log, or else the record, calls the transaction; before MAIL it is its client's."""
    name = transaction.queue_id or transaction.instance
    return escape(name or str(transaction.session.client_address or "a local client"))


def open_audit_log(
    configuration: Configuration,
    daemon: Literal["policyd", "milter"],
    observe: Callable[[Occurrence], None] = _nobody,
    count_overrun: Callable[[str], None] = _nobody_counts,
) -> AuditLog:
    """The record as `[audit]` says. Opens nothing yet: the first line does."""
    return AuditLog(
        daemon,
        open_sink(configuration, f"mailreeve-{daemon}"),
        observe=observe,
        count_overrun=count_overrun,
        overruns_a_minute=configuration.settings.audit.bounds_a_minute,
        max_line_octets=configuration.settings.audit.max_line_bytes,
    )


def open_sink(configuration: Configuration, program: str) -> Sink:
    """The place that `[audit]` names, for lines by `program` (`mailreeve-policyd`)."""
    settings = configuration.settings
    match settings.audit.to:
        case "file":
            return FileSink(configuration.resolve(settings.audit.file))
        case "syslog":
            return SyslogSink(open_syslog(settings.syslog, program))
        case "journal":
            return JournalSink(program, settings.syslog.facility)
        case "stdout":
            return StreamSink(sys.stdout.fileno())
