"""A log service that takes datagrams: connected to when it is needed, and anew when it was restarted.

Nobody waits for it longer than a moment: what cannot be sent is the caller's to count.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from mailreeve_policyd.sink import Patience

Target = str | tuple[str, int]
"""A path, or an IP address and a port, as connect() wants it."""


class DatagramSocket:
    """The way to one service. Safe from any thread. `stopwatch` gives seconds that never go back."""

    def __init__(
        self, family: socket.AddressFamily, target: Target, stopwatch: Callable[[], float] = time.monotonic
    ) -> None:
        self._family = family
        self._target = target
        self._patience = Patience(stopwatch)
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None

    def send(self, datagram: bytes) -> None:
        """Send whole or not at all. Raises OSError: the service is away, or takes nothing now."""
        with self._lock:
            try:
                self._send(datagram)
            except BlockingIOError:
                raise
            except OSError:  # it was restarted, or its port was closed a datagram ago: once more
                self._close()
                self._send(datagram)

    def reopen(self) -> None:
        """Connect anew; where nobody listens, the next datagram tries and tells."""
        with self._lock, suppress(OSError):
            self._close()
            self._socket = self._connect()

    def close(self) -> None:
        """The next datagram connects anew."""
        with self._lock:
            self._close()

    def _send(self, datagram: bytes) -> None:
        if self._socket is None:
            self._socket = self._connect()
        try:
            self._socket.send(datagram)
        except BlockingIOError:
            if not self._patience.wait(self._socket.fileno()):
                raise
            self._socket.send(datagram)

    def _connect(self) -> socket.socket:
        opened = socket.socket(self._family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        try:
            opened.connect(self._target)
        except BaseException:
            opened.close()
            raise
        return opened

    def _close(self) -> None:
        if self._socket is not None:
            self._socket.close()
        self._socket = None
