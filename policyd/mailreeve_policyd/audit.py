"""The record of every decision: one verb an event, and the places where its lines can go.

Its form is audit_record.py's, its lines are audit_line.py's, its promise to the operator docs/audit.md. A
record that cannot be written is said once in the log; mail goes on.
"""

from __future__ import annotations

import logging
import os
import stat
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, Protocol

from mailreeve_policyd.audit_line import format_record
from mailreeve_policyd.audit_record import Occurrence, Signature
from mailreeve_policyd.config import Configuration
from mailreeve_policyd.escape import cut, escape
from mailreeve_policyd.transaction import Transaction
from mailreeve_policyd.verdict import Verdict

__all__ = ["AuditLog", "AuditSink", "FileSink", "Signature", "StreamSink", "open_audit_log"]

log = logging.getLogger(__name__)

FILE_MODE = 0o640
"""The record names people: its owner writes it, its group may read it."""

LOOK_SECONDS = 1.0
"""How long a file that was renamed or removed may still be written to: looking at each line whether it was
costs half as much as writing the line. SIGUSR1 tells at once."""


class AuditSink(Protocol):
    """Where lines go. Safe from any thread; several processes may share the place."""

    def write(self, line: bytes) -> None:
        """Write one line, its LF included, in one piece. Raises OSError."""

    def reopen(self) -> None:
        """Forget what is open: it was rotated. Never raises."""


class FileSink:
    """A file, appended to; opened anew when another file, or none, has its name (logrotate).

    `clock` gives seconds that never go back: it says when to look whether that is so.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = str(path)
        self._clock = clock
        self._looked = 0.0
        self._lock = threading.Lock()
        self._descriptor: int | None = None
        self._inode: tuple[int, int] | None = None
        self._may_be_torn = False

    def write(self, line: bytes) -> None:
        """Append with a single write: O_APPEND keeps the lines of several processes whole.

        A line that a full disk, or a process that was killed, left unfinished is ended first.
        """
        with self._lock:
            descriptor = self._current()
            if self._may_be_torn and _is_torn(self._path):
                line = b"\n" + line
            self._may_be_torn = True
            written = os.write(descriptor, line)
            if written < len(line):
                raise OSError(f"only {written} of {len(line)} octets were written")
            self._may_be_torn = False

    def reopen(self) -> None:
        """The next line opens the file."""
        with self._lock:
            self._close()

    def _current(self) -> int:
        now = self._clock()
        if self._descriptor is not None and now - self._looked < LOOK_SECONDS:
            return self._descriptor
        self._looked = now
        if self._descriptor is not None and self._named() == self._inode:
            return self._descriptor
        self._close()
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        descriptor = os.open(self._path, flags, FILE_MODE)
        status = os.fstat(descriptor)
        self._descriptor, self._inode = descriptor, (status.st_dev, status.st_ino)
        self._may_be_torn = stat.S_ISREG(status.st_mode) and status.st_size > 0
        return descriptor

    def _named(self) -> tuple[int, int] | None:
        """The file that has the name now."""
        try:
            status = os.stat(self._path)  # noqa: PTH116 -- a Path costs more than the call
        except FileNotFoundError:
            return None
        return status.st_dev, status.st_ino

    def _close(self) -> None:
        if self._descriptor is not None:
            with suppress(OSError):
                os.close(self._descriptor)
        self._descriptor = None


def _is_torn(path: str) -> bool:
    """Does the file end in the middle of a line? Not asked at every line: it costs as much as writing one."""
    try:
        with Path(path).open("rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read(1) != b"\n"
    except OSError:  # it is empty, or not ours to read: then nothing is known of it
        return False


class StreamSink:
    """A descriptor that somebody else opened: standard output."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def write(self, line: bytes) -> None:
        """Write at once; a line is short enough to reach a pipe in one piece."""
        os.write(self._descriptor, line)

    def reopen(self) -> None:
        """Nothing: whoever opened it rotates it."""


def _now() -> datetime:
    return datetime.now(UTC)


class AuditLog:
    """The record of one daemon. Its verbs never raise for a place that cannot be written.

    What `warn` rules say goes to `warn`, too: the operational log, which somebody reads.
    """

    def __init__(
        self,
        daemon: Literal["policyd", "milter"],
        sink: AuditSink,
        clock: Callable[[], datetime] = _now,
        *,
        warn: Callable[[str], None] = log.warning,
    ) -> None:
        self._daemon = daemon
        self._sink = sink
        self._clock = clock
        self._warn = warn
        self._away = False
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
                self._warn(f"{_name(occurrence.transaction)}: {cut(warning)}")
        line = format_record(occurrence)
        try:
            self._sink.write(line)
        except OSError as error:
            if not self._away:
                log.error("the record cannot be written, mail goes on: %s", error)  # noqa: TRY400 -- no bug
            self._away = True
            return
        if self._away:
            self._away = False
            log.info("the record is written again")


def _name(transaction: Transaction) -> str:
    """How the MTA's log, or else the record, calls the transaction; before MAIL it is its client's."""
    name = transaction.queue_id or transaction.instance
    return escape(name or str(transaction.session.client_address or "a local client"))


def open_audit_log(configuration: Configuration, daemon: Literal["policyd", "milter"]) -> AuditLog:
    """The record as `[audit]` says. Opens nothing yet: the first line does."""
    settings = configuration.settings.audit
    if settings.to == "file":
        return AuditLog(daemon, FileSink(configuration.resolve(settings.file)))
    return AuditLog(daemon, StreamSink(sys.stdout.fileno()))
