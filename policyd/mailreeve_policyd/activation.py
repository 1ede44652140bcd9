"""Which daemon serves which of the sockets that systemd opened, and what the configuration has to say to it.

A socket goes to the daemon that it is named after, else to the one that is to listen at its address. What was
passed takes the place of all that `listen` names: systemd's unit is then where addresses, modes and groups
stand. Knows addresses and names; opens nothing.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterable, Mapping
from pathlib import Path

from mailreeve_policyd.errors import ConfigError
from mailreeve_policyd.escape import escape
from mailreeve_policyd.listen import Address, InetAddress, Listener, UnixAddress
from mailreeve_policyd.systemd import PLACE, PassedSocket

log = logging.getLogger(__name__)


def assign(
    passed: Iterable[PassedSocket], listen: Mapping[str, tuple[Address, ...]]
) -> dict[str, list[Listener]]:
    """The passed sockets by daemon; a daemon that got none is not in it. `listen` is what it is set to.

    Raises:
        ConfigError: a socket that no daemon of this process serves, or more than one for the milter.
    """
    found: dict[str, list[Listener]] = {}
    for one in passed:
        address = address_of(one.socket)
        daemon = _daemon_of(one.name, address, listen)
        found.setdefault(daemon, []).append(Listener(address, one.socket))
    for daemon, listeners in found.items():
        _compare(daemon, [one.address for one in listeners], listen[daemon])
    return found


def address_of(sock: socket.socket) -> Address:
    """Where a listening socket listens. An abstract name is shown with `@` in front."""
    name = sock.getsockname()
    if sock.family == socket.AF_UNIX:
        text = name if isinstance(name, str) else "@" + name[1:].decode(errors="backslashreplace")
        return UnixAddress(Path(text))
    return InetAddress(str(name[0]), int(name[1]))


def _daemon_of(name: str, address: Address, listen: Mapping[str, tuple[Address, ...]]) -> str:
    for daemon in listen:
        # without FileDescriptorName= systemd takes the name of the .socket unit
        if name in (daemon, f"mailreeve-{daemon}.socket"):
            return daemon
    for daemon, addresses in listen.items():
        if address in addresses:
            return daemon
    served = " and ".join(listen)
    problem = f"systemd passed the socket {escape(name)!r} at {address}, which is not for {served}"
    hint = "FileDescriptorName=policyd or =milter in the .socket unit, or ListenStream= as `listen` says"
    raise ConfigError("", PLACE, problem, hint)


def _compare(daemon: str, passed: list[Address], wanted: tuple[Address, ...]) -> None:
    if daemon == "milter" and len(passed) > 1:
        problem = f"systemd passed {len(passed)} sockets for the milter, which serves one"
        raise ConfigError("", PLACE, problem, "one ListenStream= in its .socket unit")
    if set(passed) != set(wanted):
        given, meant = (", ".join(map(str, addresses)) for addresses in (passed, wanted))
        log.warning("%s listens at %s, as systemd says, and not at %s (its `listen`)", daemon, given, meant)
