"""What a loop waits with, of the system's best kind and of the plain one."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator

import pytest

from mailreeve_policyd.poller import READ, WRITE, PlainPoller, Poller, open_poller

TIMEOUT_SECONDS = 10.0


@pytest.fixture(params=[open_poller, PlainPoller])
def poller(request: pytest.FixtureRequest) -> Iterator[Poller]:
    make: Callable[[], Poller] = request.param
    opened = make()
    yield opened
    opened.close()


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def ready(poller: Poller, seconds: float | None = 0) -> list[int]:
    return [descriptor for descriptor, _ in poller.poll(seconds)]


def test_a_descriptor_is_ready_for_what_it_is_watched_for(
    poller: Poller, pair: tuple[socket.socket, socket.socket]
) -> None:
    """A socket that nothing came over can be written, and not be read."""
    ours, theirs = pair
    poller.register(ours.fileno(), READ)
    assert ready(poller) == []
    poller.modify(ours.fileno(), WRITE)
    assert ready(poller) == [ours.fileno()]

    poller.modify(ours.fileno(), READ)
    theirs.send(b"x")
    assert ready(poller, TIMEOUT_SECONDS) == [ours.fileno()]
    assert ready(poller, None) == [ours.fileno()]
    poller.unregister(ours.fileno())
    assert ready(poller) == []


def test_a_connection_that_ended_is_ready(poller: Poller, pair: tuple[socket.socket, socket.socket]) -> None:
    """Whoever waits for it finds its end."""
    ours, theirs = pair
    poller.register(ours.fileno(), READ)

    theirs.close()

    assert ready(poller, TIMEOUT_SECONDS) == [ours.fileno()]


def test_a_wait_is_not_over_before_its_time(poller: Poller) -> None:
    """A loop that woke a moment too early would turn for nothing until the time is there."""
    began = time.monotonic()

    assert ready(poller, 0.0025) == []

    assert time.monotonic() - began >= 0.0025
