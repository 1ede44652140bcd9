"""`make bench ARGS=auth`: our filter, with either engine, beside the filters that Debian ships.

Same messages, same DNS, all servers up at once and loaded one after the other, round after round, so that
whatever else the machine does falls on all alike: compare within one run only. CPU is the filter's, its
workers and children summed; medians over the rounds. A peer that cannot be fetched or started is absent.
"""

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

from rich.console import Console

from tests.bench import auth_mail, auth_report, isolation, peer_tree, usage
from tests.bench.auth_fleet import Fleet, Running
from tests.bench.auth_report import Case, Sample
from tests.bench.auth_servers import PEERS, Duty
from tests.bench.through_postfix import measure_postfix
from tests.lab.work import work_folder

MODULE = "tests.bench.auth"
CONNECTIONS = (1, 20)
LARGE_MESSAGES = {1: 5}  # in one load, by connections; more connections send each two
PROGRESS = Console(stderr=True, highlight=False)
SIZES = {"4k": auth_mail.SMALL, "10m": auth_mail.LARGE}


@dataclass(frozen=True, slots=True)
class Bench:
    """One run: what was asked for, and what was measured so far."""

    options: argparse.Namespace
    fleet: Fleet
    samples: dict[tuple[Case, str], list[Sample]] = field(default_factory=dict)

    def measure(self, duty: Duty) -> None:
        """All loads of a duty: alone, and through Postfix."""
        with ExitStack() as stack:
            PROGRESS.print(f"  {duty}: starting the filters")
            running = self.fleet.start(duty, [SIZES[name] for name in self.options.sizes], stack)
            for name in self.options.sizes:
                for connections in self.options.connections:
                    self._rounds(Case(duty, SIZES[name], connections), running)
            if self.options.postfix:
                PROGRESS.print(f"  {duty} through Postfix")
                options = self.options
                for case, name, sample in measure_postfix(duty, running, options.postfix, options.rounds):
                    self.samples.setdefault((case, name), []).append(sample)

    def _rounds(self, case: Case, running: list[Running]) -> None:
        PROGRESS.print(f"  {case.name}")
        for _ in range(self.options.rounds):
            for one in running:
                self.samples.setdefault((case, one.name), []).append(self._load(case, one))

    def _load(self, case: Case, one: Running) -> Sample:
        large = case.size == auth_mail.LARGE
        messages = LARGE_MESSAGES.get(case.connections, 2 * case.connections) if large else 0
        pid = one.server.process.pid
        usage.forget_peak(pid)
        before = one.cpu_seconds()
        loaded = self.fleet.load(
            one.server,
            one.scripts[case.size],
            case.connections,
            seconds=0 if large else self.options.seconds,
            messages=messages,
        )
        return Sample(
            per_second=loaded.count / loaded.seconds,
            cpu_seconds=(one.cpu_seconds() - before) / max(loaded.count, 1),
            p50_ms=loaded.p50_ms,
            p99_ms=loaded.p99_ms,
            peak=usage.memory(pid).peak,
            grown=usage.memory(pid).peak - one.resident,
            failed=loaded.failed + loaded.count - loaded.marked,
        )


def main(words: Sequence[str]) -> int:
    """Measure and print; the exit code."""
    options = parse_options(words)
    if refusal := isolation.why_not():
        PROGRESS.print(f"bench auth: {refusal}")
        return 1
    if not options.inside and options.peers and (trouble := peer_tree.provide()):
        PROGRESS.print(f"The peers are absent: {trouble}")
    isolation.enter(MODULE, words)
    isolation.give_addresses((auth_mail.DOMAIN.address, auth_mail.OUR_ADDRESS))
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that it stops its servers then, too
    with work_folder() as work, ExitStack() as stack:
        bench = Bench(options, Fleet(work, stack, options.peers, options.workers))
        try:
            for duty in options.duties:
                bench.measure(duty)
        finally:  # whatever ended it, minutes of measuring are not lost
            auth_report.show(bench.samples, bench.fleet.absent, options.workers)
    return 0


def parse_options(words: Sequence[str]) -> argparse.Namespace:
    """What was typed after `auth`."""
    parser = argparse.ArgumentParser(
        prog="make bench ARGS='auth ...'", description="Our filter beside those that Debian ships."
    )
    parser.add_argument("--rounds", type=int, default=5, help="loads of each filter (%(default)s)")
    parser.add_argument("--seconds", type=float, default=2.0, help="of each load with 4 KB (%(default)s)")
    parser.add_argument("--duties", nargs="+", choices=list(PEERS), default=list(PEERS))
    parser.add_argument("--sizes", nargs="+", choices=list(SIZES), default=list(SIZES))
    parser.add_argument("--connections", nargs="+", type=int, default=list(CONNECTIONS))
    parser.add_argument("--peers", nargs="*", default=list(PEERS["verify"]), help="beside whom (all)")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="rspamd's and ours (%(default)s)")
    parser.add_argument(
        "--postfix",
        type=int,
        default=800,
        metavar="MESSAGES",
        help="sent through Postfix in each load (%(default)s)",
    )
    parser.add_argument(isolation.INSIDE, action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args(words)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
