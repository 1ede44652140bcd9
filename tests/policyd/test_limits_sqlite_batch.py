"""How calls share a write transaction of the embedded store, and how what they count lies in the file."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailreeve_policyd.limits import Charge
from mailreeve_policyd.limits_sqlite_batch import Batch
from mailreeve_policyd.limits_sqlite_file import SCHEMA, open_file
from mailreeve_policyd.limits_sqlite_rows import Known, unpack_counted
from tests.policyd.limit_stores import SECOND, charge_of, distinct, messages

NOW = 1_700_000_000 * SECOND
REMEMBER = 3600 * SECOND


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """A limits file, opened."""
    with closing(open_file(tmp_path / "limits.sqlite")) as opened:
        yield opened


def passes(batch: Batch, charge: Charge) -> bool:
    """Charge one limit alone."""
    (usage,) = batch.charge([charge])
    return not usage.exceeded


def test_a_call_sees_those_before_it(connection: sqlite3.Connection) -> None:
    """Of three calls in one transaction under a limit of two, the third is refused."""
    charge = charge_of(messages(2))
    batch = Batch(connection, NOW, REMEMBER)

    assert [passes(batch, charge) for _ in range(3)] == [True, True, False]
    assert batch.usage([charge])[0].used == 2


def test_members_are_seen_by_later_calls(connection: sqlite3.Connection) -> None:
    """A value that a call before counted is not counted again, another one is too many."""
    first, again, other = (charge_of(distinct(1), key=b"k" * 16, value=value) for value in "aab")
    batch = Batch(connection, NOW, REMEMBER)

    assert [passes(batch, charge) for charge in (first, again, other)] == [True, True, False]


def test_a_mark_of_a_call_before_is_known(connection: sqlite3.Connection) -> None:
    """The same message under the same key counts once, under another key it counts there."""
    here = charge_of(messages(1), mark="message")
    there = charge_of(messages(1), mark="message")
    batch = Batch(connection, NOW, REMEMBER)

    assert [passes(batch, charge) for charge in (here, here, there)] == [True, True, True]
    assert not passes(batch, charge_of(messages(1), key=there.key))


def test_a_refused_call_leaves_nothing(connection: sqlite3.Connection) -> None:
    """Neither for the calls after it nor in the file: no counter, no mark."""
    kept, refused = charge_of(messages(5), mark="message"), charge_of(messages(0), mark="message")
    batch = Batch(connection, NOW, REMEMBER)
    batch.charge([kept, refused])
    batch.write()

    assert batch.usage([kept])[0].used == 1  # what it would come to, counting now
    assert connection.execute("SELECT count(*) FROM counter").fetchone() == (0,)


def test_the_next_transaction_reads_what_was_written(connection: sqlite3.Connection) -> None:
    """Counters, members and marks."""
    counted = charge_of(messages(3), mark="message")
    member = charge_of(distinct(1), value="a")
    first = Batch(connection, NOW, REMEMBER)
    first.charge([counted, member])
    first.write()

    second = Batch(connection, NOW + SECOND, REMEMBER)

    assert [usage.used for usage in second.charge([counted, member])] == [1, 1]
    assert second.charge([charge_of(messages(3), key=counted.key)])[0].used == 2


def test_a_mark_is_forgotten_under_each_key_in_its_own_time(connection: sqlite3.Connection) -> None:
    """To count it under a second key later does not make it live longer under the first."""
    first, second = (charge_of(messages(1, 86400), mark="message") for _ in range(2))
    for charge, now in ((first, NOW), (second, NOW + REMEMBER - SECOND)):
        batch = Batch(connection, now, REMEMBER)
        assert passes(batch, charge)
        batch.write()

    later = Batch(connection, NOW + REMEMBER, REMEMBER)

    assert not passes(later, first)
    assert passes(later, second)


def test_a_damaged_mark_is_an_error_of_the_file(connection: sqlite3.Connection) -> None:
    """What no mark is packed as raises what the store turns into an outage."""
    charge = charge_of(messages(5), mark="message")
    batch = Batch(connection, NOW, REMEMBER)
    batch.charge([charge])
    batch.write()
    connection.execute("UPDATE counter SET content = x'00' WHERE length(key) > 16")

    with pytest.raises(sqlite3.DatabaseError, match="1 bytes"):
        Batch(connection, NOW, REMEMBER).charge([charge])


@pytest.mark.parametrize("content", [7, "text"])
def test_a_content_of_another_type_is_an_error_of_the_file(
    connection: sqlite3.Connection, content: object
) -> None:
    """SQLite keeps any type in any column: a damaged row is an outage of the store, no bug."""
    charge = charge_of(messages(2))
    connection.execute("INSERT INTO counter VALUES (?, ?, ?)", (charge.key, NOW + SECOND, content))

    with pytest.raises(sqlite3.DatabaseError):
        Batch(connection, NOW, REMEMBER).charge([charge])


def test_a_damaged_end_of_a_member_is_an_error_of_the_file(connection: sqlite3.Connection) -> None:
    """Asked when it leaves: nobody can say."""
    charge = charge_of(distinct(1), value="a")
    connection.execute("INSERT INTO member VALUES (?, ?, ?)", (charge.key, b"12345678", b"\xff"))

    with pytest.raises(sqlite3.DatabaseError):
        Batch(connection, NOW, REMEMBER).charge([charge])


KEYS = [b"subject1" + tail * 8 for tail in (b"x", b"y")] + [b"subject2" + b"x" * 8]

counted = st.builds(
    charge_of,
    st.builds(messages, st.integers(0, 9), st.sampled_from([1, 60])),
    st.sampled_from(KEYS),
    st.integers(0, 4),
    mark=st.sampled_from([None, "one", "two"]),
    refuses=st.booleans(),
)
member = st.builds(
    charge_of, st.just(distinct(2)), st.just(b"subject1" + b"d" * 8), value=st.sampled_from("abc")
)
calls = st.lists(st.one_of(counted, counted, counted, member), min_size=1, max_size=3)
transactions = st.tuples(st.integers(-SECOND, 70 * SECOND), st.lists(calls, min_size=1, max_size=4))


@settings(max_examples=150)
@given(st.lists(transactions, min_size=1, max_size=8))
def test_the_usual_call_comes_to_what_is_judged(steps: list[tuple[int, list[list[Charge]]]]) -> None:
    """Whatever calls follow each other: the same answers and the same rows as when each is judged."""
    now, known = NOW, Known()
    with closing(in_memory()) as short, closing(in_memory()) as judged:
        for passed, asked in steps:
            now += passed
            first, second = Batch(short, now, 90 * SECOND, known), Batch(judged, now, 90 * SECOND)
            for charges in asked:
                answers, expected = first.charge(charges), second.charge_judged(charges)
                assert answers == expected
                assert [each.added for each in answers] == [each.added for each in expected]
            first.write()
            second.write()
            assert rows(short) == rows(judged)


def in_memory() -> sqlite3.Connection:
    """A file's tables without the file."""
    opened = sqlite3.connect(":memory:", isolation_level=None)
    opened.executescript(SCHEMA)
    return opened


def rows(connection: sqlite3.Connection) -> dict[bytes, object]:
    """All counters and marks; what a mark was counted under has no order."""
    found = connection.execute("SELECT key, ends, content FROM counter").fetchall()
    return {
        key: (ends, content if len(key) == len(KEYS[0]) else dict(unpack_counted(content)))
        for key, ends, content in found
    }
