"""Syslog as a place for lines: the local service over its socket, or a remote one over UDP.

Local services expect the old form (RFC 3164 section 4.1, without a host name, as syslog(3) writes it):
rsyslog and journald read no RFC 5424 from /dev/log. Over UDP it is RFC 5424 (RFC 5426). A datagram that
cannot be sent is lost; nothing is kept, and nobody waits longer than a moment.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import IntEnum
from ipaddress import ip_address

from mailreeve_policyd.settings import Syslog as SyslogSettings
from mailreeve_policyd.sink_datagram import DatagramSocket, Target

DEFAULT_PORT = 514
"""RFC 5426 section 3.3."""

MAX_DATAGRAM = 8192
"""Twice a line of the record, and what rsyslog takes of one (its maxMessageSize)."""

FACILITIES = {
    name: number
    for number, name in enumerate(("kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp"))
} | {f"local{number}": 16 + number for number in range(8)}
"""RFC 5424 table 1, by the names that syslog.conf gives them."""

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


class Severity(IntEnum):
    """RFC 5424 table 2, as far as it is used here; the numbers are those of sd-daemon(3), too."""

    CRITICAL = 2
    ERROR = 3
    WARNING = 4
    INFO = 6
    DEBUG = 7


@dataclass(frozen=True, slots=True)
class SyslogAddress:
    """A socket of this machine (`path`), or an IP address and a UDP port."""

    path: str | None = None
    host: str = ""
    port: int = DEFAULT_PORT

    @property
    def family(self) -> socket.AddressFamily:
        """As socket() wants it."""
        if self.path is not None:
            return socket.AF_UNIX
        return socket.AF_INET6 if ":" in self.host else socket.AF_INET

    @property
    def target(self) -> Target:
        """As connect() wants it."""
        return self.path if self.path is not None else (self.host, self.port)


def parse_syslog_address(text: str) -> SyslogAddress:
    """Read `unix:/dev/log`, `udp:192.0.2.9:514`, `udp:[2001:db8::9]:514`; the port may be left out.

    Host names are not taken: whoever logs that DNS is away must not need it.

    Raises:
        ValueError: it is none of these.
    """
    kind, _, rest = text.partition(":")
    if kind == "unix" and rest.startswith("/") and "\0" not in rest:
        return SyslogAddress(path=rest)
    if kind != "udp":
        raise ValueError("is neither unix:/path nor udp:address:port")
    if rest.startswith("["):
        host, _, port = rest[1:].partition("]")
        port = port.removeprefix(":")
    else:
        host, _, port = rest.partition(":")
    if port and not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise ValueError("has no port from 1 to 65535")
    try:
        return SyslogAddress(host=str(ip_address(host)), port=int(port or DEFAULT_PORT))
    except ValueError:
        raise ValueError("has no IP address where the service is") from None


class Syslog:
    """A syslog service. Connects when it is first used, and again when the service was restarted.

    `program` is the name that lines bear (`mailreeve-policyd`). `clock` gives the time of day, `stopwatch`
    seconds that never go back. Safe from any thread and after a fork.
    """

    def __init__(
        self,
        address: SyslogAddress,
        facility: str,
        program: str,
        *,
        clock: Callable[[], float] = time.time,
        stopwatch: Callable[[], float] = time.monotonic,
    ) -> None:
        self._address = address
        self._facility = FACILITIES[facility] * 8
        self._program = program
        self._clock = clock
        self._socket = DatagramSocket(address.family, address.target, stopwatch)
        self._host = _host_name()

    def send(self, severity: Severity, event: str, text: bytes) -> None:
        """Send one message; `event` is its MSGID (RFC 5424 section 6.2.7). Raises OSError."""
        self._socket.send((self._header(severity, event) + text)[:MAX_DATAGRAM])

    def reopen(self) -> None:
        """Connect anew, now. Never raises."""
        self._socket.reopen()

    def close(self) -> None:
        """The next message connects anew."""
        self._socket.close()

    def _header(self, severity: Severity, event: str) -> bytes:
        now, priority = self._clock(), self._facility + severity
        if self._address.path is None:
            moment = (
                datetime.fromtimestamp(now, UTC).isoformat(timespec="milliseconds").removesuffix("+00:00")
            )
            head = f"<{priority}>1 {moment}Z {self._host} {self._program} {os.getpid()} {event} - "
        else:
            local = time.localtime(now)
            day = f"{_MONTHS[local.tm_mon - 1]} {local.tm_mday:2d}"
            clock = f"{local.tm_hour:02d}:{local.tm_min:02d}:{local.tm_sec:02d}"
            head = f"<{priority}>{day} {clock} {self._program}[{os.getpid()}]: "
        return head.encode("ascii")


def open_syslog(settings: SyslogSettings, program: str) -> Syslog:
    """The service that `[syslog]` names. Connects to nothing yet."""
    return Syslog(parse_syslog_address(settings.address), settings.facility, program)


class SyslogSink:
    """Lines of the record as messages of the severity info."""

    def __init__(self, syslog: Syslog) -> None:
        self._syslog = syslog

    def write(self, line: bytes) -> None:
        """Send one line, without its LF."""
        self._syslog.send(Severity.INFO, "record", line.rstrip(b"\n"))

    def reopen(self) -> None:
        """See Sink."""
        self._syslog.reopen()

    def close(self) -> None:
        """See Sink."""
        self._syslog.close()


def _host_name() -> str:
    """HOSTNAME of RFC 5424 section 6.2.4: printable ASCII of at most 255 characters, or the nil value."""
    name = socket.gethostname()
    return name if name.isascii() and name.isprintable() and 0 < len(name) < 256 and " " not in name else "-"
