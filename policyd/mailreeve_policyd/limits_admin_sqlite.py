"""Orders in a SQLite file of their own, beside that of the counters: both daemons of a machine share it.

Apart from the counters, because to read it must not wait for those that count, and who removes damaged
counters must not unblock a stolen login. Knows SQLite; how an order is written is limits_admin.py's.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from secrets import token_hex
from tempfile import TemporaryDirectory

from mailreeve_policyd.errors import StoreError
from mailreeve_policyd.limits_admin import (
    MAX_NEAR,
    Book,
    Near,
    Order,
    OrderBook,
    format_near,
    format_order,
    parse_near,
    parse_order,
)
from mailreeve_policyd.limits_admin_memory import check_room

BUSY_SECONDS = 1.0
"""How long a writer is waited for: one writes for milliseconds, a few times a minute."""

SCHEMA_VERSION = 1

SCHEMA = f"""
PRAGMA journal_mode = WAL;
BEGIN;
CREATE TABLE orders (name TEXT PRIMARY KEY, written BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE version (version TEXT);
CREATE TABLE near (
    rule TEXT, key BLOB, ends REAL, written BLOB NOT NULL, PRIMARY KEY (rule, key)
) WITHOUT ROWID;
CREATE INDEX near_by_end ON near (rule, ends);
PRAGMA user_version = {SCHEMA_VERSION};
COMMIT;
"""


class SqliteBook(OrderBook):
    """An OrderBook in the file `path`, made at the first writing, for its owner alone.

    `clock` gives seconds since the epoch. Threads and forks may share it.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        self._path = path
        self._clock = clock
        self._processes: dict[int, _Process] = {}  # by process id, as in SqliteStore

    def read(self, known: str | None) -> Book | None:
        """OrderBook.read."""
        if not self._is_there():
            return None if known is None else Book()
        with self._connection() as connection:
            connection.execute("BEGIN")
            version = _version(connection)
            if version == known:
                return None
            rows = connection.execute("SELECT written FROM orders ORDER BY name").fetchall()
            return Book(version, tuple(parse_order(written) for (written,) in rows))

    def put(self, order: Order) -> None:
        """OrderBook.put."""
        with self._writing() as connection:
            rows = connection.execute("SELECT name, written FROM orders").fetchall()
            now = self._clock()
            ended = [(name,) for name, written in rows if parse_order(written).has_ended(now)]
            connection.executemany("DELETE FROM orders WHERE name = ?", ended)
            check_room(sum((name,) not in ended and name != order.name for name, _ in rows))
            connection.execute(
                "INSERT OR REPLACE INTO orders VALUES (?, ?)", (order.name, format_order(order))
            )
            _set_version(connection)

    def remove(self, names: Sequence[str]) -> None:
        """OrderBook.remove."""
        with self._writing() as connection:
            connection.executemany("DELETE FROM orders WHERE name = ?", [(name,) for name in names])
            _set_version(connection)

    def note(self, counters: Sequence[Near]) -> None:
        """OrderBook.note."""
        rows = [(each.rule, each.key, each.ends, format_near(each)) for each in counters]
        with self._writing() as connection:
            connection.executemany("INSERT OR REPLACE INTO near VALUES (?, ?, ?, ?)", rows)
            for rule in {each.rule for each in counters}:
                connection.execute("DELETE FROM near WHERE rule = ? AND ends <= ?", (rule, self._clock()))
                connection.execute(
                    "DELETE FROM near WHERE rule = ? AND key IN"
                    " (SELECT key FROM near WHERE rule = ? ORDER BY ends DESC LIMIT -1 OFFSET ?)",
                    (rule, rule, MAX_NEAR),
                )

    def near(self, rules: Iterable[str]) -> list[Near]:
        """OrderBook.near."""
        if not self._is_there():
            return []
        found: list[Near] = []
        with self._connection() as connection:
            for rule in rules:
                rows = connection.execute(
                    "SELECT written FROM near WHERE rule = ? AND ends > ? ORDER BY ends",
                    (rule, self._clock()),
                )
                found += [parse_near(written) for (written,) in rows]
        return found

    def close(self) -> None:
        """OrderBook.close."""
        process = self._processes.pop(os.getpid(), None)
        if process is not None:
            with process.lock:
                process.close()

    def _is_there(self) -> bool:
        try:
            self._path.stat()
        except FileNotFoundError:
            return False
        except OSError as error:
            raise StoreError(f"{self._path}: {error.strerror}") from error
        return True

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._connection() as connection:
            connection.execute("BEGIN IMMEDIATE")
            yield connection

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        """One transaction of this process; what SQLite cannot do closes its connection."""
        process = self._processes.get(os.getpid()) or self._processes.setdefault(os.getpid(), _Process())
        with process.lock:
            try:
                connection = process.open(self._path)
                yield connection
                if connection.in_transaction:
                    connection.execute("COMMIT")
            except (sqlite3.Error, OSError) as error:
                process.close()
                raise StoreError(f"{self._path}: {error}") from error
            except BaseException:
                process.close()
                raise
            finally:
                process.roll_back()


class _Process:
    """What one process has open. Its threads take turns by the lock."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self._opened: sqlite3.Connection | None = None

    def open(self, path: Path) -> sqlite3.Connection:
        if self._opened is None:
            self._opened = _open(path)
        return self._opened

    def roll_back(self) -> None:
        if self._opened is not None and self._opened.in_transaction:
            self._opened.rollback()

    def close(self) -> None:
        opened, self._opened = self._opened, None
        if opened is not None:
            with suppress(sqlite3.Error):
                opened.close()


def _open(path: Path) -> sqlite3.Connection:
    if not path.exists():
        _make_file(path)
    if not os.access(path, os.R_OK | os.W_OK):  # as limits_sqlite_file.open_file
        raise PermissionError("may not be written")
    connection = _connect(path)
    try:
        connection.execute("PRAGMA synchronous = FULL")  # a block outlives a power cut
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version != SCHEMA_VERSION:
            raise sqlite3.DatabaseError(f"not a file of orders of this version ({version}); remove it")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)


def _make_file(path: Path) -> None:
    # aside and linked into place whole, as limits_sqlite_file does
    path.parent.mkdir(mode=0o700, exist_ok=True)
    with TemporaryDirectory(prefix=".orders-", dir=path.parent) as folder:
        fresh = Path(folder) / "fresh"
        with closing(_connect(fresh)) as connection:
            connection.executescript(SCHEMA)
        fresh.chmod(0o600)
        with suppress(FileExistsError):
            os.link(fresh, path)


def _version(connection: sqlite3.Connection) -> str | None:
    row = connection.execute("SELECT version FROM version").fetchone()
    version: str | None = row[0] if row else None
    return version


def _set_version(connection: sqlite3.Connection) -> None:
    connection.execute("DELETE FROM version")
    connection.execute("INSERT INTO version VALUES (?)", (token_hex(8),))
