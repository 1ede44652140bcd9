"""What systemd and a daemon tell each other: sockets that are passed on, and datagrams about how it goes.

The two protocols of sd_listen_fds(3) and sd_notify(3), which take a few lines and need no library. Knows
nothing of mail, workers or configuration. Without systemd nothing is passed, and nobody is told.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass
from typing import Self

from mailreeve_policyd.errors import ConfigError
from mailreeve_policyd.escape import escape

log = logging.getLogger(__name__)

FIRST_DESCRIPTOR = 3
"""Of those that are passed on: SD_LISTEN_FDS_START."""

MAX_PASSED = 64
"""More sockets than this are no unit's of ours, but a variable that somebody else has set."""

MAX_STATUS_CHARACTERS = 400
"""A line that `systemctl status` shows; a datagram must be whole to be read at all."""

UNNAMED = "unknown"
"""What systemd calls a socket that has no name."""

PLACE = "LISTEN_FDS"
"""Where the operator's mistakes are: systemd's variables have no file."""


@dataclass(frozen=True, slots=True)
class PassedSocket:
    """A listening stream socket that was open before the daemon began. `name` is FileDescriptorName=."""

    name: str
    socket: socket.socket


def take_sockets(environment: MutableMapping[str, str]) -> tuple[PassedSocket, ...]:
    """Those that were passed to this very process; the variables are gone afterwards, for its children.

    They are made non-blocking, and closed in programs that a child may start.

    Raises:
        ConfigError: one is no listening stream socket: the .socket unit says something else.
    """
    pid, count, names = (environment.pop(key, "") for key in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"))
    environment.pop("LISTEN_PIDFDID", None)  # systemd 259 and later
    if pid != str(os.getpid()) or not count.isdecimal() or int(count) > MAX_PASSED:
        return ()
    spelt = names.split(":") if names else []
    return tuple(
        _take(FIRST_DESCRIPTOR + offset, spelt[offset] if offset < len(spelt) else UNNAMED)
        for offset in range(int(count))
    )


def _take(descriptor: int, name: str) -> PassedSocket:
    try:
        os.set_inheritable(descriptor, False)
        sock = socket.socket(fileno=descriptor)
    except OSError as error:
        problem = f"systemd passed {escape(name)!r}, which is no socket: {error.strerror}"
        raise ConfigError("", PLACE, problem, "ListenStream= in the .socket unit") from error
    listens = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    if sock.type != socket.SOCK_STREAM or not listens:
        sock.detach()
        problem = f"systemd passed {escape(name)!r}, at which nobody can listen"
        raise ConfigError("", PLACE, problem, "ListenStream= and Accept=no in the .socket unit")
    sock.setblocking(False)
    return PassedSocket(name, sock)


class Notifier:
    """Tells the service manager how it goes. Its verbs never block and never raise.

    `address` is the path of a datagram socket, or with `@` in front the name of an abstract one; without one
    nobody is told. `watchdog_seconds` is how long the manager waits for `alive` before it kills and starts
    anew; None where it does not wait for it.
    """

    def __init__(
        self,
        address: str | None = None,
        watchdog_seconds: float | None = None,
        monotonic_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._address = "\0" + address[1:] if address and address.startswith("@") else address
        self.watchdog_seconds = watchdog_seconds
        self._monotonic_ns = monotonic_ns
        self._has_failed = False

    @classmethod
    def from_environment(cls, environment: MutableMapping[str, str]) -> Self:
        """As NOTIFY_SOCKET and WATCHDOG_USEC say, which are gone afterwards, for the children."""
        address = environment.pop("NOTIFY_SOCKET", "")
        microseconds, pid = environment.pop("WATCHDOG_USEC", ""), environment.pop("WATCHDOG_PID", "")
        is_watched = microseconds.isdecimal() and int(microseconds) > 0 and pid in ("", str(os.getpid()))
        seconds = int(microseconds) / 1_000_000 if is_watched else None
        return cls(address if address[:1] in ("/", "@") else None, seconds)

    def ready(self, status: str) -> None:
        """It serves: for the first time, or after a reload, however that went."""
        self._send("READY=1", _status(status))

    def reloading(self) -> None:
        """It reads its configuration anew; `ready` says when that is over."""
        now = self._monotonic_ns() // 1000
        self._send("RELOADING=1", f"MONOTONIC_USEC={now}", _status("reading the configuration anew"))

    def stopping(self) -> None:
        """It finishes what is under way."""
        self._send("STOPPING=1", _status("finishing what is under way"))

    def status(self, text: str) -> None:
        """One line for `systemctl status`."""
        self._send(_status(text))

    def alive(self) -> None:
        """Not to be killed by the watchdog."""
        self._send("WATCHDOG=1")

    def _send(self, *lines: str) -> None:
        if self._address is None:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.setblocking(False)
                sender.sendto("\n".join(lines).encode(), self._address)
        except OSError as error:
            if not self._has_failed:
                log.warning("the service manager could not be told: %s", error.strerror or error)
            self._has_failed = True
        else:
            self._has_failed = False


def _status(text: str) -> str:
    first = text.partition("\n")[0]
    shown = escape(first, MAX_STATUS_CHARACTERS)
    return f"STATUS={shown}"
