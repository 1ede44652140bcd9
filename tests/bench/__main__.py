"""`make bench`: how much one worker of each daemon does in a second here, and what of the processor it takes.

The client runs on the same machine, and other work moves the figures by half: compare within one run only.
`make bench ARGS='--seconds 10'` measures longer. `make bench ARGS=auth` runs a suite of its own (SUITES).
"""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.bench import auth, daemons, hostile, milter_client, policy, policy_client, size, soak
from tests.lab import tree
from tests.lab.daemons import Daemon
from tests.lab.keys import make_keys
from tests.lab.outside import OutsideDomain, compose
from tests.lab.site import Site, StoreName
from tests.lab.work import work_folder

SECONDS = 4.0
CONNECTIONS = 8
RULES = """
at rcpt {
    burst: limit 1000000 recipients/hour per sasl_username
    day:   limit 9000000 recipients/day  per sasl_username
}
at end-of-message {
    forged: reject "5.7.26 Fails DMARC" if dmarc is fail and dmarc_policy is reject and spf is fail
}
"""
BANK = OutsideDomain("bank.example", "192.0.2.25")
BODY = "\n".join(["0123456789 " * 6] * 55)  # with its header about 4 KB
TICKS = os.sysconf("SC_CLK_TCK")

Load = Callable[[float], tuple[int, float]]
# what a first word chooses; each is given the words after it
SUITES: dict[str, Callable[[Sequence[str]], int]] = {
    "auth": auth.main,
    "daemons": daemons.main,
    "hostile": hostile.main,
    "policy": policy.main,
    "size": size.main,
    "soak": soak.main,
}


@dataclass(frozen=True, slots=True)
class Figures:
    """What one load came to: how many a second, and microseconds of CPU of the daemon for each."""

    name: str
    per_second: float
    cpu_microseconds: float


def main() -> int:
    """Run the suite that is named, or the short one."""
    words = sys.argv[1:]
    return SUITES[words[0]](words[1:]) if words and words[0] in SUITES else measure_daemons(words)


def measure_daemons(words: Sequence[str]) -> int:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(
        prog="make bench",
        description="What one worker of each daemon does.",
        epilog=f"Suites: {', '.join(SUITES)}.",
    )
    parser.add_argument(
        "--seconds", type=float, default=SECONDS, help="how long each is measured (%(default)s)"
    )
    seconds = parser.parse_args(words).seconds
    stores: list[StoreName] = ["sqlite"]
    if (tree.ROOT / "usr/bin/redis-server").exists():
        stores.append("redis")
    with work_folder() as folder:
        keys = make_keys("example.org", folder / "keys")
        figures = []
        for store in stores:
            work = folder / store
            work.mkdir()
            site = Site(work, rules=RULES, keys=keys, store=store, zone=BANK.zone)
            figures.append(measure_policy(site, store, seconds))
        figures += measure_milter(site, seconds)
    show(figures)
    return 0


def measure_policy(site: Site, store: str, seconds: float) -> Figures:
    """Policy requests of logins, two limits each."""
    with site.without_postfix():

        def ask(for_seconds: float) -> tuple[int, float]:
            return policy_client.load(site.policy_address, CONNECTIONS, for_seconds)

        return measure(f"policy requests, two limits, {store}", site.policyd, ask, seconds)


def measure_milter(site: Site, seconds: float) -> list[Figures]:
    """Messages of 4 KB: verified, signed."""
    message = BANK.sign(compose("alerts@bank.example", "bob@example.org", "Statement", BODY))
    ours = compose("alice@example.org", "bob@example.org", "Hello", BODY)
    login = {"{auth_authen}": "alice", "{auth_type}": "PLAIN"}
    incoming = milter_client.Mail(BANK.address, {}, "alerts@bank.example", message)
    outgoing = milter_client.Mail("203.0.113.20", login, "alice@example.org", ours)
    with site.without_postfix():

        def verify(for_seconds: float) -> tuple[int, float]:
            return milter_client.load(site.milter_address, incoming, CONNECTIONS, for_seconds)

        def sign(for_seconds: float) -> tuple[int, float]:
            return milter_client.load(site.milter_address, outgoing, CONNECTIONS, for_seconds)

        return [
            measure("messages of 4 KB: SPF, DKIM, DMARC", site.milter, verify, seconds),
            measure("messages of 4 KB: signed, RSA and Ed25519", site.milter, sign, seconds),
        ]


def measure(name: str, daemon: Daemon, load: Load, seconds: float) -> Figures:
    """Warm up for a tenth of the time, then measure."""
    Console(stderr=True).print(f"  {name} ...")
    load(seconds / 10)
    before = cpu_seconds(daemon)
    count, took = load(seconds)
    return Figures(name, count / took, (cpu_seconds(daemon) - before) / count * 1e6)


def cpu_seconds(daemon: Daemon) -> float:
    """What the daemon's processes used, user and system (proc(5))."""
    stats = [Path(f"/proc/{pid}/stat").read_text() for pid in daemon.workers]
    times = [stat.rpartition(")")[2].split()[11:13] for stat in stats]
    return sum(int(ticks) for pair in times for ticks in pair) / TICKS


def show(figures: list[Figures]) -> None:
    """A table."""
    table = Table(
        title=f"one worker, {CONNECTIONS} connections, {os.cpu_count()} cores, client on the same machine"
    )
    table.add_column("what")
    for title in ("a second", "CPU us each"):
        table.add_column(title, justify="right")
    for row in figures:
        table.add_row(row.name, f"{row.per_second:,.0f}", f"{row.cpu_microseconds:,.0f}")
    Console().print(table)


if __name__ == "__main__":
    sys.exit(main())
