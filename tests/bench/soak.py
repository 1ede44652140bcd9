"""`make bench ARGS=soak`: many messages through the milter while it is hurt, each judged rightly or deferred.

Three kinds of mail come at once: a stranger's with a good signature, a forgery, and our own. The first half
comes while workers are killed, the configuration is read anew, DNS falls silent and Redis goes away and comes
back; in the second half the workers live, so that it shows whether their memory grows. It is measured again
and again, and told with the process it is of.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.bench.milter_client import Mail
from tests.bench.milter_load import Loaded, compile_program, load
from tests.bench.milter_script import negotiate, script
from tests.lab.daemons import ENGINES, Daemon, Engine
from tests.lab.dns import SILENT
from tests.lab.keys import make_keys
from tests.lab.outside import OutsideDomain, compose
from tests.lab.process import wait_until
from tests.lab.site import Site
from tests.lab.work import work_folder

MESSAGES = 200_000
WORKERS = 2
CONNECTIONS = 4
"""Of each kind of mail."""
FAULT_SECONDS = 0.4
"""How long DNS is silent, or the store away."""
LEAST_PAUSE, MOST_PAUSE = 0.3, 3.0
"""Seconds between two faults, in which mail flows as usual: less in a short run, so that it meets each."""
MESSAGES_A_SECOND = 2_000
FAULTS = 20
"""A half of the run has room for so many, at so many messages a second."""
WARM_SHARE = 20
"""A twentieth of a half comes first, before memory is measured."""
PART = 10_000
"""Messages after which memory is measured again: less often than faults come."""
MEGABYTE = 1 << 20
MOST_GROWTH_BYTES = 2 * MEGABYTE
"""Of a worker in the last quarter, when its caches and its allocator have filled."""
BANK = OutsideDomain("bank.example", "192.0.2.25")
FORGER = "203.0.113.66"
BODY = "\n".join(["0123456789 " * 6] * 55)
RULES = """
at end-of-message {
    forged: reject "5.7.26 Fails DMARC" if dmarc is fail and dmarc_policy is reject and spf is fail
    day:    limit 100000000 messages/day per client_address
}
"""
SETTINGS = {
    "milter": {"workers": WORKERS},
    "dns": {"timeout_seconds": 0.3, "message_budget_seconds": 0.6},
    "limits": {"redis_timeout_seconds": 0.3},
    "audit": {"file": "/dev/null"},
}
ANY_NUMBER = 1 << 30


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of mail: what it gets, how many of ten it is, and whether it may be let through at all.

    `mark` is what it gets whenever nothing is amiss, `hurt_mark` what it may get else.
    """

    name: str
    mark: str
    hurt_mark: str
    of_ten: int
    mail: Mail
    passes: bool = True


@dataclass(slots=True)
class Count:
    """What became of a kind, in both halves."""

    sent: int = 0
    right: int = 0
    deferred: int = 0
    wrong: int = 0

    def add(self, kind: Kind, loaded: Loaded) -> None:
        """One load of it."""
        self.sent += loaded.count + loaded.failed
        self.deferred += loaded.failed - loaded.refused
        right = loaded.marked if kind.passes else loaded.refused
        self.right += right
        self.wrong += loaded.count + loaded.refused - right


@dataclass(frozen=True, slots=True)
class Sample:
    """Memory at one moment: octets of each worker by its process id, after so many messages."""

    when: str
    messages: int
    workers: dict[int, int]

    @property
    def octets(self) -> int:
        """Of all workers together."""
        return sum(self.workers.values())


def is_flat(half: Sequence[Sample]) -> bool:
    """Whether no worker grew much in the later part of these samples: by then all that fills is full.

    A worker that is new counts for nothing.
    """
    early, last = half[len(half) // 2], half[-1]
    grown = [octets - early.workers[pid] for pid, octets in last.workers.items() if pid in early.workers]
    return all(growth <= MOST_GROWTH_BYTES for growth in grown)


def kinds() -> tuple[Kind, ...]:
    """The three."""
    login = {"{auth_authen}": "alice", "{auth_type}": "PLAIN"}
    author, reader = f"alerts@{BANK.name}", "bob@example.org"
    signed = BANK.sign(compose(author, reader, "Statement", BODY))
    forged = compose(author, reader, "Urgent", BODY)
    ours = compose("alice@example.org", "bob@example.net", "Hello", BODY)
    return (
        Kind(
            "verified", "dmarc=pass", "dmarc=pass|dmarc=temperror", 4, Mail(BANK.address, {}, author, signed)
        ),
        Kind("signed", "b=", "b=", 4, Mail("203.0.113.20", login, "alice@example.org", ours)),
        Kind("forged", "=pass", "=pass", 2, Mail(FORGER, {}, author, forged), passes=False),
    )


def main(words: Sequence[str]) -> int:
    """Run it and print; 1 if a message was treated wrongly or memory grew."""
    parser = argparse.ArgumentParser(prog="make bench ARGS=soak", description="Messages under faults.")
    parser.add_argument("--messages", type=int, default=MESSAGES, help="in both halves (%(default)s)")
    parser.add_argument("--engine", choices=ENGINES, default="native", help="(%(default)s)")
    chosen = parser.parse_args(words)
    with work_folder() as folder:
        keys = make_keys("example.org", folder / "keys")
        work = folder / "site"
        work.mkdir(mode=0o755)
        site = Site(
            work,
            rules=RULES,
            keys=keys,
            store="redis",
            engine=chosen.engine,
            settings=SETTINGS,
            zone=short_lived(BANK.zone),
        )
        with site.without_postfix():
            return Soak(site, work, chosen.engine, chosen.messages // 2).run()


def short_lived(zone: str) -> str:
    """The zone with a TTL of one second, so that DNS is asked all the time."""
    return re.sub(r"(?m)^(\s*\S+\.)\s+(?=MX|TXT|A)", r"\1 1 ", zone)


class Soak:
    """One run over a site."""

    def __init__(self, site: Site, work: Path, engine: Engine, half: int) -> None:
        self._site = site
        self._engine = engine
        self._half = half
        self._pause = min(MOST_PAUSE, max(LEAST_PAUSE, half / MESSAGES_A_SECOND / FAULTS))
        self._program = compile_program()
        self._kinds = kinds()
        self._counts = {kind.name: Count() for kind in self._kinds}
        self._faults: dict[str, int] = {}
        self._samples: list[Sample] = []
        self._retired: set[int] = set()
        self._scripts = {kind.name: work / f"{kind.name}.script" for kind in self._kinds}
        agreement = negotiate(site.milter_address)
        for kind in self._kinds:
            path = self._scripts[kind.name]
            path.write_bytes(script(agreement, kind.mail, "bob@example.org"))

    def run(self) -> int:
        """Both halves; memory is measured at their ends and after each part."""
        began = time.monotonic()
        self._quietly("start")
        self._under(self._kill, self._silence, self._reload, self._take_store)
        self._quietly("middle")
        lived = len(self._samples) - 1
        self._under(self._silence, self._take_store)
        self._quietly("end")
        self._show(time.monotonic() - began)
        flat = is_flat(self._samples[lived:])
        return 0 if flat and not any(count.wrong for count in self._counts.values()) else 1

    def _quietly(self, when: str) -> None:
        """Mail while nothing is amiss: then all of it must be marked as it should."""
        self._recover()
        self._send(self._half // WARM_SHARE, ())
        self._measure(when)

    def _under(self, *faults: Callable[[], None]) -> None:
        """Most of a half, under these faults in turn."""
        left = self._half - self._half * 3 // 2 // WARM_SHARE
        turns = cycle(faults)
        while left > 0:
            part = left if left < 2 * PART else PART
            self._send(part, turns)
            self._measure("")
            left -= part

    def _measure(self, when: str) -> None:
        sent = sum(count.sent for count in self._counts.values())
        self._samples.append(Sample(when, sent, memory(self._site.milter, self._retired)))

    def _send(self, messages: int, faults: Iterable[Callable[[], None]]) -> None:
        with ThreadPoolExecutor() as pool:
            loads = {
                kind.name: pool.submit(self._load, kind, messages, kind.hurt_mark if faults else kind.mark)
                for kind in self._kinds
            }
            self._hurt(tuple(loads.values()), faults)
            for kind in self._kinds:
                self._counts[kind.name].add(kind, loads[kind.name].result())

    def _recover(self) -> None:
        """Until nothing is amiss: failures of DNS are remembered for some seconds."""
        good = self._kinds[0]
        wait_until(lambda: self._load(good, 25, good.mark).marked == 10, "good mail passes again")

    def _load(self, kind: Kind, messages: int, mark: str) -> Loaded:
        return load(
            self._program,
            self._site.milter_address,
            [self._scripts[kind.name]],
            mark,
            connections=CONNECTIONS,
            messages=max(1, messages * kind.of_ten // 10),
            failures=ANY_NUMBER,
        )

    def _hurt(self, loads: tuple[Future[Loaded], ...], faults: Iterable[Callable[[], None]]) -> None:
        """One fault after the other, as long as mail comes."""
        for fault in faults:
            if all(one.done() for one in loads):
                return
            fault()
            name = fault.__name__.lstrip("_")
            self._faults[name] = self._faults.get(name, 0) + 1
            time.sleep(self._pause)

    # -- faults --------------------------------------------------------------------------------------

    def _kill(self) -> None:
        with suppress(ProcessLookupError, IndexError):
            os.kill(self._site.milter.workers[0], signal.SIGKILL)

    def _reload(self) -> None:
        self._retired.update(self._site.milter.workers)
        self._site.milter.hup()

    def _silence(self) -> None:
        names = (
            BANK.name,
            f"mail.{BANK.name}",
            f"_dmarc.{BANK.name}",
            f"{BANK.selector}._domainkey.{BANK.name}",
        )
        for name in names:
            self._site.dns.fail(name, SILENT)
        time.sleep(FAULT_SECONDS)
        self._site.dns.heal()

    def _take_store(self) -> None:
        redis = self._site.redis
        assert redis is not None
        redis.kill()
        time.sleep(FAULT_SECONDS)
        redis.start()

    # -- what came of it -----------------------------------------------------------------------------

    def _show(self, seconds: float) -> None:
        total = sum(count.sent for count in self._counts.values())
        table = Table(title=f"{total:,} messages in {seconds:.0f} s, {self._engine}")
        for title in ("mail", "messages", "as it should be", "deferred", "wrong"):
            table.add_column(title, justify="left" if title == "mail" else "right")
        for name, count in self._counts.items():
            table.add_row(
                name, *(f"{one:,}" for one in (count.sent, count.right, count.deferred, count.wrong))
            )
        out = Console()
        out.print(table)
        out.print("faults:", ", ".join(f"{name} {count}" for name, count in self._faults.items()))
        out.print(self._memories())

    def _memories(self) -> Table:
        """A row a sample; another process means that a worker was killed or the files were read anew."""
        table = Table(title="memory")
        for title in ("after messages", "MB", "of each worker (process)", ""):
            table.add_column(title, justify="right" if title in ("after messages", "MB") else "left")
        for one in self._samples:
            each = (f"{octets / MEGABYTE:.1f} ({pid})" for pid, octets in sorted(one.workers.items()))
            table.add_row(f"{one.messages:,}", f"{one.octets / MEGABYTE:.1f}", ", ".join(each), one.when)
        return table


def memory(daemon: Daemon, retired: Collection[int]) -> dict[int, int]:
    """Octets that each worker has resident by its process id, pages that are shared counted in parts (PSS).

    Waits until those that a reload retires have ended, and those that died are replaced.
    """

    def are_new() -> bool:
        workers = daemon.workers
        return len(workers) == WORKERS and not set(workers) & set(retired)

    wait_until(are_new, "all old workers have ended")
    return {pid: pss(pid) for pid in daemon.workers}


def pss(pid: int) -> int:
    """Of one process."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return sum(int(size) for size in re.findall(r"(?m)^Pss:\s+(\d+) kB", text)) * 1024
