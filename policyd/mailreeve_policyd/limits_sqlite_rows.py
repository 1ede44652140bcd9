"""What the rows of the embedded store's file hold, and which of them a process knows without reading them.

Knows how counters and marks are packed; knows no statement but the one that tells whether another process
has written. Members of `distinct` limits are rows of their own and need no packing.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from struct import Struct

import msgspec

from mailreeve_policyd.limits import KEY_OCTETS, SUBJECT_OCTETS
from mailreeve_policyd.limits_window import NO_BUCKETS, Buckets, units_in, with_units, within_window

MARK = b"m"
"""Between subject and mark in the name of a mark's row, which is longer than any counter's."""

MAX_KNOWN = 8192
"""Counters, and as many marks, that a process remembers: at most eight megabytes, mostly two."""

_COUNTED = Struct(f"<{KEY_OCTETS - SUBJECT_OCTETS}sq")
_NEWEST = Struct("<q")
_UNITS_OCTETS = 8


class Counter(msgspec.Struct, frozen=True, gc=False):
    """A counter as it lies in the file (b"" where none does), and what the usual charge asks of it.

    `newest` and `oldest` are buckets, `held` is what all of them hold together.
    """

    packed: bytes = b""
    newest: int = 0
    oldest: int = 0
    held: int = 0

    @property
    def buckets(self) -> Buckets:
        """What is packed."""
        return unpack_buckets(self.packed) if self.packed else NO_BUCKETS

    def within(self, current: int) -> Counter:
        """What of it is in the window that ends in bucket `current`."""
        return counter_of(within_window(self.buckets, current))

    def with_units(self, current: int, units: int) -> Counter:
        """With so many units more in bucket `current`; all of it must be in that one's window."""
        if self.newest != current or not self.packed:
            return counter_of(with_units(self.buckets, current, units))
        last = int.from_bytes(self.packed[-_UNITS_OCTETS:], "little") + units
        packed = self.packed[:-_UNITS_OCTETS] + last.to_bytes(_UNITS_OCTETS, "little")
        return Counter(packed, current, self.oldest, self.held + units)


NO_COUNTER = Counter()


def counter_of(buckets: Buckets) -> Counter:
    """These buckets as a counter."""
    if not buckets.ages:
        return NO_COUNTER
    newest = buckets.newest
    return Counter(pack_buckets(buckets), newest, newest - buckets.ages[0], units_in(buckets))


@dataclass(slots=True)
class Known:
    """What a process has read and written, which is what the file holds until another connection writes.

    `marks` by the names of their rows. For one connection, within its write transactions; where one of
    those fails, nothing is known any more.
    """

    counters: dict[bytes, Counter] = field(default_factory=dict)
    marks: dict[bytes, bytes] = field(default_factory=dict)
    _version: int | None = None

    def check(self, connection: sqlite3.Connection) -> None:
        """At the beginning of a transaction: forget all if another connection has written since the last."""
        (version,) = connection.execute("PRAGMA data_version").fetchone()
        if version != self._version:
            self.forget()
            self._version = version
            return
        for rows in (self.counters, self.marks):
            if len(rows) > MAX_KNOWN:
                rows.clear()

    def forget(self) -> None:
        """The file was changed beside it."""
        self.counters.clear()
        self.marks.clear()


def pack_counted(counted: Mapping[bytes, int]) -> bytes:
    """What a mark was counted under: the end of each key and its moment (8 bytes)."""
    return b"".join(_COUNTED.pack(key, ends) for key, ends in counted.items())


def unpack_counted(packed: bytes) -> Iterator[tuple[bytes, int]]:
    """What `pack_counted` packed.

    Raises:
        sqlite3.DatabaseError: the file is damaged.
    """
    if len(packed) % _COUNTED.size:
        raise sqlite3.DatabaseError(f"a mark of {len(packed)} bytes")
    return _COUNTED.iter_unpack(packed)


@lru_cache(maxsize=128)
def _units(count: int) -> Struct:
    return Struct(f"<{count}Q")


def pack_buckets(buckets: Buckets) -> bytes:
    """A counter as bytes: the newest bucket (8), the age of each (1), the units of each (8)."""
    units = buckets.units
    return _NEWEST.pack(buckets.newest) + buckets.ages + _units(len(units)).pack(*units)


def unpack_buckets(packed: bytes) -> Buckets:
    """What `pack_buckets` packed.

    Raises:
        sqlite3.DatabaseError: the file is damaged.
    """
    count, rest = divmod(len(packed) - _NEWEST.size, 1 + _UNITS_OCTETS)
    if count < 1 or rest:
        raise sqlite3.DatabaseError(f"a counter of {len(packed)} bytes")
    (newest,) = _NEWEST.unpack_from(packed)
    ages_end = _NEWEST.size + count
    return Buckets(newest, packed[_NEWEST.size : ages_end], _units(count).unpack_from(packed, ages_end))
