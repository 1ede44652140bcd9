"""Where the processes of one daemon keep their numbers, so that one of them can add them up.

An anonymous file, made by the parent before it forks and never on a disk. Each process writes to a page of
its own, as memory (a number is one store, without a system call); whoever is asked reads all pages. When a
worker has ended, however it did, its numbers stay, and the next worker goes on counting where it stood: so a
sum over all pages is the sum of all workers that ever were, and pages do not grow in number.

    page      header | names | numbers
    header    is somebody writing here; how many octets of names count       (two doubles)
    names     a line of JSON for each series: ["family", "label value" ...]
    numbers   doubles, in the order of the names; `Family.width` of them for each

Knows families; knows nothing of mail or of processes.
"""

from __future__ import annotations

import json
import mmap
import os
import struct
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from mailreeve_policyd.metrics_catalogue import FAMILIES, SERIES_REFUSED, Family, Kind

PAGE_OCTETS = 2 << 20
"""Of address space: only what is written to takes memory."""

HEADER_OCTETS = 4096
NAMES_OCTETS = 1 << 20
"""Room for some ten thousand series a worker: more rules than anybody reads."""

_NUMBERS_AT = HEADER_OCTETS + NAMES_OCTETS
_NUMBERS = (PAGE_OCTETS - _NUMBERS_AT) // 8

SCRATCH_NUMBERS = 64
"""The last numbers of a page: where series count that found no room. Nobody reads them."""

_IS_TAKEN, _NAMES_END = 0, 1
_DOUBLE = struct.Struct("=d")

Series = tuple[str, ...]
"""The family's name and the values of its labels."""


class Tally:
    """The numbers of one process. Not safe from several threads: whoever counts has a lock.

    `numbers` is written to directly, at the places that `place` gives: that is what counting costs.
    """

    def __init__(self, memory: mmap.mmap) -> None:
        view = memoryview(memory)
        self._memory = memory
        self._header = view[:HEADER_OCTETS].cast("d")
        self.numbers = view[_NUMBERS_AT:].cast("d")
        self._places = dict(_entries(memory))
        self._next = sum(_width(series) for series in self._places)
        for series, place in self._places.items():
            if FAMILIES[series[0]].kind is Kind.GAUGE:
                self.numbers[place] = 0.0  # it told how things stood with a process that has ended
        self._refused = self.place(SERIES_REFUSED)

    def place(self, family: Family, *labels: str) -> int:
        """Where a series has its numbers, from now on. Without room for it: where nobody reads."""
        series = (family.name, *labels)
        place = self._places.get(series)
        return self._append(series, family.width) if place is None else place

    def _append(self, series: Series, width: int) -> int:
        line = json.dumps(series).encode() + b"\n"
        end = int(self._header[_NAMES_END])
        if end + len(line) > NAMES_OCTETS or self._next + width > _NUMBERS - SCRATCH_NUMBERS:
            self.numbers[self._refused] += 1.0
            return _NUMBERS - SCRATCH_NUMBERS
        start = HEADER_OCTETS + end
        self._memory[start : start + len(line)] = line
        self._header[_NAMES_END] = float(end + len(line))  # last: who reads meanwhile sees whole names
        place = self._places[series] = self._next
        self._next += width
        return place


@dataclass(frozen=True, slots=True)
class Page:
    """What one process wrote. Of one that has ended (`is_taken` is False), gauges tell nothing any more."""

    is_taken: bool
    series: dict[Series, tuple[float, ...]]


class Ledger:
    """All pages. The parent takes them and gives them back; a child opens its own; any process reads."""

    def __init__(self) -> None:
        """Raises OSError: the system gives no such file."""
        self._file = _anonymous_file()
        self._taken: set[int] = set()
        self._count = 0

    def take(self) -> int:
        """A page for a new process. Raises OSError: there is no room for one."""
        page = next(number for number in range(self._count + 1) if number not in self._taken)
        if page == self._count:
            os.ftruncate(self._file, (self._count + 1) * PAGE_OCTETS)
            self._count += 1
        self._mark(page, 1.0)
        self._taken.add(page)
        return page

    def give_back(self, page: int) -> None:
        """Its process has ended: its numbers stay, and the next process goes on with them."""
        self._taken.discard(page)
        with suppress(OSError):
            self._mark(page, 0.0)

    def open(self, page: int) -> Tally:
        """The page, to write to: in the process that it was taken for."""
        return Tally(mmap.mmap(self._file, PAGE_OCTETS, offset=page * PAGE_OCTETS))

    def read(self) -> list[Page]:
        """What all processes wrote so far."""
        size = os.fstat(self._file).st_size // PAGE_OCTETS * PAGE_OCTETS
        return [self._read(offset) for offset in range(0, size, PAGE_OCTETS)]

    def close(self) -> None:
        """Give the file back. What is mapped stays."""
        os.close(self._file)

    def _read(self, offset: int) -> Page:
        with (
            mmap.mmap(self._file, PAGE_OCTETS, access=mmap.ACCESS_READ, offset=offset) as memory,
            memoryview(memory) as view,
            view[:HEADER_OCTETS].cast("d") as header,
            view[_NUMBERS_AT:].cast("d") as numbers,
        ):
            series: dict[Series, tuple[float, ...]] = {
                one: tuple(numbers[place : place + _width(one)].tolist()) for one, place in _entries(memory)
            }
            return Page(bool(header[_IS_TAKEN]), series)

    def _mark(self, page: int, value: float) -> None:
        os.pwrite(self._file, _DOUBLE.pack(value), page * PAGE_OCTETS + _IS_TAKEN * _DOUBLE.size)


def _anonymous_file() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("mailreeve-metrics", os.MFD_CLOEXEC)
    with tempfile.TemporaryFile() as file:  # FreeBSD before 13, macOS
        return os.dup(file.fileno())


def _entries(memory: mmap.mmap) -> Iterator[tuple[Series, int]]:
    """The series of a page, each with its place."""
    (end,) = _DOUBLE.unpack_from(memory, _NAMES_END * _DOUBLE.size)
    place = 0
    for line in memory[HEADER_OCTETS : HEADER_OCTETS + int(end)].splitlines():
        series = tuple(json.loads(line))
        yield series, place
        place += _width(series)


def _width(series: Series) -> int:
    return FAMILIES[series[0]].width
