"""Who is asked, who counts as hung, and when the watchdog is told."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from mailreeve_policyd.crew import Crew, DaemonSpec, Generation, State, Worker
from mailreeve_policyd.pulse import BEAT_SECONDS, Pulse
from mailreeve_policyd.systemd import Notifier
from mailreeve_policyd.worker import ASK


class Team:
    """One crew with one worker, whose end of the control socket is ours; and the watchdog's ear."""

    def __init__(self, folder: Path, hung_after_seconds: float = 60.0) -> None:
        generation = Generation((), 0o660, 1, 30.0, None, None, hung_after_seconds=hung_after_seconds)
        self.crew = Crew(generation, DaemonSpec("policyd", lambda: generation, lambda *_: None))
        self.end, control = socket.socketpair()
        self.worker = Worker(1, self.crew, control, 0.0, 0.0, State.SERVING, answered_at=0.0)
        self.ear = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.ear.bind(str(folder / "notify"))
        self.pulse = Pulse(Notifier(str(folder / "notify"), watchdog_seconds=180.0))
        for one in (self.end, self.ear):
            one.setblocking(False)

    def beat(self, now: float) -> None:
        self.pulse.beat(now, [self.worker], [self.crew])

    def was_asked(self) -> bool:
        return received(self.end) == ASK

    def was_told(self) -> bool:
        return received(self.ear) == b"WATCHDOG=1"

    def close(self) -> None:
        for one in (self.end, self.worker.control, self.ear):
            one.close()


def received(sock: socket.socket) -> bytes:
    try:
        return sock.recv(100)
    except BlockingIOError:
        return b""


@pytest.fixture
def team(tmp_path: Path) -> Iterator[Team]:
    one = Team(tmp_path)
    yield one
    one.close()


def test_a_worker_is_asked_once_a_beat_until_it_answers(team: Team) -> None:
    """A second question before the first answer would say nothing, and fill the socket of one that hangs."""
    team.beat(0.0)
    assert team.was_asked()
    team.beat(1.0)
    assert not team.was_asked()

    team.beat(BEAT_SECONDS)
    assert not team.was_asked()
    team.worker.asked_at = None
    team.beat(2 * BEAT_SECONDS)
    assert team.was_asked()


def test_a_crew_that_takes_over_is_asked_as_often_as_it_needs(team: Team) -> None:
    """The beat before it served was for nobody: who may be silent for a second is not left alone for five."""
    team.pulse.beat(0.0, [], [])
    team.crew.generation = replace(team.crew.generation, hung_after_seconds=1.0)
    team.beat(0.5)
    assert not team.was_asked()

    team.pulse.hurry()
    team.beat(0.5)
    assert team.was_asked()
    assert team.pulse.next_beat == 0.75


def test_the_watchdog_is_told_while_a_worker_answers(team: Team) -> None:
    """For as long as a worker may be silent: then it is killed, and another has its time to start."""
    team.beat(0.0)
    assert team.was_told()
    team.beat(60.0)
    assert team.was_told()
    team.beat(66.0)
    assert not team.was_told()

    team.worker.answered_at = 70.0
    team.beat(72.0)
    assert team.was_told()


def test_a_worker_that_still_starts_is_neither_asked_nor_enough(team: Team) -> None:
    """Only who serves does."""
    team.worker.state = State.STARTING
    team.beat(0.0)

    assert not team.was_asked()
    assert not team.was_told()


def test_who_is_silent_for_too_long_hangs(team: Team) -> None:
    """Counted from when it was asked."""
    for now in range(0, 61, 5):
        team.beat(float(now))
    assert team.pulse.hung(60.0, [team.worker]) == []
    team.beat(65.0)

    assert team.pulse.hung(65.0, [team.worker]) == [team.worker]


def test_a_parent_that_was_away_asks_again(team: Team) -> None:
    """It was stopped for an hour, and its workers perhaps with it."""
    team.beat(0.0)

    assert team.pulse.hung(3600.0, [team.worker]) == []
    team.beat(3600.0)
    assert team.worker.asked_at == 3600.0


def test_a_parent_that_was_away_for_a_moment_asks_again(team: Team) -> None:
    """Where a worker may be silent for a second only, a stop of two is long."""
    team.crew.generation = replace(team.crew.generation, hung_after_seconds=1.0)
    for moment in (0.0, 0.25):
        team.beat(moment)

    assert team.pulse.hung(2.25, [team.worker]) == []
    team.beat(2.25)
    assert team.worker.asked_at == 2.25


def test_nobody_hangs_where_that_is_switched_off(tmp_path: Path) -> None:
    """hung_after_seconds = 0; the watchdog is told while answers are recent."""
    team = Team(tmp_path, hung_after_seconds=0.0)
    team.beat(0.0)
    team.beat(5.0)

    assert team.pulse.hung(6.0, [team.worker]) == []
    assert not team.worker.is_hung(1e9)
    team.close()
