"""A real Redis server on loopback, without persistence."""

import socket
from pathlib import Path

from tests.lab import tree
from tests.lab.ports import LOOPBACK, free_port
from tests.lab.process import Process


class Redis(Process):
    """redis-server on a port and a unix socket of its own, which stay the same when it is started again.

    `url` and `unix_url` are what redis-py's `from_url` takes.
    """

    def __init__(self, work: Path, *options: str) -> None:
        folder = work / "redis"
        folder.mkdir()
        self.port = free_port()
        self.socket = folder / "sock"
        self.url = f"redis://{LOOPBACK}:{self.port}/0"
        self.unix_url = f"unix://{self.socket}?db=0"
        settings = ["--port", str(self.port), "--bind", LOOPBACK, "--unixsocket", str(self.socket)]
        settings += ["--save", "", "--appendonly", "no", "--dir", str(folder), "--daemonize", "no"]
        program = str(tree.program("usr/bin/redis-server"))
        super().__init__([program, *settings, *options], folder / "log", tree.environment())

    def ready(self) -> bool:
        """Whether it answers PING."""
        try:
            return self.ask("PING") == "+PONG"
        except OSError:
            return False

    def ask(self, command: str) -> str:
        """The first line of the answer to one command, such as "DBSIZE" or "FLUSHALL"."""
        with socket.create_connection((LOOPBACK, self.port), timeout=5) as connection:
            connection.sendall(command.encode() + b"\r\n")
            return connection.makefile("rb").readline().decode().rstrip("\r\n")
