"""A network and mounts of this run's own, in which a public client address is ours and nothing leaves.

Linux only, as root: namespaces(7). What is mounted and configured there is gone when the run ends.
"""

import fcntl
import os
import shutil
import socket
import struct
import sys
from collections.abc import Sequence
from pathlib import Path

INSIDE = "--inside"
SET_FLAGS, SET_ADDRESS = 0x8914, 0x8916  # requests of netdevice(7)
UP_AND_RUNNING = 0x1 | 0x40


def why_not() -> str | None:
    """Why there can be no isolation here; None if there can."""
    if os.geteuid() != 0:
        return "only root can give the servers a network of their own, and start Postfix in it"
    if shutil.which("unshare") is None:
        return "needed and not found: unshare (Debian's util-linux)"
    return None


def enter(module: str, words: Sequence[str]) -> None:
    """Become `python -m MODULE WORDS --inside` in its own namespaces; returns only if that is us already."""
    if INSIDE in words:
        return
    command = ["unshare", "--net", "--mount", sys.executable, "-m", module, *words, INSIDE]
    os.execvp(command[0], command)  # noqa: S606 - no shell is wanted


def give_addresses(addresses: Sequence[str]) -> None:
    """Bring the loopback interface up, with these IPv4 addresses besides its own."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, SET_FLAGS, struct.pack("16sH14x", b"lo", UP_AND_RUNNING))
        for number, address in enumerate(addresses):
            name, octets = f"lo:{number}".encode(), socket.inet_aton(address)
            request = struct.pack("=16sH2x4s8x", name, socket.AF_INET, octets)
            fcntl.ioctl(any_socket, SET_ADDRESS, request)


def show_inside(root: Path, folders: Sequence[str]) -> None:
    """Make folders of the machine visible at their own paths below `root`, for programs confined there."""
    for folder in folders:
        place = root / folder.lstrip("/")
        place.mkdir(parents=True, exist_ok=True)
        _run("mount", "--rbind", folder, str(place))


def _run(*command: str) -> None:
    if os.spawnlp(os.P_WAIT, command[0], *command) != 0:  # noqa: S606 - as above
        raise OSError(f"failed: {' '.join(command)}")
