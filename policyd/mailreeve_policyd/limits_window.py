"""The sliding window in sixtieths: which bucket a moment falls into and when a bucket leaves the window.

Arithmetic on integers only, in microseconds since the epoch, so that every store, limits.lua included, gives
the same answer. Knows no store and no clock.
"""

from __future__ import annotations

from datetime import timedelta
from functools import lru_cache
from itertools import accumulate

import msgspec

from mailreeve_policyd.limits import BUCKETS_PER_PERIOD, Limit

MICROSECONDS = 1_000_000

MAX_UNITS = 2**53 - 1
"""The largest count: limits.lua counts in doubles. As bytes it is 8 PiB."""


class Buckets(msgspec.Struct, frozen=True, gc=False):
    """What one counter holds: buckets in the order of time, each at most once, none empty.

    `ages` has an octet a bucket, oldest first: how many buckets before `newest` it is. `units` are theirs,
    in that order. Octets and tuples, because a busy counter has sixty buckets and a charge changes one.
    """

    newest: int = 0
    ages: bytes = b""
    units: tuple[int, ...] = ()

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """(bucket, units), oldest first."""
        return [(self.newest - age, units) for age, units in zip(self.ages, self.units, strict=True)]


NO_BUCKETS = Buckets()

_LATER = [bytes(min(255, age + by) for age in range(256)) for by in range(BUCKETS_PER_PERIOD + 1)]
"""For bytes.translate: ages that are so many buckets higher."""


def microseconds(seconds: float) -> int:
    """A clock's reading as the integer that is counted with."""
    return round(seconds * MICROSECONDS)


def period_seconds(limit: Limit) -> int:
    """A limit's period as whole seconds."""
    return _whole_seconds(limit.period)


@lru_cache(maxsize=1024)
def _whole_seconds(period: timedelta) -> int:
    return round(period.total_seconds())


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


def within_window(buckets: Buckets, current: int) -> Buckets:
    """The buckets that touch the period which ends in bucket `current`.

    What lies ahead of the clock was counted before somebody set the clock back: it counts as let through
    now, so that it is neither forgotten too early nor kept for longer than one period.
    """
    ages = buckets.ages
    if not ages:
        return buckets
    passed = current - buckets.newest
    if passed < 0:
        return _set_back(buckets, current)
    if ages[0] + passed <= BUCKETS_PER_PERIOD:
        return buckets
    left = sum(age + passed > BUCKETS_PER_PERIOD for age in ages)
    return Buckets(buckets.newest, ages[left:], buckets.units[left:]) if left < len(ages) else NO_BUCKETS


def _set_back(buckets: Buckets, current: int) -> Buckets:
    oldest = current - BUCKETS_PER_PERIOD
    past = [(current - bucket, units) for bucket, units in buckets.pairs if oldest <= bucket < current]
    ahead = sum(units for bucket, units in buckets.pairs if bucket >= current)
    return Buckets(current, bytes([age for age, _ in past]) + b"\0", (*(units for _, units in past), ahead))


def with_units(buckets: Buckets, current: int, units: int) -> Buckets:
    """The buckets of the period that ends in `current` with so many units more in that one."""
    if not units:
        return buckets
    if not buckets.ages:
        return Buckets(current, b"\0", (units,))
    passed = current - buckets.newest
    if not passed:
        return Buckets(current, buckets.ages, (*buckets.units[:-1], buckets.units[-1] + units))
    return Buckets(current, buckets.ages.translate(_LATER[passed]) + b"\0", (*buckets.units, units))


def units_in(buckets: Buckets) -> int:
    """How much the window holds."""
    return sum(buckets.units)


def bucket_to_leave(buckets: Buckets, surplus: int) -> int:
    """The bucket with whose leaving at least `surplus` units are free; the buckets must hold as many."""
    freed = 0
    for age, freed in zip(buckets.ages, accumulate(buckets.units), strict=True):
        if freed >= surplus:
            return buckets.newest - age
    raise ValueError(f"{surplus} units to free of {freed}")
