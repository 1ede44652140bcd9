"""Log services of the tests: sockets that keep what they are sent."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

MAX_DATAGRAM = 65536
MAX_LINES = 100_000
SECONDS = 10.0
"""How long a datagram may take that was sent on this machine."""


class Service:
    """A bound datagram socket. Unread datagrams stay in the kernel, which takes few of them."""

    def __init__(self, bound: socket.socket) -> None:
        self.socket = bound
        self.socket.settimeout(SECONDS)

    def next(self) -> bytes:
        return self.socket.recv(MAX_DATAGRAM)

    def drain(self) -> list[bytes]:
        """All that was sent and not yet read."""
        self.socket.setblocking(False)
        found = []
        with suppress(BlockingIOError):
            while True:
                found.append(self.socket.recv(MAX_DATAGRAM))
        self.socket.settimeout(SECONDS)
        return found


def fill(write: Callable[[bytes], None], line: bytes) -> int:
    """Write until it is refused; how many lines were taken."""
    for sent in range(MAX_LINES):
        try:
            write(line)
        except OSError:
            return sent
    raise AssertionError("it takes everything")


@contextmanager
def unix_service(path: Path) -> Iterator[Service]:
    """As syslog at /dev/log, or the journal: its socket is a file, which is gone when it ends."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as bound:
        bound.bind(str(path))
        yield Service(bound)
    path.unlink()


@contextmanager
def udp_service(host: str = "127.0.0.1", port: int = 0) -> Iterator[Service]:
    """As a log server in the network."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as bound:
        bound.bind((host, port))
        yield Service(bound)
