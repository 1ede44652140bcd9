"""`make bench ARGS=daemons`: speed and size of our two daemons, and what they cost a mail server as a whole.

Each daemon with one worker and with two, all up at once and loaded one after the other, round after round, so
that whatever else the machine does falls on all alike: compare within one run only. Medians over the rounds.
Through Postfix they stand beside the filters of `make bench ARGS=auth`, and postfwd where it is installed.
"""

import argparse
import os
import signal
import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

from rich.console import Console

from tests.bench import auth_mail, daemons_report, isolation, peer_tree, policy_load, usage
from tests.bench.auth_fleet import Fleet
from tests.bench.auth_servers import CHAIN
from tests.bench.daemons_postfix import measure_postfix
from tests.bench.daemons_report import RSPAMD, Results, Size, Start
from tests.bench.daemons_subjects import WARM_CONNECTIONS, WARM_SECONDS, Subject, start_all
from tests.bench.usage import Footprint
from tests.lab.work import work_folder

MODULE = "tests.bench.daemons"
PEERS = (*CHAIN, RSPAMD)
PROGRESS = Console(stderr=True, highlight=False)


@dataclass(frozen=True, slots=True)
class Bench:
    """One run: what was asked for, and what was measured so far."""

    options: argparse.Namespace
    fleet: Fleet
    results: Results = field(default_factory=Results)

    def measure_daemons(self) -> None:
        """Each by itself: sizes while nothing else was asked of it, then the loads, then sizes again."""
        program = policy_load.compile_program()
        with ExitStack() as stack:
            PROGRESS.print("  starting the daemons")
            subjects = start_all(self.fleet, program, self.options.workers, stack)
            for case, subject in subjects.items():
                PROGRESS.print(f"  {subject.name}, workers: {subject.workers}: size, start")
                self.results.sizes[case] = self._size(subject)
            for connections in self.options.connections:
                PROGRESS.print(f"  {connections} connections")
                self._loads(subjects.values(), connections)
            PROGRESS.print("  reload")
            for case, subject in subjects.items():
                size = self.results.sizes[case]
                size.loaded = largest(subject.footprints())
                size.reload += [reload_seconds(subject) for _ in range(self.options.rounds)]

    def measure_postfix(self) -> None:
        """Through Postfix."""
        PROGRESS.print("  through Postfix")
        options = self.options
        workers = os.cpu_count() or 1
        for name, sample in measure_postfix(self.fleet, options.postfix, options.rounds, workers):
            self.results.postfix.setdefault(name, []).append(sample)

    def _size(self, subject: Subject) -> Size:
        fresh = largest(subject.footprints())
        idle = idle_octets(subject, self.options.idle)
        start = [start_anew(subject) for _ in range(self.options.rounds)]
        subject.load(WARM_CONNECTIONS, WARM_SECONDS)
        return Size(fresh, idle, start)

    def _loads(self, subjects: Iterable[Subject], connections: int) -> None:
        for _ in range(self.options.rounds):
            for subject in subjects:
                case = (subject.name, subject.workers, connections)
                sample = subject.load(connections, self.options.seconds)
                self.results.loads.setdefault(case, []).append(sample)


def largest(footprints: Sequence[Footprint]) -> Footprint:
    """Of the worker that has most resident memory."""
    return max(footprints, key=lambda one: one.resident)


def idle_octets(subject: Subject, sessions: int) -> float:
    """By how much the workers' resident memory grows for each of so many sessions that fell idle."""
    before = sum(one.resident for one in subject.footprints())
    with ExitStack() as stack:
        for _ in range(sessions):
            stack.callback(subject.open_idle())
        return (sum(one.resident for one in subject.footprints()) - before) / sessions


def start_anew(subject: Subject) -> Start:
    """Stop it, and see what it takes from its start until its workers serve."""
    subject.daemon.stop()
    begun = time.monotonic()
    subject.daemon.start()
    took = time.monotonic() - begun
    return Start(took, usage.cpu_seconds(subject.daemon.pid))


def reload_seconds(subject: Subject) -> float:
    """From SIGHUP until the last worker with the old configuration has ended."""
    begun = time.monotonic()
    subject.daemon.reload()
    return time.monotonic() - begun


def main(words: Sequence[str]) -> int:
    """Measure and print; 0 unless an answer was wrong or none came."""
    options = parse_options(words)
    if refusal := isolation.why_not():
        PROGRESS.print(f"bench daemons: {refusal}")
        return 1
    if not options.inside and options.peers and (trouble := peer_tree.provide()):
        PROGRESS.print(f"The peers are absent: {trouble}")
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # what is installed was compiled then, not at each start
    isolation.enter(MODULE, words)
    isolation.give_addresses((auth_mail.DOMAIN.address, auth_mail.OUR_ADDRESS))
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that it stops its servers then, too
    with work_folder() as work, ExitStack() as stack:
        bench = Bench(options, Fleet(work, stack, options.peers, os.cpu_count() or 1))
        try:
            if options.workers:
                bench.measure_daemons()
            if options.postfix:
                bench.measure_postfix()
        finally:  # whatever ended it, minutes of measuring are not lost
            daemons_report.show(bench.results, bench.fleet.absent)
    return 1 if bench.results.failed else 0


def parse_options(words: Sequence[str]) -> argparse.Namespace:
    """What was typed after `daemons`."""
    parser = argparse.ArgumentParser(
        prog="make bench ARGS='daemons ...'", description="Speed and size of our two daemons."
    )
    parser.add_argument("--rounds", type=int, default=3, help="of each measurement (%(default)s)")
    parser.add_argument("--seconds", type=float, default=1.0, help="of each load (%(default)s)")
    parser.add_argument(
        "--workers", nargs="*", type=int, default=[1, 2], help="of each daemon; none: only through Postfix"
    )
    parser.add_argument("--connections", nargs="+", type=int, default=[1, 8, 64, 500], help="at once")
    parser.add_argument("--idle", type=int, default=500, help="sessions left idle (%(default)s)")
    parser.add_argument("--peers", nargs="*", default=list(PEERS), help="beside whom (all)")
    parser.add_argument(
        "--postfix",
        type=int,
        default=600,
        metavar="MESSAGES",
        help="sent through Postfix in each load, 0 for none (%(default)s)",
    )
    parser.add_argument(isolation.INSIDE, action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args(words)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
