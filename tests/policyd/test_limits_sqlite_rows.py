"""How the rows of the embedded store are packed, and what a process knows of them without reading."""

from __future__ import annotations

import sqlite3
from contextlib import closing, suppress
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from mailreeve_policyd.limits_sqlite_file import open_file
from mailreeve_policyd.limits_sqlite_rows import (
    MAX_KNOWN,
    NO_COUNTER,
    Known,
    counter_of,
    pack_buckets,
    pack_counted,
    unpack_buckets,
    unpack_counted,
)
from mailreeve_policyd.limits_window import Buckets, units_in, with_units, within_window

NEWEST = 10**11

buckets = st.dictionaries(st.integers(0, 60), st.integers(1, 2**53), min_size=1).map(
    lambda units: Buckets(NEWEST, bytes(sorted(units, reverse=True)), tuple(units.values()))
)


@given(buckets)
def test_packing_buckets_loses_nothing(packed: Buckets) -> None:
    """Any counter reads back as it was written."""
    assert unpack_buckets(pack_buckets(packed)) == packed


@given(st.binary(max_size=200))
def test_any_bytes_are_a_counter_or_damage(raw: bytes) -> None:
    """A damaged counter raises what the store turns into an outage, and nothing else."""
    with suppress(sqlite3.DatabaseError):
        assert all(isinstance(units, int) for _, units in unpack_buckets(raw).pairs)


@given(st.dictionaries(st.binary(min_size=8, max_size=8), st.integers(0, 2**62), max_size=10))
def test_packing_a_mark_loses_nothing(counted: dict[bytes, int]) -> None:
    """Any mark reads back as it was written."""
    assert dict(unpack_counted(pack_counted(counted))) == counted


@given(st.binary(max_size=100))
def test_any_bytes_are_a_mark_or_damage(raw: bytes) -> None:
    """Nothing but a damaged file is raised."""
    with suppress(sqlite3.DatabaseError):
        assert all(len(key) == 8 for key, _ in unpack_counted(raw))


@given(buckets, st.integers(-70, 130), st.integers(1, 9))
def test_a_counter_grows_as_its_buckets_do(kept: Buckets, passed: int, units: int) -> None:
    """Cut to the window and counted on, it is what limits_window makes of it, and knows its sum."""
    current = NEWEST + passed
    counter = counter_of(kept).within(current).with_units(current, units)

    assert counter.buckets == with_units(within_window(kept, current), current, units)
    assert counter.held == units_in(counter.buckets)
    assert counter == counter_of(counter.buckets)


def test_nothing_is_known_any_more_when_another_connection_has_written(tmp_path: Path) -> None:
    """What this one writes itself it goes on to know."""
    file, known = tmp_path / "limits.sqlite", Known()
    with closing(open_file(file)) as mine, closing(open_file(file)) as other:
        known.check(mine)
        known.counters[b"key"] = NO_COUNTER
        known.marks[b"name"] = b""
        mine.execute("INSERT INTO counter VALUES (x'01', 1, x'')")
        known.check(mine)
        assert (known.counters, known.marks) == ({b"key": NO_COUNTER}, {b"name": b""})

        other.execute("INSERT INTO counter VALUES (x'02', 1, x'')")
        known.check(mine)
        assert (known.counters, known.marks) == ({}, {})


def test_what_a_process_knows_is_bounded(tmp_path: Path) -> None:
    """Whatever is asked, it does not grow for ever."""
    known = Known()
    with closing(open_file(tmp_path / "limits.sqlite")) as connection:
        known.check(connection)
        known.marks = {at.to_bytes(8, "big"): b"" for at in range(MAX_KNOWN + 1)}
        known.check(connection)

    assert not known.marks
