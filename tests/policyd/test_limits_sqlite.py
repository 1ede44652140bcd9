"""What the embedded store adds to the contract: processes, forks, crashes, damage, a full disk, its file."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from mailreeve_policyd.errors import StoreError
from mailreeve_policyd.limits_sqlite import SqliteStore
from tests.policyd.hammer import answers, go, start, used
from tests.policyd.limit_stores import SECOND, HandClock, charge_of, fresh_key, messages


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where the store lives, in a folder that is not there yet."""
    return tmp_path / "state" / "limits.sqlite"


def test_eight_processes_never_let_more_than_n_through(file: Path) -> None:
    """They make the file together and share one key: of 1,600 requests exactly 1,000 pass."""
    processes = [start("repeat", file, 200) for _ in range(8)]
    for process in processes:
        go(process)

    lines = answers(processes)

    assert (lines.count("passed"), lines.count("refused")) == (1000, 600)


def test_a_forked_child_counts_on_through_a_connection_of_its_own(file: Path) -> None:
    """What the parent had open is neither used nor closed in the child, and goes on working."""
    assert answers([start("fork", file, 3)]) == ["passed"] * 5
    assert used(file) == 5


def test_a_killed_writer_loses_nothing_that_was_answered(file: Path) -> None:
    """After kill -9 in the midst of writing, the store opens and holds each answered charge."""
    with start("repeat", file, 1000) as process:
        assert process.stdout is not None
        go(process)
        lines = [process.stdout.readline() for _ in range(100)]
        process.kill()
        lines += process.stdout.readlines()  # not communicate(), which passes over what was read ahead
    answered = lines.count("passed\n")

    assert process.returncode == -9
    assert answered <= used(file) <= answered + 1


def test_a_full_disk_is_an_outage_and_ends_when_there_is_room(file: Path) -> None:
    """No exception but StoreError; what was counted before is still there."""
    assert answers([start("full", file, 200_000)]) == ["passed", "away", "passed"]
    assert used(file) == 2


def test_a_damaged_file_is_an_outage(file: Path) -> None:
    """A file that is no database is StoreError, naming it; removing it ends the outage."""
    file.parent.mkdir()
    file.write_bytes(b"no database at all, but long enough to look like one" * 100)
    store = SqliteStore(file)

    for _ in range(2):
        with pytest.raises(StoreError, match=r"limits\.sqlite"):
            store.charge([charge_of(messages(1))])

    file.unlink()
    assert not store.charge([charge_of(messages(1))])[0].exceeded
    store.close()


def test_a_damaged_counter_is_an_outage(file: Path) -> None:
    """Bytes that no counter is packed as are StoreError, too."""
    charge = charge_of(messages(5))
    store = SqliteStore(file)
    store.charge([charge])
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("UPDATE counter SET content = x'00'")
        connection.commit()

    with pytest.raises(StoreError, match="1 bytes"):
        store.charge([charge])
    store.close()


def test_a_file_of_another_version_is_left_alone(file: Path) -> None:
    """Its tables may mean something else: the operator is told to remove it."""
    store = SqliteStore(file)
    store.charge([charge_of(messages(1))])
    store.close()
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("PRAGMA user_version = 99")

    with pytest.raises(StoreError, match="not a limits file of this version"):
        store.charge([charge_of(messages(1))])


def test_a_folder_that_cannot_be_used_is_an_outage(tmp_path: Path) -> None:
    """Errors of the file system are StoreError."""
    (tmp_path / "state").write_text("a file, not a folder")
    store = SqliteStore(tmp_path / "state" / "limits.sqlite")

    with pytest.raises(StoreError):
        store.charge([charge_of(messages(1))])


def test_nobody_else_can_read_the_file(file: Path) -> None:
    """The store's three files are the owner's alone, whatever the umask."""
    store = SqliteStore(file)
    store.charge([charge_of(messages(1))])

    modes = {path.name: path.stat().st_mode & 0o777 for path in file.parent.iterdir()}
    store.close()

    assert modes == {"limits.sqlite": 0o600, "limits.sqlite-shm": 0o600, "limits.sqlite-wal": 0o600}
    assert file.parent.stat().st_mode & 0o777 == 0o700


def test_counters_outlive_a_restart(file: Path) -> None:
    """A store that is closed and opened anew goes on where it was, marks included."""
    clock = HandClock()
    charge = charge_of(messages(1), mark="message")
    first, second = (SqliteStore(file, clock) for _ in range(2))
    first.charge([charge])
    first.close()

    assert second.charge([charge])[0].exceeded is False
    assert second.charge([charge_of(messages(1), charge.key)])[0].exceeded
    second.close()


def test_a_live_key_takes_less_than_200_bytes(file: Path) -> None:
    """5,000 keys with 8 filled buckets each, marks expired."""
    clock = HandClock()
    store = SqliteStore(file, clock)
    limit = messages(1000, 86400)
    keys = [fresh_key("size", limit) for _ in range(5000)]
    for _ in range(8):
        for at in range(0, len(keys), 250):
            store.charge([charge_of(limit, key) for key in keys[at : at + 250]])
        clock.advance(1440 * SECOND)
    store.close()

    assert file.stat().st_size / len(keys) < 200


def test_what_a_process_remembers_gives_way_to_what_another_wrote(file: Path) -> None:
    """Two that take turns under one key, and one that forgets it, all count on from each other."""
    charge, clock = charge_of(messages(9)), HandClock()
    first, second = (SqliteStore(file, clock) for _ in range(2))  # each with a connection of its own

    taken = [store.charge([charge])[0].used for store in (first, first, second, first, second, second)]
    second.forget([charge.key])
    anew = [store.charge([charge])[0].used for store in (second, first)]

    first.close()
    second.close()
    assert (taken, anew) == ([1, 2, 3, 4, 5, 6], [1, 2])
