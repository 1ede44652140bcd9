"""Become another program with the system calls and address families that a unit allows, as systemd has it.

Run by its path: `python tests/lab/sandbox.py UNIT COMMAND...`. Of a unit's sandbox this is what can be had
without systemd: `SystemCallFilter=` (groups as systemd-analyze tells them) and `RestrictAddressFamilies=`.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

ALLOW = 0x7FFF0000
REFUSE = 0x00050000
"""Plus the error number (seccomp_init(3))."""

EQUAL = 4
"""SCMP_CMP_EQ."""

PR_SET_NO_NEW_PRIVS = 38
BEGUN_BY_SYSTEMD = {"execve"}
"""What systemd itself still has to do under the filter."""


class Comparison(ctypes.Structure):
    """`struct scmp_arg_cmp`."""

    _fields_ = (
        ("arg", ctypes.c_uint),
        ("op", ctypes.c_int),
        ("datum_a", ctypes.c_uint64),
        ("datum_b", ctypes.c_uint64),
    )


def lines_of(unit: Path, option: str) -> list[str]:
    """The values of an option, in order."""
    lines = unit.read_text().splitlines()
    return [line.partition("=")[2].strip() for line in lines if line.startswith(f"{option}=")]


def calls_of(group: str) -> set[str]:
    """The system calls of `@group`, those of the groups in it included."""
    command = ["systemd-analyze", "syscall-filter", group]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    words = [line.partition("#")[0].strip() for line in said.splitlines()[1:]]
    return all_calls(word for word in words if word)


def all_calls(words: Iterable[str]) -> set[str]:
    """System calls and `@groups` as system calls."""
    found: set[str] = set()
    for word in words:
        found |= calls_of(word) if word.startswith("@") else {word}
    return found


def allowed_calls(unit: Path) -> set[str]:
    """What the unit leaves: lists add, those that begin with `~` take away (systemd.exec(5))."""
    allowed = calls_of("@default") | BEGUN_BY_SYSTEMD
    for line in lines_of(unit, "SystemCallFilter"):
        if line.startswith("~"):
            allowed -= all_calls(line[1:].split()) - BEGUN_BY_SYSTEMD
        else:
            allowed |= all_calls(line.split())
    return allowed


def confine(unit: Path) -> None:
    """Hold this process to what the unit allows, and all that it becomes and starts."""
    library = ctypes.CDLL("libseccomp.so.2")
    library.seccomp_init.restype = ctypes.c_void_p
    rules = ctypes.c_void_p(library.seccomp_init(REFUSE | errno.EPERM))
    add = library.seccomp_rule_add_array
    for name in allowed_calls(unit) - {"socket"}:
        number = library.seccomp_syscall_resolve_name(name.encode())
        if number >= 0:  # else it is another machine's
            add(rules, ALLOW, number, 0, None)
    families = [
        getattr(socket, name) for line in lines_of(unit, "RestrictAddressFamilies") for name in line.split()
    ]
    for family in families:
        add(
            rules,
            ALLOW,
            library.seccomp_syscall_resolve_name(b"socket"),
            1,
            ctypes.byref(Comparison(0, EQUAL, family)),
        )
    ctypes.CDLL(None).prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if library.seccomp_load(rules) != 0:
        raise OSError("seccomp_load: the kernel does not take the filter")


if __name__ == "__main__":
    confine(Path(sys.argv[1]))
    os.execv(sys.argv[2], sys.argv[2:])  # noqa: S606 -- that is what it is for
