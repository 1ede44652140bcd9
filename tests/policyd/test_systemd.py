"""systemd's two protocols. What a whole daemon does with them is in test_service_manager.py."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mailreeve_policyd.systemd import Notifier, take_sockets

NANOSECONDS = 1_234_567_890


@pytest.fixture
def ear(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.settimeout(20.0)
        heard.bind(str(tmp_path / "notify"))
        yield heard


def lines(ear: socket.socket) -> list[str]:
    return ear.recv(8192).decode().split("\n")


def test_each_state_is_one_datagram(ear: socket.socket) -> None:
    """sd_notify(3): assignments, one a line."""
    notifier = Notifier(ear.getsockname(), monotonic_ns=lambda: NANOSECONDS)
    notifier.ready("it serves")
    notifier.reloading()
    notifier.status("well")
    notifier.alive()
    notifier.stopping()

    assert lines(ear) == ["READY=1", "STATUS=it serves"]
    assert lines(ear)[:2] == ["RELOADING=1", "MONOTONIC_USEC=1234567"]
    assert lines(ear) == ["STATUS=well"]
    assert lines(ear) == ["WATCHDOG=1"]
    assert lines(ear)[0] == "STOPPING=1"


def test_a_status_is_one_line_of_bounded_length(ear: socket.socket) -> None:
    """What follows a line end would be an assignment of its own: of MAINPID, for instance."""
    notifier = Notifier(ear.getsockname())
    notifier.status("bad\rly\x1b[31m\nMAINPID=1")
    notifier.status("x" * 9999)

    assert lines(ear) == ["STATUS=bad\\x0dly\\x1b[31m"]
    [long] = lines(ear)
    assert len(long) == 407


def test_nobody_is_told_where_nobody_asked_and_nothing_breaks_where_nobody_hears(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A manager that is gone is said once."""
    Notifier().ready("it serves")
    assert not caplog.records

    deaf = Notifier(str(tmp_path / "gone"))
    deaf.ready("it serves")
    deaf.alive()
    assert [record.getMessage() for record in caplog.records] == [
        "the service manager could not be told: No such file or directory"
    ]


@pytest.mark.parametrize(
    ("microseconds", "pid", "seconds"),
    [("3000000", "", 3.0), ("3000000", "own", 3.0), ("3000000", "1", None), ("0", "", None), ("", "", None)],
)
def test_the_watchdog_is_for_the_process_that_it_names(
    microseconds: str, pid: str, seconds: float | None
) -> None:
    """sd_watchdog_enabled(3). The variables are gone afterwards: a child is not watched."""
    environment = {"NOTIFY_SOCKET": "/run/x", "WATCHDOG_USEC": microseconds, "OTHER": "stays"}
    environment["WATCHDOG_PID"] = str(os.getpid()) if pid == "own" else pid
    notifier = Notifier.from_environment(environment)

    assert notifier.watchdog_seconds == seconds
    assert environment == {"OTHER": "stays"}


def test_a_service_manager_that_cannot_be_reached_is_told_of_once(caplog: pytest.LogCaptureFixture) -> None:
    """With the reason, whoever gives it: Python itself refuses a name that is too long."""
    notifier = Notifier("@" + "a" * 200)
    notifier.alive()
    notifier.alive()

    assert caplog.messages == ["the service manager could not be told: AF_UNIX path too long"]


@pytest.mark.parametrize("pid", ["", "1", "nonsense"])
def test_sockets_of_another_process_are_not_taken(pid: str) -> None:
    """The variables may be inherited; what has these numbers here is something else."""
    environment = {"LISTEN_PID": pid, "LISTEN_FDS": "1", "LISTEN_FDNAMES": "policyd"}

    assert take_sockets(environment) == ()
    assert environment == {}


@pytest.mark.parametrize("count", ["", "0", "-1", "x", "65", "99999999999"])
def test_a_count_that_cannot_be_passes_none(count: str) -> None:
    """Bounded: it is a variable that anything may have set."""
    assert take_sockets({"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": count}) == ()


@pytest.mark.parametrize("kind", ["a file", "a datagram socket", "a connection"])
def test_what_nobody_can_listen_at_is_a_mistake(kind: str) -> None:
    """Accept=yes, ListenDatagram=: the unit is for another program."""
    ran = subprocess.run([sys.executable, "-c", REFUSED, kind], timeout=20.0, check=False)

    assert ran.returncode == 0


REFUSED = """
import os, socket, sys
from mailreeve_policyd.errors import ConfigError
from mailreeve_policyd.systemd import take_sockets

pair = socket.socketpair()
datagram = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
null = os.open("/dev/null", os.O_RDONLY)
what = {"a file": null, "a datagram socket": datagram.fileno(), "a connection": pair[0].fileno()}[sys.argv[1]]
os.dup2(what, 3)  # the number is systemd's to choose, so this needs a process of its own
try:
    take_sockets({"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1", "LISTEN_FDNAMES": "policyd"})
except ConfigError as error:
    os._exit(0 if "'policyd'" in error.problem else 2)
os._exit(1)
"""
