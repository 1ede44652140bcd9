"""`make bench ARGS=size`: what a key takes in each store, and what is left of the file when keys end.

A live key is a counter with 8 filled buckets, its marks expired. A million keys by default, in batches as
large as a transaction bears; the clock is the bench's own.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path

from rich.console import Console
from rich.table import Table

from mailreeve_policyd.limits import Charge, Limit, LimitStore, Unit, limit_key
from mailreeve_policyd.limits_redis import RedisStore
from mailreeve_policyd.limits_sqlite import SqliteStore
from tests.lab import tree
from tests.lab.redis import Redis
from tests.lab.work import work_folder

KEYS = 1_000_000
REDIS_SHARE = 10
"""Redis is given a tenth of the keys: it keeps each by itself, so their number changes little."""
BUCKETS = 8
PER_CALL = 250
LIMIT = Limit(1_000_000, Unit.MESSAGES, timedelta(days=1))
SIXTIETH = LIMIT.period.total_seconds() / 60


class HandClock:
    """Seconds that pass when the bench says so."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


def main(words: Sequence[str]) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        prog="make bench ARGS=size", description="What a key takes in each store."
    )
    parser.add_argument("--keys", type=int, default=KEYS, help="how many in the embedded store (%(default)s)")
    keys: int = parser.parse_args(words).keys
    rows: list[tuple[str, int, int]] = []
    with work_folder() as work:
        rows += embedded(work, keys)
        if (tree.ROOT / "usr/bin/redis-server").exists():
            rows.append(shared(work, keys // REDIS_SHARE))
    table = Table(title=f"one limit a key, {BUCKETS} filled buckets")
    for title in ("what", "keys", "bytes", "bytes a key"):
        table.add_column(title, justify="left" if title == "what" else "right")
    for name, count, size in rows:
        table.add_row(name, f"{count:,}", f"{size:,}", f"{size / count:.0f}" if count else "")
    Console().print(table)
    return 0


def embedded(work: Path, keys: int) -> Iterator[tuple[str, int, int]]:
    """The file with all keys, and when all of them have ended and as many charges came again as sweep it."""
    clock = HandClock()
    file = work / "limits.sqlite"
    store = SqliteStore(file, clock)
    fill(store, clock, keys, "SQLite")
    store.close()  # brings the log into the file
    yield "SQLite, all alive", keys, file.stat().st_size
    clock.now += 2 * LIMIT.period.total_seconds()
    store = SqliteStore(file, clock)
    for _ in range(3 * keys // 4):  # each charge looks at four rows
        store.charge([charge(0)])
    store.close()
    yield "SQLite, all but one ended", 0, file.stat().st_size


def shared(work: Path, keys: int) -> tuple[str, int, int]:
    """Redis' own account of its memory, less what it had before."""
    clock = HandClock()
    with Redis(work) as server:
        store = RedisStore.from_url(server.unix_url, 60, clock)
        before = used_memory(server)
        fill(store, clock, keys, "Redis")
        store.close()
        return "Redis", keys, used_memory(server) - before


def used_memory(server: Redis) -> int:
    """Octets (INFO memory)."""
    return int(server.ask("INFO memory").partition("used_memory:")[2].split()[0])


def fill(store: LimitStore, clock: HandClock, keys: int, name: str) -> None:
    """Charge every key once in each of so many buckets."""
    say: Callable[[str], None] = Console(stderr=True).print
    for bucket in range(BUCKETS):
        for first in range(0, keys, PER_CALL):
            store.charge([charge(number) for number in range(first, min(first + PER_CALL, keys))])
        clock.now += SIXTIETH
        say(f"  {name}: {keys:,} keys, {bucket + 1} of {BUCKETS} buckets")


def charge(number: int) -> Charge:
    """One message of one login."""
    return Charge("day", limit_key("day", LIMIT, [f"user{number}@example.org"]), LIMIT, 1)
