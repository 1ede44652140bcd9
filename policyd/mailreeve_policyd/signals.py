"""The signals of a daemon's parent, from before it reads its files until after its last word.

A signal that comes while Python has not yet, or no longer, a handler of ours does what the system says:
SIGHUP would end a daemon that is just starting, a second SIGTERM spoil the exit status of one that has
drained. Knows neither what a signal asks for nor who does it.
"""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterable
from typing import Self

from mailreeve_policyd.worker import SIGNALS

STOPPING = frozenset({signal.SIGTERM, signal.SIGINT})
"""Those that ask for the end."""


class Signals:
    """Signals as octets on a socket, for select(). A context manager, in the main thread and once a process.

    From entry on what asks for a reload or a rotation is remembered. What asks for the end still ends the
    process, until `handle_all`: there is nothing to drain yet. After the exit all are ignored; or, without
    `handle_all`, they do what they did before, as nothing was begun.
    """

    def __init__(self) -> None:
        self.socket, self._end = socket.socketpair()
        self.socket.setblocking(False)
        self._end.setblocking(False)
        self._before = {number: signal.getsignal(number) for number in SIGNALS}
        self._all = False

    def __enter__(self) -> Self:
        signal.set_wakeup_fd(self._end.fileno(), warn_on_full_buffer=False)
        self._handle(number for number in SIGNALS if number not in STOPPING)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)  # what the program's entry held back
        return self

    def handle_all(self) -> None:
        """From now on somebody drains."""
        self._all = True
        self._handle(STOPPING)

    def _handle(self, numbers: Iterable[signal.Signals]) -> None:
        for number in numbers:
            signal.signal(number, lambda *_: None)

    def read(self) -> set[int]:
        """Those that came since the last time."""
        try:
            return set(self.socket.recv(4096))
        except BlockingIOError:
            return set()

    def __exit__(self, *_: object) -> None:
        for number, before in self._before.items():
            ignored = self._all and number is not signal.SIGCHLD
            signal.signal(number, signal.SIG_IGN if ignored else before)
        signal.set_wakeup_fd(-1)
        self.close()

    def close(self) -> None:
        """Close both ends: a worker has its own mind about signals."""
        self.socket.close()
        self._end.close()
