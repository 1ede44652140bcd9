"""Counters while the policy daemon's processes are killed at any moment, again and again, under load."""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mailreeve_policyd.limits_open import FILE_NAME
from tests.lab.daemons import Daemon
from tests.lab.policy import PolicyClient
from tests.lab.ports import accepts
from tests.lab.process import wait_until
from tests.lab.redis import Redis
from tests.lab.site import format_toml

RULES = "at rcpt { all: limit 1000000 recipients/day per sasl_username }\n"
WORKERS = 3
CLIENTS = 4
ROUNDS = 3
"""Each kills all workers but one while the configuration is read anew, then all processes."""

PASS = "DUNNO"


class Storm:
    """A policy daemon and its clients; `folder` is where its files are."""

    def __init__(self, folder: Path, limits: dict[str, object]) -> None:
        self.address = f"unix:{folder}/policy.sock"
        self.state = folder / "state"
        self.audit = folder / "audit.jsonl"
        self.state.mkdir()
        settings = {
            "rules": "rules",
            "state_dir": str(self.state),
            "policyd": {"listen": [self.address], "workers": WORKERS},
            "limits": limits,
            "audit": {"to": "file", "file": str(self.audit)},
        }
        (folder / "rules").write_text(RULES)
        (folder / "mailreeve.toml").write_text(format_toml(settings))
        self.daemon = Daemon("policyd", folder / "mailreeve.toml", folder)

    def kill_workers(self) -> None:
        """All but one; new ones come with a reload, which does not wait for those that died young."""
        workers = list(self.daemon.workers)
        for pid in random.sample(workers, len(workers) - 1):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.daemon.reload()

    def kill_all(self) -> None:
        """Parent and workers at once; then it is started as after a crash."""
        self.daemon.kill()
        self.daemon.start()

    def records(self) -> list[dict[str, Any]]:
        """Those that are whole: one that was being written when its writer died may be cut."""
        found = []
        for line in self.audit.read_bytes().splitlines():
            with suppress(ValueError):
                found.append(json.loads(line))
        return found

    def counted(self, login: str) -> int:
        """What the store holds, by the record of one request more."""
        with PolicyClient(self.address) as client:
            assert client.ask(sasl_username=login, recipient="bob@example.net") == PASS
        (limit,) = self.records()[-1]["limits"]
        return int(limit["used"]) - 1


@dataclass
class Client:
    """Asks as Postfix does: one request after the other, again where no answer came."""

    storm: Storm
    login: str
    has_instance: bool
    over: threading.Event
    sent: int = 0
    answered: int = 0

    def run(self) -> None:
        client: PolicyClient | None = None
        while not self.over.is_set():
            client = self._ask(client, f"{self.login}.{self.answered:x}" if self.has_instance else "")
        if client is not None:
            client.close()

    def _ask(self, client: PolicyClient | None, instance: str) -> PolicyClient | None:
        recipient = f"{threading.get_native_id()}@example.net"
        try:
            client = client or PolicyClient(self.storm.address)
            self.sent += 1
            answer = client.ask(instance=instance, sasl_username=self.login, recipient=recipient)
        except OSError:
            if client is not None:
                client.close()
            wait_until(lambda: self.over.is_set() or accepts(self.storm.address), "it listens again")
            return None
        assert answer == PASS
        self.answered += 1
        return client


@contextmanager
def asking(storm: Storm, logins: dict[str, bool]) -> Iterator[list[Client]]:
    """Clients of each login, at work until the end; whether they say which message they ask about."""
    over = threading.Event()
    clients = [Client(storm, login, known, over) for login, known in logins.items() for _ in range(CLIENTS)]
    with ThreadPoolExecutor(len(clients)) as pool:
        done: list[Future[None]] = [pool.submit(client.run) for client in clients]
        try:
            yield clients
        finally:
            over.set()
        for one in done:
            one.result()


def answered(clients: list[Client]) -> int:
    return sum(client.answered for client in clients)


def strike(storm: Storm, clients: list[Client], kill: Callable[[], None]) -> None:
    """Kill, when each of them has work under way again."""
    before = answered(clients)
    wait_until(lambda: answered(clients) > before + 20 * len(clients), "they are answered")
    kill()


@pytest.mark.parametrize("store", ["sqlite", "redis"])
def test_what_was_answered_is_counted_whatever_is_killed(work: Path, store: str) -> None:
    """No answered request is missing, none is counted that was not sent, what is repeated counts once."""
    with Redis(work) if store == "redis" else nullcontext() as server:
        storm = Storm(work, {"store": store, **({"redis_url": server.url} if server else {})})
        with storm.daemon:
            with asking(storm, {"plain": False, "known": True}) as clients:
                for _ in range(ROUNDS):
                    strike(storm, clients, storm.kill_workers)
                    strike(storm, clients, storm.kill_all)
                wait_until(lambda: len(storm.daemon.workers) == WORKERS, "all workers are there again")
            plain = [client for client in clients if client.login == "plain"]
            known = [client for client in clients if client.login == "known"]

            assert answered(plain) <= storm.counted("plain") <= sum(client.sent for client in plain)
            assert answered(known) <= storm.counted("known") <= answered(known) + CLIENTS
            assert not any(record.get("degraded") for record in storm.records())
    if store == "sqlite":
        with closing(sqlite3.connect(storm.state / FILE_NAME)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
