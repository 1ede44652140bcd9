"""The daemons that `bench daemons` measures: the filter with either engine, and the policy daemon."""

import socket
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from tests.bench import auth_mail, policy_client, policy_load, usage
from tests.bench.auth_fleet import Fleet, mails_for
from tests.bench.auth_report import Sample
from tests.bench.auth_servers import Engine, ours
from tests.bench.milter_client import MilterSession
from tests.bench.policy_load import Loaded
from tests.bench.policy_servers import Ours
from tests.bench.usage import Footprint
from tests.lab.daemons import Daemon
from tests.lab.ports import parse_address
from tests.lab.process import LabError

POLICYD = "policyd"
WARM_CONNECTIONS, WARM_SECONDS = 8, 0.2
IDLE_TIMEOUT_SECONDS = 30.0  # for what is asked before a session falls idle


@dataclass(frozen=True, slots=True)
class Subject:
    """A daemon that is up and has done its first work, with so many workers.

    `load_it` loads it on so many connections for so many seconds. `open_idle` opens one session, brings it
    as far as a client's greeting, and returns what closes it.
    """

    name: str
    workers: int
    daemon: Daemon
    load_it: Callable[[int, float], Loaded]
    open_idle: Callable[[], Callable[[], None]]

    def load(self, connections: int, seconds: float) -> Sample:
        """Load it; LabError if it does not answer."""
        before = usage.cpu_seconds(self.daemon.pid)
        loaded = self.load_it(connections, seconds)
        used = usage.cpu_seconds(self.daemon.pid) - before
        return Sample(
            per_second=loaded.count / loaded.seconds,
            cpu_seconds=used / max(loaded.count, 1),
            p50_ms=loaded.p50_ms,
            p99_ms=loaded.p99_ms,
            failed=loaded.failed,
        )

    def footprints(self) -> list[Footprint]:
        """The memory of each worker now."""
        return [usage.footprint(pid) for pid in self.daemon.workers]


def start_all(
    fleet: Fleet, program: Path, workers: Sequence[int], stack: ExitStack
) -> dict[tuple[str, int], Subject]:
    """Start every daemon with each number of workers, until the stack is closed; LabError if one cannot."""
    subjects = []
    for count in workers:
        work = fleet.work / f"workers-{count}"
        work.mkdir()
        subjects += [start_milter(fleet, work, engine, count, stack) for engine in get_args(Engine)]
        subjects.append(start_policyd(program, work, count, stack))
    return {(subject.name, subject.workers): subject for subject in subjects}


def start_milter(fleet: Fleet, work: Path, engine: Engine, workers: int, stack: ExitStack) -> Subject:
    """The filter, which verifies messages of 4 KB."""
    server = ours(work, fleet.key, "verify", workers, engine)
    mails = {auth_mail.SMALL: mails_for("verify", auth_mail.SMALL)}
    running = fleet.run(server, mails, work, stack)
    if running is None:
        raise LabError(fleet.absent[server.name])
    scripts = running.scripts[auth_mail.SMALL]

    def load_it(connections: int, seconds: float) -> Loaded:
        loaded = fleet.load(server, scripts, connections, seconds=seconds)
        wrong = loaded.failed + loaded.count - loaded.marked
        return Loaded(loaded.count, loaded.seconds, wrong, loaded.p50_ms, loaded.p99_ms)

    def open_idle() -> Callable[[], None]:
        session = MilterSession(server.address)
        session.connect(auth_mail.DOMAIN.address, f"mail.{auth_mail.DOMAIN.name}")
        return session.close

    assert isinstance(server.process, Daemon)
    return Subject(f"milter, {engine}", workers, server.process, load_it, open_idle)


def start_policyd(program: Path, work: Path, workers: int, stack: ExitStack) -> Subject:
    """The policy daemon, with five rules that count two limits of a login in the embedded store."""
    server = Ours(work, "sqlite", "5 rules", None, workers)
    stack.enter_context(server)
    policy_load.load(program, server.address, WARM_CONNECTIONS, WARM_SECONDS)

    def load_it(connections: int, seconds: float) -> Loaded:
        return policy_load.load(program, server.address, connections, seconds)

    def open_idle() -> Callable[[], None]:
        family, where = parse_address(server.address)
        connection = socket.socket(family, socket.SOCK_STREAM)
        connection.settimeout(IDLE_TIMEOUT_SECONDS)
        connection.connect(where)
        policy_client.ask_once(connection)
        return connection.close

    return Subject(POLICYD, workers, server.daemon, load_it, open_idle)
