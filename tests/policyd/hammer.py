"""Processes of their own that charge one key of a store, for what only several processes show.

`python -m tests.policyd.hammer VERB WHERE NUMBER`, where WHERE is the file of a SqliteStore, the URL of a
Redis or "cluster:" with ports; writes one line an answer: "passed", "refused" or "away".
"""

from __future__ import annotations

import logging
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from mailreeve_policyd.errors import StoreError
from mailreeve_policyd.limits import LimitStore, OnUnavailable, limit_key
from mailreeve_policyd.limits_memory import MemoryStore
from mailreeve_policyd.limits_redis import OneServer, RedisStore
from mailreeve_policyd.limits_redis_cluster import ClusterStore
from mailreeve_policyd.limits_redis_nodes import Nodes
from mailreeve_policyd.limits_sqlite import SqliteStore
from mailreeve_policyd.redis_access import RedisAccess, RedisUrl
from tests.lab.ports import LOOPBACK
from tests.policyd.limit_stores import charge_of, messages

LIMIT = messages(1000, 3600)
KEY = limit_key("hammer", LIMIT, ["one"])
CLUSTER = "cluster:"
MANY = 10**9
END_SECONDS = 60
WAIT_SECONDS = 20.0
REPOSITORY = Path(__file__).resolve().parents[2]


def say(answer: str) -> None:
    """One line, at once."""
    sys.stdout.write(answer + "\n")
    sys.stdout.flush()


def open_store(where: str) -> LimitStore:
    """The store at a URL, on a Cluster ("cluster:PORT,PORT") or in a file, on the real clock."""
    if where.startswith(CLUSTER):
        seeds = [(LOOPBACK, int(port)) for port in where.removeprefix(CLUSTER).split(",")]
        nodes = Nodes(seeds, lambda address: OneServer(RedisAccess(RedisUrl(*address), 10).open()))
        log = logging.getLogger("hammer")
        return ClusterStore(nodes, MemoryStore(time.time), OnUnavailable.CLOSED, log)
    return RedisStore.from_url(where, 10) if "://" in where else SqliteStore(Path(where))


def start(verb: str, where: object, number: int) -> subprocess.Popen[str]:
    """A process that does VERB."""
    return subprocess.Popen(
        [sys.executable, "-m", "tests.policyd.hammer", verb, str(where), str(number)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
    )


def go(process: subprocess.Popen[str]) -> None:
    """Let one that waits for it begin."""
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()


def answers(processes: Sequence[subprocess.Popen[str]]) -> list[str]:
    """What they wrote until they ended, which they must do well."""
    lines = [line for process in processes for line in process.communicate(timeout=END_SECONDS)[0].split()]
    assert [process.returncode for process in processes] == [0] * len(processes)
    return lines


def used(where: object) -> int:
    """What a store that is opened now has counted of all that."""
    store = open_store(str(where))
    (usage,) = store.usage([charge_of(LIMIT, KEY, amount=0)])
    store.close()
    return usage.used


def charge(store: LimitStore) -> None:
    """Charge once and say what came of it."""
    try:
        (usage,) = store.charge([charge_of(LIMIT, KEY)])
        say("refused" if usage.exceeded else "passed")
    except StoreError:
        say("away")


def repeat(store: LimitStore, number: int) -> None:
    """Wait for a line, then charge so often."""
    sys.stdin.readline()
    for _ in range(number):
        charge(store)


def fork(store: LimitStore, number: int) -> None:
    """Charge in this process, in a child, and in this process again."""
    charge(store)
    child = os.fork()
    if not child:
        for _ in range(number):
            charge(store)
        store.close()
        os._exit(0)
    os.waitpid(child, 0)
    charge(store)


def full(store: LimitStore, number: int) -> None:
    """Charge new keys until the disk has no room, and once more when it has again."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    charge(store)
    resource.setrlimit(resource.RLIMIT_FSIZE, (number, resource.RLIM_INFINITY))
    deadline = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < deadline:
        try:
            store.charge([charge_of(LIMIT) for _ in range(200)])
        except StoreError:
            say("away")
            break
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    charge(store)


def killed(store: LimitStore, number: int) -> None:
    """Kill two children that charge, so many times, each time after other numbers of answers.

    Says how many charges were answered, and how many may have been under way when their child died.
    """
    answered = 0
    for turn in range(number):
        children = [_charging_child(store, turn) for _ in range(2)]
        for child, heard in children:
            wanted = answered + 1 + turn * 13 % 101
            while answered < wanted:
                answered += len(os.read(heard, wanted - answered))
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            while read := len(os.read(heard, 65536)):
                answered += read
            os.close(heard)
    say(str(answered))
    say(str(2 * number))


def _charging_child(store: LimitStore, turn: int) -> tuple[int, int]:
    """A process that charges KEY and keys of its own until it is killed, and the pipe that hears of each."""
    reading, writing = os.pipe()
    child = os.fork()
    if child:
        os.close(writing)
        return child, reading
    limit = messages(MANY, 3600)
    try:
        while True:
            more = [charge_of(limit) for _ in range(turn % 5 * 10)]
            (usage, *_) = store.charge([charge_of(limit, KEY), *more])
            if not usage.exceeded:
                os.write(writing, b".")
    finally:
        os._exit(1)


def readonly(store: LimitStore, number: int) -> None:
    """Charge with a user's rights, again where nothing may be written, and again where it may."""
    if not os.getuid():
        os.setresuid(number, number, number)
    charge(store)
    store.close()
    file = Path(sys.argv[2])
    for mode in (0o400, 0o600):
        file.chmod(mode)
        charge(store)


VERBS = {"repeat": repeat, "fork": fork, "full": full, "killed": killed, "readonly": readonly}

if __name__ == "__main__":
    opened = open_store(sys.argv[2])
    VERBS[sys.argv[1]](opened, int(sys.argv[3]))
    opened.close()
