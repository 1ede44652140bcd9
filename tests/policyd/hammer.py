"""A process of its own that charges a SqliteStore, for what only several processes show.

`python -m tests.policyd.hammer VERB FILE NUMBER`; writes one line an answer: "passed", "refused" or "away".
"""

from __future__ import annotations

import os
import resource
import signal
import sys
import time
from pathlib import Path

from mailreeve_policyd.errors import StoreError
from mailreeve_policyd.limits import Charge, limit_key
from mailreeve_policyd.limits_sqlite import SqliteStore
from tests.policyd.limit_stores import charge_of, messages

LIMIT = messages(1000, 3600)
KEY = limit_key("hammer", LIMIT, ["one"])
WAIT_SECONDS = 20.0


def say(answer: str) -> None:
    """One line, at once."""
    sys.stdout.write(answer + "\n")
    sys.stdout.flush()


def charge(store: SqliteStore, charges: list[Charge] | None = None) -> None:
    """Charge once and say what came of it."""
    try:
        (usage, *_) = store.charge(charges or [charge_of(LIMIT, KEY)])
        say("refused" if usage.exceeded else "passed")
    except StoreError:
        say("away")


def repeat(store: SqliteStore, number: int) -> None:
    """Wait for a line, then charge so often."""
    sys.stdin.readline()
    for _ in range(number):
        charge(store)


def fork(store: SqliteStore, number: int) -> None:
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


def full(store: SqliteStore, number: int) -> None:
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


VERBS = {"repeat": repeat, "fork": fork, "full": full}

if __name__ == "__main__":
    opened = SqliteStore(Path(sys.argv[2]))
    VERBS[sys.argv[1]](opened, int(sys.argv[3]))
    opened.close()
