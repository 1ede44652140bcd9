from __future__ import annotations

import os

from hypothesis import given
from hypothesis import strategies as st

from mailreeve_policyd.sink import REST_SECONDS, Patience, Written, is_writable, write_grouped


def test_a_full_place_is_waited_for_once_and_then_not_until_a_rest_is_over() -> None:
    """So a reader that hangs costs a bounded part of the time of who writes."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    while is_writable(writing):
        os.write(writing, b"x" * 4096)
    now = [100.0]
    patience = Patience(lambda: now[0])

    assert not patience.wait(writing)
    while not is_writable(writing):
        os.read(reading, 4096)
    assert not patience.wait(writing), "it could be written, but this is not asked so soon"
    now[0] += REST_SECONDS
    assert patience.wait(writing)
    os.close(reading)
    os.close(writing)


class Place:
    """Takes so many octets, and then no more."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.writes: list[bytes] = []

    def write(self, octets: bytes) -> int:
        if not self.room:
            raise OSError("full")
        went = octets[: self.room]
        self.room -= len(went)
        self.writes.append(went)
        return len(went)


@given(
    st.lists(st.binary(max_size=30).map(lambda text: text.replace(b"\n", b" ") + b"\n")),
    st.integers(1, 100),
    st.integers(0, 400),
)
def test_lines_are_written_together_and_told_whether_each_went(
    lines: list[bytes], most: int, room: int
) -> None:
    """In their order, whole, no more at a time than may be; what is told is what lies there."""
    place = Place(room)
    written = write_grouped(lines, most, place.write)

    there = b"".join(place.writes)
    assert there == b"".join(lines)[: len(there)]
    assert there.count(b"\n") == written.count
    assert (written.error is None) == (written.count == len(lines))
    assert all(len(each) <= most or each.count(b"\n") <= 1 for each in place.writes)


def test_a_batch_is_one_write_where_it_may_be() -> None:
    """That is what it is for."""
    place = Place(100)

    assert write_grouped([b"1\n", b"2\n", b"3\n"], 6, place.write) == Written(3)
    assert place.writes == [b"1\n2\n3\n"]
