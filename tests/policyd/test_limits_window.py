"""The arithmetic of sixtieths."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailreeve_policyd.limits_window import (
    MICROSECONDS,
    bucket_of,
    bucket_to_leave,
    leaves_at,
    microseconds,
    units_in,
    with_units,
    within_window,
)

moments = st.integers(10**15, 4 * 10**15)
periods = st.integers(1, 31 * 86400)


@given(moments, periods)
def test_sixty_buckets_are_one_period_exactly(now: int, period: int) -> None:
    """A period later is sixty buckets later, even where a sixtieth is no whole number of microseconds."""
    assert bucket_of(now + period * MICROSECONDS, period) == bucket_of(now, period) + 60


@given(moments, periods)
def test_a_bucket_leaves_at_the_first_moment_that_is_61_buckets_later(now: int, period: int) -> None:
    """Not a microsecond earlier or later."""
    bucket = bucket_of(now, period)
    leaving = leaves_at(bucket, period)

    assert bucket_of(leaving, period) == bucket + 61
    assert bucket_of(leaving - 1, period) == bucket + 60


@given(moments)
def test_a_clocks_reading_is_exact_to_the_microsecond(now: int) -> None:
    """Seconds as a float hold microseconds for the next century."""
    assert microseconds(now / MICROSECONDS) == now


def test_the_window_is_61_buckets() -> None:
    """The newest and the sixty before it; nothing else is kept (promise 5)."""
    every = [(bucket, 1) for bucket in range(900, 1001)]

    assert within_window(every, 1000) == [(bucket, 1) for bucket in range(940, 1001)]


def test_what_lies_ahead_of_the_clock_counts_as_now() -> None:
    """After the clock was set back by a few buckets, or by years."""
    assert within_window([(998, 1), (1000, 2), (1003, 3), (9999, 4)], 1000) == [(998, 1), (1000, 9)]
    assert within_window([(9999, 4)], 1000) == [(1000, 4)]


def test_units_join_the_newest_bucket_or_begin_one() -> None:
    """Each bucket is there at most once, none is empty."""
    assert with_units([], 7, 2) == [(7, 2)]
    assert with_units([(7, 2)], 7, 3) == [(7, 5)]
    assert with_units([(6, 2)], 7, 3) == [(6, 2), (7, 3)]
    assert with_units([(6, 2)], 7, 0) == [(6, 2)]


def test_the_oldest_buckets_leave_first() -> None:
    """One is named with whose leaving there is room enough."""
    buckets = [(1, 5), (2, 5), (3, 5)]

    assert units_in(buckets) == 15
    assert [bucket_to_leave(buckets, surplus) for surplus in (1, 5, 6, 15)] == [1, 1, 2, 3]
    with pytest.raises(ValueError, match="16 units"):
        bucket_to_leave(buckets, 16)
