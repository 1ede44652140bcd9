"""What the supervisor knows of its children: a crew for each generation of the configuration.

Knows no signals and forks nothing.
"""

from __future__ import annotations

import socket
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from math import inf
from typing import Generic, TypeVar

from mailreeve_policyd.listen import Address
from mailreeve_policyd.privileges import Account

STABLE_SECONDS = 10.0
"""A worker that dies sooner than this after its start counts as one that cannot start."""

FIRST_DELAY_SECONDS = 0.5
MAX_DELAY_SECONDS = 30.0
"""Restarts of what dies young wait, each twice as long as the one before, and never longer than this."""

LoadedT = TypeVar("LoadedT")


@dataclass(frozen=True, slots=True)
class Generation(Generic[LoadedT]):
    """What one reading of the configuration came to.

    `workers` is at least 1. `account`, `listen` and `socket_mode` count at the start alone: a reload
    that changes one of them says that it needs a restart. `loaded` is the daemon's own.
    """

    listen: tuple[Address, ...]
    socket_mode: int
    workers: int
    drain_seconds: float
    account: Account | None
    loaded: LoadedT


class State(Enum):
    """What a worker is doing, as far as its parent knows."""

    STARTING = "starting"
    SERVING = "serving"
    RETIRING = "retiring"


class Crew(Generic[LoadedT]):
    """The workers of one generation, and how their restarts go."""

    def __init__(self, generation: Generation[LoadedT]) -> None:
        self.generation = generation
        self.early_deaths = 0
        self.next_start = -inf
        self.has_served = False

    def delay_after_death(self, lived_seconds: float, now: float) -> float:
        """Seconds to wait before the dead worker is replaced; `next_start` is then. Times are monotonic."""
        self.early_deaths = self.early_deaths + 1 if lived_seconds < STABLE_SECONDS else 0
        exponent = min(self.early_deaths - 1, 16)
        delay = min(FIRST_DELAY_SECONDS * 2**exponent, MAX_DELAY_SECONDS) if self.early_deaths else 0.0
        self.next_start = now + delay
        return delay

    def wait_for_the_system(self, now: float) -> None:
        """No process could be made: that is no worker's fault, but takes time to pass."""
        self.next_start = now + MAX_DELAY_SECONDS


@dataclass(slots=True, eq=False)
class Worker(Generic[LoadedT]):
    """One child. `deadline` is when it is killed: not serving in time, or not drained in time."""

    pid: int
    crew: Crew[LoadedT]
    control: socket.socket
    started: float
    deadline: float
    state: State = State.STARTING
    heard_of: bool = True

    def tell(self, order: bytes) -> None:
        """Give an order (worker.py). Never blocks, never raises."""
        with suppress(OSError):  # it is dead already, and will be reaped
            self.control.send(order)
