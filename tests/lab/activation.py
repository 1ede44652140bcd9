"""A socket that a service manager opened and passes to a daemon, as systemd does: it outlives the daemon."""

import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.lab.daemons import Daemon
from tests.lab.ports import parse_address

PASSING = """
import os, sys
descriptor, names, *command = sys.argv[1:]
if int(descriptor) != 3:
    os.dup2(int(descriptor), 3)
    os.close(int(descriptor))
os.set_inheritable(3, True)
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1", "LISTEN_FDNAMES": names}
os.execv(command[0], command)
"""
"""A program that becomes another, which finds the descriptor where systemd puts the first one."""

WAITING = 1024
"""Connections that the kernel keeps for a daemon that is not there now."""


@contextmanager
def held_socket(daemon: Daemon, address: str) -> Iterator[None]:
    """Listen at `address`, open to all, for each daemon that is started within."""
    family, where = parse_address(address)
    with socket.socket(family, socket.SOCK_STREAM) as held:
        held.bind(where)
        if family == socket.AF_UNIX:
            Path(str(where)).chmod(0o666)
        held.listen(WAITING)
        descriptor = held.fileno()
        daemon.command = [sys.executable, "-c", PASSING, str(descriptor), daemon.kind, *daemon.command]
        daemon.keep = (descriptor,)
        yield
