"""What `systemctl status` shows."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from mailreeve_policyd.bulletin import Bulletin
from mailreeve_policyd.crew import Crew, DaemonSpec, Generation
from mailreeve_policyd.systemd import Notifier

NOON = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)


def crew(name: str) -> Crew:
    generation = Generation((), 0o660, 1, 30.0, None, None)
    return Crew(generation, DaemonSpec(name, lambda: generation, lambda *_: None))


CREWS = (crew("policyd"), crew("milter"))


@pytest.fixture
def ear(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.bind(str(tmp_path / "notify"))
        heard.setblocking(False)
        yield heard


def heard(ear: socket.socket) -> list[str]:
    """All that was said since the last time, line by line."""
    said = []
    try:
        while True:
            said.extend(ear.recv(8192).decode().split("\n"))
    except BlockingIOError:
        return said


def test_nothing_is_said_before_it_serves(ear: socket.socket) -> None:
    """READY comes first, and a reload that is asked for too early is none."""
    bulletin = Bulletin(Notifier(ear.getsockname()), lambda: NOON)
    bulletin.tell(0, ())
    bulletin.loading()
    assert heard(ear) == []

    bulletin.loaded(2, CREWS)
    assert heard(ear) == [
        "READY=1",
        "STATUS=policyd and milter: 2 workers, configuration of 2026-03-01 12:00:00+00:00",
    ]


def test_a_change_is_said_once(ear: socket.socket) -> None:
    """A worker died, another took its place."""
    bulletin = Bulletin(Notifier(ear.getsockname()), lambda: NOON)
    bulletin.loaded(2, CREWS)
    heard(ear)
    for serving in (2, 1, 1, 2):
        bulletin.tell(serving, CREWS)

    assert [line.split(",")[0] for line in heard(ear)] == [
        "STATUS=policyd and milter: 1 workers",
        "STATUS=policyd and milter: 2 workers",
    ]


def test_a_reload_that_failed_is_over_and_says_why(ear: socket.socket) -> None:
    """Ready again with the old configuration; a later one that succeeds takes the trouble back."""
    bulletin = Bulletin(Notifier(ear.getsockname()), lambda: NOON)
    bulletin.loaded(1, CREWS)
    bulletin.loading()
    heard(ear)
    bulletin.not_loaded("rules:3: no such fact\n  hint: sender")
    bulletin.tell(1, CREWS)
    ready, status = heard(ear)

    assert ready == "READY=1"
    assert status.endswith("; the reload of 2026-03-01 12:00:00+00:00 failed: rules:3: no such fact")

    bulletin.loading()
    bulletin.loaded(1, CREWS)
    assert "failed" not in heard(ear)[-1]
