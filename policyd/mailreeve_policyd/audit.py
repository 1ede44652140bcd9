"""The record of every decision: one verb an event.

Its form is audit_record.py's, its lines are audit_line.py's, its promise to the operator docs/audit.md; where
lines go is for the sinks to know. A record that cannot be written is said once in the log; mail goes on.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from mailreeve_policyd.audit_line import format_record
from mailreeve_policyd.audit_record import Occurrence, Signature
from mailreeve_policyd.config import Configuration
from mailreeve_policyd.escape import cut, escape
from mailreeve_policyd.sink import Sink
from mailreeve_policyd.sink_file import FileSink
from mailreeve_policyd.sink_journal import JournalSink
from mailreeve_policyd.sink_stream import StreamSink
from mailreeve_policyd.sink_syslog import SyslogSink, open_syslog
from mailreeve_policyd.transaction import Transaction
from mailreeve_policyd.verdict import Verdict

__all__ = ["AuditCounts", "AuditLog", "FileSink", "Signature", "StreamSink", "open_audit_log"]

log = logging.getLogger(__name__)


def _now() -> datetime:
    return datetime.now(UTC)


TRUNCATED = b'"truncated":true'
"""In a line that was shortened, and in no other: a text that holds it has backslashes before its quotes."""


@dataclass(slots=True)
class AuditCounts:
    """What became of the records of this process, for the metrics; each number only grows.

    `lost` could not be written; `truncated` were written, with shorter texts and lists.
    """

    written: int = 0
    lost: int = 0
    truncated: int = 0

    def recorded(self) -> int:
        """How many decisions and messages there were."""
        return self.written + self.lost


def _warn_operator(name: str, text: str) -> None:
    log.warning("%s: warned by %s", name, text, extra={"queue_id": name})


class AuditLog:
    """The record of one daemon. Its verbs never raise for a place that cannot be written.

    What `warn` rules say goes to `warn`, too, with the name of the transaction: the operational log, which
    somebody reads.
    """

    def __init__(
        self,
        daemon: Literal["policyd", "milter"],
        sink: Sink,
        clock: Callable[[], datetime] = _now,
        *,
        warn: Callable[[str, str], None] = _warn_operator,
    ) -> None:
        self._daemon = daemon
        self._sink = sink
        self._clock = clock
        self._warn = warn
        self.counts = AuditCounts()
        self._lost_before: int | None = None
        self._trouble = threading.Lock()
        self._second = -1, ""

    def decision(
        self,
        transaction: Transaction,
        verdict: Verdict,
        spent: Mapping[str, float],
        *,
        repeated: bool = False,
        error: str | None = None,
    ) -> None:
        """A policy request was answered. `spent` is in seconds: "total" and what it was spent on.

        `repeated` says that the verdict is an earlier one, given again without being decided again.
        """
        self._write(
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
        spent: Mapping[str, float],
        *,
        signatures: Sequence[Signature] = (),
        added: Sequence[str] = (),
        removed: Sequence[str] = (),
        error: str | None = None,
    ) -> None:
        """A message was answered. `added` and `removed` name header fields, beyond `verdict.edits`.

        `error` tells why the fail-safe answered and not the rules.
        """
        self._write(
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

    def reopen(self) -> None:
        """The place was rotated."""
        self._sink.reopen()

    def _time(self) -> str:
        """RFC 3339, UTC, milliseconds; all but those is spelt once a second."""
        now = self._clock()
        second, spelt = int(now.timestamp()), self._second
        if spelt[0] != second:
            text = now.astimezone(UTC).isoformat(timespec="seconds").removesuffix("+00:00")
            self._second = spelt = second, text
        return f"{spelt[1]}.{now.microsecond // 1000:03d}Z"

    def _write(self, occurrence: Occurrence) -> None:
        if occurrence.verdict.warnings and not occurrence.repeated:
            for warning in occurrence.verdict.warnings:
                self._warn(_name(occurrence.transaction), cut(warning))
        line = format_record(occurrence)
        try:
            self._sink.write(line)
        except OSError as error:
            self._count_lost(error)
            return
        counts = self.counts
        counts.written += 1
        if TRUNCATED in line:
            counts.truncated += 1
        if self._lost_before is not None:
            self._say_returned()

    def _count_lost(self, error: OSError) -> None:
        """An outage is said when it begins; `_lost_before` is how many were lost by then."""
        with self._trouble:
            is_new, lost = self._lost_before is None, self.counts.lost
            self.counts.lost += 1
            if is_new:
                self._lost_before = lost
        if is_new:
            reason = error.strerror or str(error)
            log.error("the record cannot be written, mail goes on: %s", reason)

    def _say_returned(self) -> None:
        with self._trouble:
            before, self._lost_before = self._lost_before, None
        if before is not None:
            log.info("the record is written again, %d lines were lost", self.counts.lost - before)


def _name(transaction: Transaction) -> str:
    """How the MTA's log, or else the record, calls the transaction; before MAIL it is its client's."""
    name = transaction.queue_id or transaction.instance
    return escape(name or str(transaction.session.client_address or "a local client"))


def open_audit_log(configuration: Configuration, daemon: Literal["policyd", "milter"]) -> AuditLog:
    """The record as `[audit]` says. Opens nothing yet: the first line does."""
    return AuditLog(daemon, _open_sink(configuration, f"mailreeve-{daemon}"))


def _open_sink(configuration: Configuration, program: str) -> Sink:
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
