"""The sliding window in sixtieths: which bucket a moment falls into and when a bucket leaves the window.

Arithmetic on integers only, in microseconds since the epoch, so that every store, limits.lua included, gives
the same answer. Knows no store and no clock.
"""

from __future__ import annotations

from collections.abc import Iterable

from mailreeve_policyd.limits import BUCKETS_PER_PERIOD, Limit

MICROSECONDS = 1_000_000

MAX_UNITS = 2**53 - 1
"""The largest count: limits.lua counts in doubles. As bytes it is 8 PiB."""

Buckets = list[tuple[int, int]]
"""(bucket, units) of one counter, oldest first, each bucket at most once, none empty."""


def microseconds(seconds: float) -> int:
    """A clock's reading as the integer that is counted with."""
    return round(seconds * MICROSECONDS)


def period_seconds(limit: Limit) -> int:
    """A limit's period as whole seconds."""
    return round(limit.period.total_seconds())


def bucket_of(now: int, period: int) -> int:
    """The sixtieth of a period of so many seconds that a moment falls into, counted from the epoch.

    A sixtieth of a second is no whole number of microseconds: buckets begin at fractions and only the
    moments are rounded, so that 60 buckets are one period exactly.
    """
    return now * BUCKETS_PER_PERIOD // (period * MICROSECONDS)


def leaves_at(bucket: int, period: int) -> int:
    """The first moment at which a bucket no longer touches the last period.

    The 61 buckets from `bucket_of(now) - 60` to `bucket_of(now)` touch it: never less than the period is
    counted (promise 1) and never more than a sixtieth over it (promise 2).
    """
    return -(-(bucket + BUCKETS_PER_PERIOD + 1) * period * MICROSECONDS // BUCKETS_PER_PERIOD)


def within_window(buckets: Iterable[tuple[int, int]], current: int) -> Buckets:
    """The buckets that touch the period which ends in bucket `current`.

    What lies ahead of the clock was counted before somebody set the clock back: it counts as let through
    now, so that it is neither forgotten too early nor kept for longer than one period.
    """
    oldest = current - BUCKETS_PER_PERIOD
    live = [(bucket, units) for bucket, units in buckets if bucket >= oldest]
    if not live or live[-1][0] <= current:
        return live
    past = [(bucket, units) for bucket, units in live if bucket < current]
    return [*past, (current, sum(units for bucket, units in live if bucket >= current))]


def with_units(buckets: Buckets, current: int, units: int) -> Buckets:
    """The buckets with so many units more in the newest, `current`; as they are for 0 units."""
    if not units:
        return buckets
    if buckets and buckets[-1][0] == current:
        return [*buckets[:-1], (current, buckets[-1][1] + units)]
    return [*buckets, (current, units)]


def units_in(buckets: Buckets) -> int:
    """How much the window holds."""
    return sum(units for _, units in buckets)


def bucket_to_leave(buckets: Buckets, surplus: int) -> int:
    """The bucket with whose leaving at least `surplus` units are free; the buckets must hold as many."""
    freed = 0
    for bucket, units in buckets:
        freed += units
        if freed >= surplus:
            return bucket
    raise ValueError(f"{surplus} units to free of {freed}")
