"""A small daemon under the supervisor, for test_supervisor.py: it answers with the word of its configuration.

Started as `python supervised.py CONFIG`, where CONFIG is JSON: `word`, `listen` (a path), and what makes it
misbehave. An answer is `action=WORD PID UID`.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mailreeve_policyd.errors import ConfigError
from mailreeve_policyd.launch import log_to_stderr
from mailreeve_policyd.listen import UnixAddress
from mailreeve_policyd.privileges import Account, find_account
from mailreeve_policyd.question import Question
from mailreeve_policyd.server import PolicyServer
from mailreeve_policyd.supervisor import DaemonSpec, Generation, run
from mailreeve_policyd.worker import Wear, WorkerContext

Config = dict[str, Any]


class Word:
    """Answers with the word."""

    def __init__(self, word: str, hoards: int = 0) -> None:
        self._word = word
        self.served = 0
        self.hoards = hoards
        self.hoard: list[bytearray] = []

    def connection(self) -> None:
        """It remembers nothing."""

    def answer_each(self, questions: Sequence[Question[None]]) -> None:
        if self.hoards and not self.hoard:
            self.hoard.append(bytearray(b"x") * self.hoards)
        for question in questions:
            self.served += 1
            question.answer = f"action={self._word} {os.getpid()} {os.getuid()}\n\n".encode()


def load(path: Path) -> Generation[Config]:
    config: Config = json.loads(path.read_text())
    if config.pop("hup_while_loading", False):
        path.write_text(json.dumps(config))
        os.kill(os.getpid(), signal.SIGHUP)
    if config.get("broken"):
        raise ConfigError(str(path), "word", "is broken", "mend it")
    account = find_account(config.get("user", ""), "", str(path))
    if config.get("forbidden"):
        account = Account("nobody", 2**32 - 1, 2**32 - 1)  # the -1 of setuid(2), which nobody can become
    return Generation(
        listen=(UnixAddress(Path(config["listen"])),),
        socket_mode=config.get("socket_mode", 0o666),
        workers=config.get("workers", 1),
        drain_seconds=config.get("drain_seconds", 30.0),
        account=account,
        loaded=config,
        hung_after_seconds=config.get("hung_after_seconds", 0.0),
        wear=Wear(config.get("most_served", 0), config.get("most_memory_bytes", 0)),
    )


def serve(worker: WorkerContext, config: Config, sockets: Sequence[socket.socket]) -> None:
    if config.get("cannot_start"):
        raise ConfigError("serve", "word", "cannot start")
    if config.get("dies"):
        os._exit(3)
    if gate := config.get("second_fails"):
        fail_if_second(Path(gate))
    if (gate := config.get("first_waits")) and is_first(Path(gate)):
        Path(gate).read_bytes()
    word = Word(config["word"], config.get("hoards", 0))
    server = PolicyServer(sockets, word, 100)
    retire = (lambda: None) if config.get("stuck") else server.retire
    worker.count_by(lambda: word.served)
    post = (lambda _: None) if config.get("deaf") else server.post
    worker.serving(retire, lambda: logging.getLogger().info("%s reopens", config["word"]), post)
    server.serve()
    assert threading.current_thread() is threading.main_thread()


def fail_if_second(gate: Path) -> None:
    """The second worker that comes by cannot start, once somebody has opened this named pipe."""
    if not is_first(gate):
        gate.read_bytes()
        raise ConfigError("serve", "word", "cannot start")


def is_first(gate: Path) -> bool:
    """Is this the first worker that comes by?"""
    try:
        gate.with_suffix(".first").touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


if __name__ == "__main__":
    log_to_stderr("policyd")
    sys.exit(run(DaemonSpec("policyd", lambda: load(Path(sys.argv[1])), serve)))
