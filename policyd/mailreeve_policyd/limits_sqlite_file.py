"""The file of the embedded limit store: its tables, how it is made and opened, and how what ended leaves it.

Knows SQLite and the columns that tell when a row ends; knows nothing of charges.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from mailreeve_policyd.limits import KEY_OCTETS, MARK_OCTETS, MAX_PERIOD
from mailreeve_policyd.limits_window import MICROSECONDS

BUSY_SECONDS = 5.0
"""How long a call waits for other threads and processes: far above a queue of a thousand, far below the
100 seconds that Postfix waits for a policy server."""

LOOK_AGAIN_SECONDS = 0.0001
LOOK_AGAIN_AT_MOST_SECONDS = 0.005
"""Who waits for the writers' lock looks again after so long, doubled each time up to the latter: a
transaction takes some tenths of a millisecond, and to look costs as much of the processor as to count.
SQLite's own wait begins with a millisecond and goes up to a tenth of a second: with 8 busy processes a call
now and then waited for 2.1 seconds (measured)."""

CACHE_KIBIBYTES = 8192
"""SQLite's page cache of a process: the counters of some 50,000 busy keys."""

CHECKPOINT_PAGES = 4096
"""The log's 16 MiB before it is brought into the file: with SQLite's 1000 pages a busy process does that ten
times a second, with two fsyncs each, and a charge costs half as much again (measured)."""

SCHEMA_VERSION = 2

SCHEMA = f"""
PRAGMA auto_vacuum = INCREMENTAL;
PRAGMA journal_mode = WAL;
BEGIN;
-- ends, in microseconds: of a counter the first moment at which it says nothing any more, of a member the
-- last moment at which it counts
-- counters, and the marks of what they counted: limits_sqlite_batch.py says how they are told apart
CREATE TABLE counter (key BLOB PRIMARY KEY, ends INTEGER NOT NULL, content BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE member (
    key BLOB, member BLOB, ends INTEGER NOT NULL, PRIMARY KEY (key, member)
) WITHOUT ROWID;
CREATE INDEX member_by_end ON member (key, ends);
PRAGMA user_version = {SCHEMA_VERSION};
COMMIT;
"""

SWEEP_EVERY = 32
SWEEP_ROWS = 128
"""Each 32nd charge of a process looks at the next 128 rows of each table: four rows a charge, so that at a
steady rate about one row in eight has ended, without an index by time that each charge would have to keep."""

SPARE_PAGES = 1024
VACUUM_PAGES = 64
"""Above 4 MiB of free pages a sweep gives a few back to the file system."""

FURTHEST_END = 2 * int(MAX_PERIOD.total_seconds()) * MICROSECONDS
"""What ends later than this from now was written before the clock was set back."""


def open_file(path: Path) -> sqlite3.Connection:
    """A connection to the file, which is made if it is not there, with its folder.

    Raises:
        sqlite3.Error, OSError: it cannot be used; a file of another version is one of these.
    """
    if not path.exists():
        _make_file(path)
    if not os.access(path, os.R_OK | os.W_OK):
        # SQLite would open it for reading, and leave a log that could not be written even if the file can be
        raise PermissionError("may not be written")
    connection = _connect(path)
    try:
        _prepare(connection)
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _prepare(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute(f"PRAGMA cache_size = -{CACHE_KIBIBYTES}")
    connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version != SCHEMA_VERSION:
        raise sqlite3.DatabaseError(f"not a limits file of this version ({version}); remove it")


def _connect(path: Path) -> sqlite3.Connection:
    # one thread at a time uses it, whichever: the store's lock sees to that
    return sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)


def _make_file(path: Path) -> None:
    # Made aside and linked into place whole: a process that is killed here, or others that do the same at
    # the same moment, never leave or meet half a file. SQLite gives the -wal and -shm files its mode.
    path.parent.mkdir(mode=0o700, exist_ok=True)
    with TemporaryDirectory(prefix=".limits-", dir=path.parent) as folder:
        fresh = Path(folder) / "fresh"
        with closing(_connect(fresh)) as connection:
            connection.executescript(SCHEMA)
        fresh.chmod(0o600)
        with suppress(FileExistsError):
            os.link(fresh, path)


_LAST_COUNTER = "SELECT key FROM counter WHERE key > ? ORDER BY key LIMIT 1 OFFSET ?"
# what is no moment is damage
_DELETE_ENDED = (
    "DELETE FROM counter WHERE key > ? AND key <= ? AND (ends <= ? OR ends > ? OR typeof(ends) <> 'integer')"
)
_BEYOND = b"\xff" * (KEY_OCTETS + MARK_OCTETS)
"""Behind any key."""


@dataclass(slots=True)
class Sweep:
    """Deletes what ended, a few rows a charge, so that no call waits for much and the file stays small."""

    charges: int = 0
    after_counter: bytes = b""
    after_member: tuple[bytes, bytes] = (b"", b"")

    def after_charges(self, connection: sqlite3.Connection, now: int, charges: int = 1) -> None:
        """Within the transaction of so many charges; `now` in microseconds."""
        self.charges += charges
        while self.charges >= SWEEP_EVERY:
            self.charges -= SWEEP_EVERY
            self._counters(connection, now)
            self._members(connection, now)
            self._give_back(connection)

    def _counters(self, connection: sqlite3.Connection, now: int) -> None:
        # by SQLite itself: to bring the rows here costs ten times as much
        after = self.after_counter
        last = connection.execute(_LAST_COUNTER, (after, SWEEP_ROWS - 1)).fetchone()
        until = last[0] if last else _BEYOND
        connection.execute(_DELETE_ENDED, (after, until, now, now + FURTHEST_END))
        self.after_counter = until if last else b""

    def _members(self, connection: sqlite3.Connection, now: int) -> None:
        rows = connection.execute(
            "SELECT key, member, ends FROM member WHERE (key, member) > (?, ?) ORDER BY key, member LIMIT ?",
            (*self.after_member, SWEEP_ROWS),
        ).fetchall()
        ended = [(key, member) for key, member, ends in rows if ends != now and _has_ended(ends, now)]
        connection.executemany("DELETE FROM member WHERE key = ? AND member = ?", ended)
        self.after_member = rows[-1][:2] if len(rows) == SWEEP_ROWS else (b"", b"")

    def _give_back(self, connection: sqlite3.Connection) -> None:
        (spare,) = connection.execute("PRAGMA freelist_count").fetchone()
        if spare > SPARE_PAGES:
            for _ in range(VACUUM_PAGES):  # the module stops after the first page of each such statement
                connection.execute("PRAGMA incremental_vacuum(1)")


def _has_ended(ends: object, now: int) -> bool:
    # what is no moment is damage
    return not isinstance(ends, int) or ends <= now or ends > now + FURTHEST_END
