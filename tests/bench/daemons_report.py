"""What `bench daemons` found: loads, sizes and times, the way through Postfix, and the goals."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

from rich.console import Console
from rich.table import Table

from tests.bench.auth_report import NO_FILTER, WIDTH, Sample, format_number, median_of
from tests.bench.auth_servers import COUNTING_NAME
from tests.bench.usage import Footprint

CHAIN_AND_POLICY = "the chain + postfwd1"
AND_POLICYD = " + policyd"
RSPAMD = "rspamd"
MAX_WORKER_OCTETS = 60e6
MAX_IDLE_OCTETS = 10e3
MAX_START_SECONDS = 1.0
RATE_GOALS = {RSPAMD: 1.3, CHAIN_AND_POLICY: 3.0}
MILLION, THOUSAND = 1e6, 1e3

Load = tuple[str, int, int]
"""A daemon, its workers, the connections at once."""


@dataclass(frozen=True, slots=True)
class Start:
    """What one start took, in seconds: by the clock, which other work on the machine moves, and of CPU."""

    seconds: float
    cpu_seconds: float


@dataclass(slots=True)
class Size:
    """What one daemon with so many workers takes; the largest of its workers counts.

    `idle` is by how many octets its resident memory grows for each idle session. `starts` go until it
    serves; `reload` is the seconds from SIGHUP until its last old worker has ended: one for each round.
    """

    fresh: Footprint
    idle: float
    starts: list[Start]
    loaded: Footprint | None = None
    reload: list[float] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Goal:
    """A figure that is at most so much, or at least."""

    what: str
    value: float
    wanted: float
    at_least: bool = False

    @property
    def is_reached(self) -> bool:
        """Is it?"""
        return self.value >= self.wanted if self.at_least else self.value <= self.wanted

    def __str__(self) -> str:
        bound = f"at {'least' if self.at_least else 'most'} {self.wanted:g}"
        return f"  {'reached' if self.is_reached else 'MISSED ':8}{self.what:58} {self.value:8.2f}  ({bound})"


@dataclass(frozen=True, slots=True)
class Results:
    """What was measured so far; `postfix` by what Postfix asked."""

    loads: dict[Load, list[Sample]] = field(default_factory=dict)
    sizes: dict[tuple[str, int], Size] = field(default_factory=dict)
    postfix: dict[str, list[Sample]] = field(default_factory=dict)

    @property
    def failed(self) -> float:
        """Messages and requests that were answered wrongly or not at all."""
        return sum(one.failed for some in self.loads.values() for one in some)


def show(results: Results, absent: Mapping[str, str]) -> None:
    """Print everything."""
    console = Console(width=WIDTH, highlight=False)
    console.print(f"{os.cpu_count()} cores, client on the same machine", style="dim")
    for table in (_loads(results), _sizes(results), _times(results), _postfix(results)):
        if table.row_count:
            console.print(table)
    for name, reason in absent.items():
        console.print(f"absent: {name}: {reason}", markup=False)
    if lines := list(map(str, goals(results))):
        console.print(
            "\nGoals; of each daemon its worst figure counts, through Postfix the best of ours that counts:"
        )
        console.print("\n".join(lines), markup=False)


def goals(results: Results) -> Iterator[Goal]:
    """What we set out to reach, as far as it was measured."""
    for name in dict.fromkeys(name for name, _ in results.sizes):
        some = [size for (here, _), size in results.sizes.items() if here == name]
        yield Goal(f"{name}: seconds to serving", max(_start(one).seconds for one in some), MAX_START_SECONDS)
        worst = max(_largest(one).resident for one in some)
        yield Goal(f"{name}: MB a worker (RSS)", worst / MILLION, MAX_WORKER_OCTETS / MILLION)
        idle = max(one.idle for one in some)
        yield Goal(f"{name}: KB an idle session", idle / THOUSAND, MAX_IDLE_OCTETS / THOUSAND)
    yield from _rate_goals({name: median_of(some).per_second for name, some in results.postfix.items()})


def _rate_goals(rates: Mapping[str, float]) -> Iterator[Goal]:
    own = [rate for name, rate in rates.items() if name.endswith(AND_POLICYD) or name == COUNTING_NAME]
    for other, wanted in RATE_GOALS.items():
        if own and other in rates:
            ratio = max(own) / rates[other]
            yield Goal(f"messages a second through Postfix / {other}", ratio, wanted, at_least=True)


def _start(size: Size) -> Start:
    return Start(median(one.seconds for one in size.starts), median(one.cpu_seconds for one in size.starts))


def _largest(size: Size) -> Footprint:
    return max((one for one in (size.fresh, size.loaded) if one), key=lambda one: one.resident)


def _loads(results: Results) -> Table:
    titles = ("a second", "CPU us each", "p50 ms", "p99 ms", "failed")
    table = _table(
        "load: messages of 4 KB verified; policy requests with two limits",
        ("daemon",),
        ("workers", "connections", *titles),
    )
    for (name, workers, connections), some in results.loads.items():
        row = median_of(some)
        table.add_row(
            name,
            str(workers),
            str(connections),
            format_number(row.per_second, 1),
            format_number(row.cpu_seconds, 1e-6),
            format_number(row.p50_ms, 1, 1),
            format_number(row.p99_ms, 1, 1),
            format_number(row.failed or None, 1),
        )
    return table


def _sizes(results: Results) -> Table:
    table = _table(
        "memory: MB a worker, with its first work done and after all loads; KB an idle session",
        ("daemon",),
        ("workers", "RSS", "PSS", "private", "RSS after", "private after", "idle"),
    )
    for (name, workers), size in results.sizes.items():
        fresh, after = size.fresh, size.loaded
        octets = (fresh.resident, fresh.proportional, fresh.private)
        later = (after.resident, after.private) if after else (None, None)
        table.add_row(
            name,
            str(workers),
            *(format_number(one, MILLION, 1) for one in (*octets, *later)),
            format_number(size.idle, THOUSAND, 1),
        )
    return table


def _times(results: Results) -> Table:
    table = _table(
        "seconds to serving, and to reload (all old workers ended)",
        ("daemon",),
        ("workers", "start", "its CPU", "reload"),
    )
    for (name, workers), size in results.sizes.items():
        start = _start(size)
        reload = median(size.reload) if size.reload else None
        seconds = (start.seconds, start.cpu_seconds, reload)
        table.add_row(name, str(workers), *(format_number(one, 1, 2) for one in seconds))
    return table


def _postfix(results: Results) -> Table:
    table = _table(
        "through Postfix: messages of 4 KB from outside",
        ("asked",),
        ("a second", "of no filter", "CPU us each"),
    )
    rows = {name: median_of(some) for name, some in results.postfix.items()}
    for name, row in rows.items():
        share = row.per_second / rows[NO_FILTER].per_second
        table.add_row(
            name, format_number(row.per_second, 1), f"{share:.0%}", format_number(row.cpu_seconds, 1e-6)
        )
    return table


def _table(title: str, names: Sequence[str], figures: Sequence[str]) -> Table:
    table = Table(title=title, title_justify="left")
    for name in names:
        table.add_column(name, no_wrap=True)
    for name in figures:
        table.add_column(name, justify="right")
    return table
