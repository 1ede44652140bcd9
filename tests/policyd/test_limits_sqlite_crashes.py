"""The embedded store under kill -9, damaged, and in a file that may not be written."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from mailreeve_policyd.errors import StoreError
from mailreeve_policyd.limits_sqlite import SqliteStore
from tests.lab.work import work_folder
from tests.policyd.hammer import KEY, MANY, answers, start
from tests.policyd.limit_stores import charge_of, messages

KILLS = 12
NOBODY = 65534


@pytest.fixture
def file() -> Iterator[Path]:
    """Where the store lives, in a folder that another user can reach."""
    with work_folder() as folder:
        yield folder / "state" / "limits.sqlite"


def counted(file: Path) -> int:
    """What is counted under the hammer's key."""
    store = SqliteStore(file)
    (usage,) = store.usage([charge_of(messages(MANY, 3600), KEY, amount=0)])
    store.close()
    return usage.used


def test_writers_killed_at_any_moment_lose_nothing_that_was_answered(file: Path) -> None:
    """Two at a time, again and again on one file: all answered charges are there, and the file is whole."""
    answered, under_way = map(int, answers([start("killed", file, KILLS)]))

    assert answered > KILLS
    assert answered <= counted(file) <= answered + under_way
    with closing(sqlite3.connect(file)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_a_file_that_may_not_be_written_is_an_outage_until_it_may(file: Path) -> None:
    """As after a remount for reading only; nothing that was counted is lost."""
    if not os.getuid():
        file.parent.mkdir()
        os.chown(file.parent, NOBODY, NOBODY)

    assert answers([start("readonly", file, NOBODY)]) == ["passed", "away", "passed"]


@pytest.mark.parametrize("where", ["page", "end", "log"])
def test_damage_is_an_outage_and_no_exception(file: Path, where: str) -> None:
    """Overwritten pages, an end that is missing, a log of something else; removing the file ends it."""
    store = SqliteStore(file)
    for _ in range(20):
        store.charge([charge_of(messages(5, 3600)) for _ in range(100)])
    store.close()
    content = bytearray(file.read_bytes())
    if where == "page":
        content[4096:] = b"\xff" * (len(content) - 4096)
        file.write_bytes(content)
    elif where == "end":
        file.write_bytes(content[:5000])
    else:
        file.with_name(file.name + "-wal").write_bytes(b"no log at all" * 1000)

    failed = 0
    for _ in range(20):
        try:
            store.charge([charge_of(messages(5, 3600)) for _ in range(10)])
        except StoreError:
            failed += 1
    assert failed or where == "log"  # a log of something else is no log, and begun anew

    store.close()
    for path in file.parent.iterdir():
        path.unlink()
    assert not store.charge([charge_of(messages(5))])[0].exceeded
    store.close()
