"""The arithmetic of sixtieths."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailreeve_policyd.limits_window import (
    MICROSECONDS,
    NO_BUCKETS,
    Buckets,
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


def buckets_of(*pairs: tuple[int, int]) -> Buckets:
    """A counter with these (bucket, units)."""
    buckets = NO_BUCKETS
    for bucket, units in pairs:
        buckets = with_units(buckets, bucket, units)
    return buckets


def test_the_window_is_61_buckets() -> None:
    """The newest and the sixty before it; nothing else is kept (promise 5)."""
    kept = buckets_of(*((bucket, bucket) for bucket in range(900, 961)))

    assert within_window(kept, 960).pairs == [(bucket, bucket) for bucket in range(900, 961)]
    assert within_window(kept, 1000).pairs == [(bucket, bucket) for bucket in range(940, 961)]
    assert within_window(kept, 1020).pairs == [(960, 960)]
    assert within_window(kept, 1021).pairs == []


def test_what_lies_ahead_of_the_clock_counts_as_now() -> None:
    """After the clock was set back by a few buckets, or by years."""
    ahead = buckets_of((998, 1), (1000, 2), (1003, 3), (1010, 4))

    assert within_window(ahead, 1000).pairs == [(998, 1), (1000, 9)]
    assert within_window(ahead, 999).pairs == [(998, 1), (999, 9)]
    assert within_window(ahead, 7).pairs == [(7, 10)]


def test_units_join_the_newest_bucket_or_begin_one() -> None:
    """Each bucket is there at most once, none is empty."""
    assert with_units(NO_BUCKETS, 7, 2).pairs == [(7, 2)]
    assert with_units(buckets_of((7, 2)), 7, 3).pairs == [(7, 5)]
    assert with_units(buckets_of((6, 2)), 7, 3).pairs == [(6, 2), (7, 3)]
    assert with_units(buckets_of((6, 2)), 7, 0).pairs == [(6, 2)]


@given(st.lists(st.tuples(st.integers(0, 70), st.integers(0, 5)), max_size=80))
def test_a_window_holds_what_came_in_its_time(steps: list[tuple[int, int]]) -> None:
    """Whatever the distances between the buckets: against a list of all that ever came."""
    buckets, current, came = NO_BUCKETS, 1000, [(1000, 0)]
    for step, units in steps:
        current += step
        buckets = with_units(within_window(buckets, current), current, units)
        came.append((current, units))

    within = [(bucket, units) for bucket, units in came if bucket >= current - 60 and units]
    sums = {bucket: sum(units for other, units in within if other == bucket) for bucket, _ in within}
    assert within_window(buckets, current).pairs == sorted(sums.items())


def test_the_oldest_buckets_leave_first() -> None:
    """One is named with whose leaving there is room enough."""
    buckets = buckets_of((1, 5), (2, 5), (3, 5))

    assert units_in(buckets) == 15
    assert [bucket_to_leave(buckets, surplus) for surplus in (1, 5, 6, 15)] == [1, 1, 2, 3]
    with pytest.raises(ValueError, match="16 units"):
        bucket_to_leave(buckets, 16)
