"""What a parent counts, and that the process of the metrics is nothing that mail depends on."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from mailreeve_policyd.bulletin import Bulletin
from mailreeve_policyd.crew import Crew, DaemonSpec, Generation, State, Worker
from mailreeve_policyd.metrics_ledger import Ledger
from mailreeve_policyd.metrics_parent import ANSWERED_SECONDS, ParentMetrics
from mailreeve_policyd.metrics_text import add_up, format_metrics
from mailreeve_policyd.pulse import Pulse
from mailreeve_policyd.systemd import Notifier
from tests.policyd.metrics_read import Exposition


def crew(name: str, workers: int = 2, *, is_vital: bool = True) -> Crew:
    generation = Generation((), 0o660, workers, 30.0, None, None)
    return Crew(generation, DaemonSpec(name, lambda: generation, lambda *_: None, is_vital))


@pytest.fixture
def control() -> Iterator[socket.socket]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours


@pytest.fixture
def ledger() -> Iterator[Ledger]:
    made = Ledger()
    yield made
    made.close()


def read(ledger: Ledger) -> Exposition:
    return Exposition(format_metrics(add_up(ledger.read())).decode())


def test_workers_are_told_as_they_stand(ledger: Ledger, control: socket.socket) -> None:
    """Two are wanted: one serves and answers, one serves and was silent, one starts; of others nothing."""
    policyd, metrics = crew("policyd"), crew("metrics", is_vital=False)
    now = 1000.0
    workers = [
        Worker(1, policyd, control, 0.0, 0.0, State.SERVING, answered_at=now - ANSWERED_SECONDS),
        Worker(2, policyd, control, 0.0, 0.0, State.WORN, answered_at=now - ANSWERED_SECONDS - 1),
        Worker(3, policyd, control, 0.0, 0.0, State.STARTING, answered_at=now),
        Worker(4, metrics, control, 0.0, 0.0, State.SERVING, answered_at=now),
    ]
    ParentMetrics(ledger).look(now, workers, [policyd, metrics])
    told = read(ledger)

    assert [
        told.value("mailreeve_workers", daemon="policyd", state=state)
        for state in ("wanted", "serving", "answering")
    ] == [2, 2, 1]
    assert told.total("mailreeve_workers", daemon="metrics") == 0


def test_reloads_and_deaths_are_counted(ledger: Ledger) -> None:
    """The first configuration is no reload; a failed one is told until one is good."""
    clock = iter(float(number) for number in range(100, 200))
    parent, policyd = ParentMetrics(ledger, clock.__next__), crew("policyd")
    parent.started(policyd)
    parent.loaded(is_reload=False)
    assert read(ledger).value("mailreeve_reloads_total", outcome="ok") == 0
    parent.not_loaded()
    assert read(ledger).value("mailreeve_last_reload_successful") == 0
    parent.loaded(is_reload=True)
    parent.died(policyd)
    told = read(ledger)

    assert told.value("mailreeve_reloads_total", outcome="ok") == 1
    assert told.value("mailreeve_reloads_total", outcome="failed") == 1
    assert told.value("mailreeve_last_reload_successful") == 1
    assert told.value("mailreeve_start_time_seconds") == 100
    assert told.value("mailreeve_configuration_loaded_time_seconds") == 102
    assert told.value("mailreeve_workers_died_total", daemon="policyd") == 1
    assert told.total("mailreeve_build_info") == 1


def test_without_room_workers_are_made_and_not_measured(
    ledger: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    """It is said once, and mail goes on: here the file of the numbers can no more grow."""
    parent = ParentMetrics(ledger)
    page = parent.take_page()
    os.close(ledger._file)
    ledger._file = os.open("/dev/null", os.O_RDWR)

    assert parent.open_page(page) is None
    assert parent.take_page() is None
    assert parent.take_page() is None
    assert parent.open_page(None) is None
    parent.give_back(page)
    assert [one.levelname for one in caplog.records] == ["WARNING"] * 2


def test_without_a_ledger_there_are_no_pages(control: socket.socket) -> None:
    """Metrics are off."""
    parent, policyd = ParentMetrics(), crew("policyd")
    parent.started(policyd)
    parent.loaded(is_reload=True)
    parent.look(1.0, [Worker(1, policyd, control, 0.0, 0.0)], [policyd])

    assert parent.take_page() is None
    parent.give_back(None)


def test_the_service_manager_hears_of_mail_alone(tmp_path: Path, control: socket.socket) -> None:
    """The watchdog is told though the metrics are silent; the status line counts who serves mail."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ear:
        ear.bind(str(tmp_path / "notify"))
        ear.setblocking(False)
        notifier = Notifier(str(tmp_path / "notify"), watchdog_seconds=180.0)
        policyd, metrics = crew("policyd"), crew("metrics", is_vital=False)
        workers = [Worker(1, policyd, control, 0.0, 0.0, State.SERVING, answered_at=0.0)]
        Pulse(notifier).beat(0.0, workers, [policyd, metrics])
        assert ear.recv(1000) == b"WATCHDOG=1"

        Bulletin(notifier).loaded(1, [policyd, metrics])
        assert b"STATUS=policyd: 1 workers" in ear.recv(1000)
