"""`make bench ARGS=policy`: our policy daemon beside postfwd and policyd-rate-limit, on the same requests.

All servers are up at once and loaded one after the other, round after round, so that whatever else the
machine does falls on all alike: compare within one run only. CPU is the server's and its workers', without
that of a Redis server; medians over the rounds. A peer that is not installed is said to be absent.
"""

import argparse
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import get_args

from rich.console import Console
from rich.table import Table

from tests.bench.policy_load import compile_program
from tests.bench.policy_servers import (
    BareRedis,
    Ours,
    PolicydRateLimit,
    Postfwd,
    RulesName,
    Server,
    absent_peers,
    name_of,
    peers,
)
from tests.lab import tree
from tests.lab.process import LabError
from tests.lab.redis import Redis
from tests.lab.work import work_folder

CONNECTIONS = (1, 8, 64, 1000)
GOALS_AT = 8  # connections for which the goals are set
WARM_UP_SECONDS = 0.3
PROGRESS = Console(stderr=True, highlight=False)


@dataclass(frozen=True, slots=True)
class Sample:
    """One load of one server, or the median of several; microseconds of CPU an answer."""

    per_second: float
    cpu_microseconds: float
    p50_ms: float
    p99_ms: float
    failed: float = 0


Results = dict[tuple[int, str], list[Sample]]


@dataclass(frozen=True, slots=True)
class Goal:
    """What we set out to reach: a figure that is at least, or at most, so much."""

    text: str
    reached: float
    wanted: float
    is_most: bool = False

    @property
    def is_met(self) -> bool:
        """Is it?"""
        return self.reached <= self.wanted if self.is_most else self.reached >= self.wanted


def main(words: Sequence[str]) -> int:
    """Measure and print tables; 0 unless an answer of ours was wrong."""
    options = _options(words)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that it stops its servers then, too
    program = compile_program()
    results: Results = {}
    with work_folder() as work, ExitStack() as stack:
        servers: list[Server] = [*_ours(work, options.workers, stack), *peers(work)]
        for name in absent_peers():
            PROGRESS.print(f"  {name} is not installed: absent")
        for server in servers:
            stack.enter_context(server)
            server.load(program, GOALS_AT, WARM_UP_SECONDS)
        for connections in options.connections:
            PROGRESS.print(f"  {connections} connections")
            for _ in range(options.rounds):
                for server in servers:
                    if sample := _load(server, program, connections, options.seconds):
                        results.setdefault((connections, server.name), []).append(sample)
    medians = {case: _median(samples) for case, samples in results.items()}
    _show(medians, options.workers)
    return 1 if any(one.failed for one in medians.values()) else 0


def _options(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench ARGS='policy ...'", description=__doc__)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each load (%(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="of which the median counts (%(default)s)")
    parser.add_argument(
        "--workers", type=int, default=1, help="our worker processes, 0 for one a core (%(default)s)"
    )
    parser.add_argument("--connections", type=int, nargs="+", default=CONNECTIONS, help="at once")
    return parser.parse_args(words)


def _ours(work: Path, workers: int, stack: ExitStack) -> Iterator[Server]:
    names: tuple[RulesName, ...] = get_args(RulesName)
    for rules in names:
        yield Ours(work, "sqlite", rules, None, workers)
    if not (tree.ROOT / "usr/bin/redis-server").exists():
        PROGRESS.print("  Redis is not unpacked: absent")
        return
    shared = stack.enter_context(Redis(work))
    for rules in names:
        yield Ours(work, "redis", rules, shared, workers)
    yield BareRedis(shared)


def _load(server: Server, program: Path, connections: int, seconds: float) -> Sample | None:
    before = server.cpu_seconds()
    try:
        loaded = server.load(program, connections, seconds)
    except LabError as error:
        PROGRESS.print(f"  {server.name}: {error}")
        return None
    cpu = (server.cpu_seconds() - before) / loaded.count * 1e6
    return Sample(loaded.count / loaded.seconds, cpu, loaded.p50_ms, loaded.p99_ms, loaded.failed)


def _median(samples: Sequence[Sample]) -> Sample:
    return Sample(
        median(one.per_second for one in samples),
        median(one.cpu_microseconds for one in samples),
        median(one.p50_ms for one in samples),
        median(one.p99_ms for one in samples),
        max(one.failed for one in samples),
    )


def _show(medians: dict[tuple[int, str], Sample], workers: int) -> None:
    console = Console()
    for connections in dict.fromkeys(connections for connections, _ in medians):
        table = Table(title=f"{connections} connections, our workers: {workers or 'one a core'}")
        table.add_column("server")
        for title in ("a second", "CPU us each", "p50 ms", "p99 ms", "failed"):
            table.add_column(title, justify="right")
        for (here, name), one in medians.items():
            if here == connections:
                times = f"{one.p50_ms:,.1f}", f"{one.p99_ms:,.1f}"
                table.add_row(
                    name, f"{one.per_second:,.0f}", f"{one.cpu_microseconds:,.0f}", *times, f"{one.failed:g}"
                )
        console.print(table)
    for goal in _goals(medians):
        bound = "at most" if goal.is_most else "at least"
        verdict = "met" if goal.is_met else "NOT met"
        console.print(f"{goal.text}: {goal.reached:,.2f} ({bound} {goal.wanted:g}: {verdict})")


def _goals(medians: dict[tuple[int, str], Sample]) -> Iterator[Goal]:
    """What we set out to reach, as far as it was measured."""

    def figures(name: str, other: str) -> tuple[Sample, Sample] | None:
        here, there = medians.get((GOALS_AT, name)), medians.get((GOALS_AT, other))
        return (here, there) if here and there else None

    sqlite, shared = name_of("sqlite", "5 rules"), name_of("redis", "5 rules")
    rates = (
        (sqlite, Postfwd.name, 3.0),
        (sqlite, PolicydRateLimit.name, 8.0),
        (shared, Postfwd.name, 2.0),
        (shared, BareRedis.name, 0.5),
    )
    for name, other, wanted in rates:
        if pair := figures(name, other):
            ratio = pair[0].per_second / pair[1].per_second
            yield Goal(f"{name}: a second, to {other}", ratio, wanted)
    for few, many in ((sqlite, name_of("sqlite", "50 rules")), (shared, name_of("redis", "50 rules"))):
        if pair := figures(many, few):
            ratio = pair[0].cpu_microseconds / pair[1].cpu_microseconds
            yield Goal(f"{many}: CPU, to that of 5 rules", ratio, 1.3, is_most=True)
        if found := medians.get((GOALS_AT, few)):
            yield Goal(f"{few}: p99 in ms", found.p99_ms, 100, is_most=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
