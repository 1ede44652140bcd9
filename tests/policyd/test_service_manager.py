"""What systemd hears of a daemon, and the sockets that it passes to one."""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.activation import PASSING
from tests.policyd.supervising import TIMEOUT_SECONDS, Supervised, answer

pytestmark = pytest.mark.system


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Supervised]:
    supervised = Supervised(tmp_path)
    yield supervised
    supervised.kill()


class Manager:
    """A service manager's ear: a datagram socket, abstract or with a path."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.settimeout(TIMEOUT_SECONDS)
        self.socket.bind("\0" + address[1:] if address.startswith("@") else address)

    def hear(self, word: str) -> dict[str, str]:
        """The next message that holds this assignment."""
        while True:
            lines = self.socket.recv(8192).decode().split("\n")
            if word in lines:
                return dict(line.split("=", 1) for line in lines)


@pytest.fixture(params=["path", "abstract"])
def manager(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Manager]:
    name = f"@mailreeve-test-{os.getpid()}" if request.param == "abstract" else str(tmp_path / "notify")
    heard = Manager(name)
    yield heard
    heard.socket.close()


def test_systemd_is_told_how_it_goes(daemon: Supervised, manager: Manager) -> None:
    """Ready when workers serve, a reload's begin and end, the watchdog, the end; in words, too."""
    daemon.configure("one")
    environment = {"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "400000"}
    daemon.begin(environment=environment)
    first = manager.hear("READY=1")
    assert daemon.ask()[0] == "one"
    assert first["STATUS"].startswith("policyd: 1 workers, configuration of 20")
    manager.hear("WATCHDOG=1")

    daemon.configure("two")
    daemon.signal(signal.SIGHUP)
    assert manager.hear("RELOADING=1")["MONOTONIC_USEC"].isdecimal()
    manager.hear("READY=1")
    daemon.wait_for("the last worker with the old configuration has ended")
    assert daemon.ask()[0] == "two"

    daemon.configure("two", broken=True)
    daemon.signal(signal.SIGHUP)
    manager.hear("RELOADING=1")
    assert "failed: " in manager.hear("READY=1")["STATUS"]

    daemon.signal(signal.SIGTERM)
    manager.hear("STOPPING=1")
    assert daemon.ended() == 0


def test_systemd_is_told_of_a_start_that_fails(daemon: Supervised, manager: Manager) -> None:
    """`systemctl status` shows the operator's mistake, and never that it is ready."""
    daemon.configure("one", broken=True)
    daemon.begin(environment={"NOTIFY_SOCKET": manager.address})

    assert daemon.wait_for("END")
    status = manager.socket.recv(8192).decode()
    assert "is broken" in status
    assert "READY" not in status


def test_the_watchdog_hears_nothing_while_no_worker_answers(daemon: Supervised, manager: Manager) -> None:
    """A parent that lives is no daemon that serves: systemd starts it anew."""
    daemon.configure("one")
    daemon.begin(environment={"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "200000"})
    daemon.wait_for("listens at")
    worker = daemon.ask()[1]
    manager.hear("WATCHDOG=1")
    os.kill(worker, signal.SIGSTOP)

    manager.socket.settimeout(1.0)
    with pytest.raises(TimeoutError):
        manager.hear("never")
    os.kill(worker, signal.SIGCONT)
    manager.socket.settimeout(TIMEOUT_SECONDS)
    manager.hear("WATCHDOG=1")


def test_a_socket_that_systemd_opened_is_served_and_left(daemon: Supervised, tmp_path: Path) -> None:
    """It takes the place of `listen`, which is said; who connects before or after the daemon only waits."""
    path = tmp_path / "passed"
    with socket.socket(socket.AF_UNIX) as passed:
        passed.bind(str(path))
        passed.listen()
        daemon.configure("one")
        with socket.socket(socket.AF_UNIX) as early:
            early.settimeout(TIMEOUT_SECONDS)
            early.connect(str(path))
            descriptor = str(passed.fileno())
            daemon.begin(sys.executable, "-c", PASSING, descriptor, "policyd", keep=[passed.fileno()])
            daemon.wait_for(f"policyd listens at unix:{path}, as systemd says")
            daemon.wait_for("listens at")

            assert answer(early)[0] == "one"
        daemon.signal(signal.SIGTERM)
        assert daemon.ended() == 0
        assert path.exists()
        assert not daemon.path.exists()


def test_a_socket_that_nobody_serves_is_a_mistake(daemon: Supervised, tmp_path: Path) -> None:
    """Its clients would wait for ever."""
    with socket.socket(socket.AF_UNIX) as passed:
        passed.bind(str(tmp_path / "passed"))
        passed.listen()
        daemon.configure("one")
        descriptor = str(passed.fileno())
        daemon.begin(sys.executable, "-c", PASSING, descriptor, "web.socket", keep=[passed.fileno()])

        daemon.wait_for("systemd passed the socket 'web.socket'")
        assert daemon.ended() == os.EX_CONFIG
