"""How the embedded store's file is made, and how it stays small."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from mailreeve_policyd.limits_sqlite_file import FURTHEST_END, SWEEP_EVERY, SWEEP_ROWS, Sweep, open_file

TABLES = ("counter", "member")
NOW = 1_700_000_000_000_000


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where the file is to be."""
    return tmp_path / "limits.sqlite"


@pytest.fixture
def connection(file: Path) -> Iterator[sqlite3.Connection]:
    """The file, made and opened."""
    with closing(open_file(file)) as opened:
        yield opened


def fill(connection: sqlite3.Connection, ends: int, rows: int) -> None:
    """So many rows in each table, all with one end."""
    connection.execute("BEGIN")
    places = range(rows)
    names = [place.to_bytes(16, "big") for place in places]
    connection.executemany(
        "INSERT INTO counter VALUES (?, ?, ?)", [(name, ends, bytes(20)) for name in names]
    )
    connection.executemany("INSERT INTO member VALUES (?, ?, ?)", [(name, name, ends) for name in names])
    connection.execute("COMMIT")


def sweep(connection: sqlite3.Connection, rows: int) -> None:
    """As many charges as sweep so many rows of each table."""
    cleaner = Sweep()
    for _ in range((rows // SWEEP_ROWS + 2) * SWEEP_EVERY):
        cleaner.after_charges(connection, NOW)


def counts(connection: sqlite3.Connection) -> list[int]:
    """Rows in each table."""
    return [connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in TABLES]  # noqa: S608 - our own names


@pytest.mark.parametrize("ends", [NOW - 1, NOW - 10**12, NOW + FURTHEST_END + 1])
def test_what_ended_is_swept_from_every_table(connection: sqlite3.Connection, ends: int) -> None:
    """So is what cannot be, since it ends later than any period from now: the clock was set back."""
    fill(connection, ends, rows=1000)

    sweep(connection, rows=1000)

    assert counts(connection) == [0, 0]


@pytest.mark.parametrize("ends", [NOW + 1, NOW + FURTHEST_END])
def test_what_lives_stays(connection: sqlite3.Connection, ends: int) -> None:
    """A sweep deletes nothing that may still be asked for."""
    fill(connection, ends, rows=1000)

    sweep(connection, rows=1000)

    assert counts(connection) == [1000, 1000]


def test_a_member_stays_until_its_last_moment_is_over(connection: sqlite3.Connection) -> None:
    """It counts at that moment, a counter no longer does: to sweep it would let one too many through."""
    fill(connection, NOW, rows=1)

    sweep(connection, rows=1)

    assert counts(connection) == [0, 1]


@pytest.mark.parametrize("ends", [b"\xff", "soon", 1.5])
def test_a_row_whose_end_is_damaged_is_swept(connection: sqlite3.Connection, ends: object) -> None:
    """SQLite keeps any type in any column: what is no moment says nothing, and stops no mail."""
    connection.execute("INSERT INTO counter VALUES (?, ?, ?)", (b"k", ends, bytes(20)))
    connection.execute("INSERT INTO member VALUES (?, ?, ?)", (b"k", b"m", ends))

    sweep(connection, rows=1)

    assert counts(connection) == [0, 0]


def test_one_charge_sweeps_a_bounded_number_of_rows(connection: sqlite3.Connection) -> None:
    """However much has ended, no call waits for all of it to be deleted."""
    fill(connection, NOW - 1, rows=1000)
    cleaner = Sweep(charges=SWEEP_EVERY - 1)

    cleaner.after_charges(connection, NOW)

    assert counts(connection) == [1000 - SWEEP_ROWS] * 2


def test_sweeping_begins_again_at_the_end(connection: sqlite3.Connection) -> None:
    """What ends after a sweep has passed it is found the next time round."""
    fill(connection, NOW + 1, rows=300)
    cleaner = Sweep()
    for now in (NOW, NOW + 2):
        for _ in range(5 * SWEEP_EVERY):
            cleaner.after_charges(connection, now)

    assert counts(connection) == [0, 0]


def test_free_pages_go_back_to_the_file_system(file: Path, connection: sqlite3.Connection) -> None:
    """After a flood of keys has expired the file shrinks, but for a few pages to spare."""
    rows = [(place.to_bytes(16, "big"), NOW, bytes(500)) for place in range(16_000)]
    connection.execute("BEGIN")
    connection.executemany("INSERT INTO counter VALUES (?, ?, ?)", rows)
    connection.execute("COMMIT")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    flooded = file.stat().st_size

    connection.execute("BEGIN")
    sweep(connection, rows=20_000)
    connection.execute("COMMIT")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    assert flooded > 8 * 1024 * 1024
    assert file.stat().st_size < 5 * 1024 * 1024


def test_another_maker_may_be_faster(file: Path, connection: sqlite3.Connection) -> None:
    """A file that is there is opened and not made anew, and nothing is left beside it."""
    fill(connection, NOW, rows=1)

    with closing(open_file(file)) as second:
        assert counts(second) == [1, 1]
        assert {path.name.removeprefix(file.name) for path in file.parent.iterdir()} == {"", "-wal", "-shm"}


def test_a_file_of_another_version_is_refused(file: Path) -> None:
    """An empty file has no version either."""
    file.touch()

    with pytest.raises(sqlite3.DatabaseError, match="not a limits file of this version"):
        open_file(file)


def test_a_power_cut_cannot_damage_the_file(connection: sqlite3.Connection) -> None:
    """Write-ahead log with synchronous=NORMAL: the last charges may be lost, never the file."""
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert connection.execute("PRAGMA synchronous").fetchone() == (1,)
