"""What the supervisor knows of its children: a crew for each daemon and generation of its configuration.

Knows no signals and forks nothing.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from math import inf
from typing import Any, Generic, TypeVar

from mailreeve_policyd.listen import Address, Listener
from mailreeve_policyd.privileges import Account
from mailreeve_policyd.worker import NEVER_WORN, Wear, WorkerContext

STABLE_SECONDS = 10.0
"""A worker that dies sooner than this after its start counts as one that cannot start."""

FIRST_DELAY_SECONDS = 0.5
MAX_DELAY_SECONDS = 30.0
"""Restarts of what dies young wait, each twice as long as the one before, and never longer than this."""

LoadedT = TypeVar("LoadedT")


@dataclass(frozen=True, slots=True)
class Generation(Generic[LoadedT]):
    """What one reading of the configuration came to.

    `workers` is at least 1. `account`, `listen` and what is said of sockets count at the start alone: a
    reload that changes one of them says that it needs a restart. `socket_group` is -1 for the account's own.
    `hung_after_seconds` is 0 where no worker is ever killed for its silence. `loaded` is the daemon's own.
    """

    listen: tuple[Address, ...]
    socket_mode: int
    workers: int
    drain_seconds: float
    account: Account | None
    loaded: LoadedT
    socket_group: int = -1
    hung_after_seconds: float = 0.0
    wear: Wear = NEVER_WORN


@dataclass(frozen=True, slots=True)
class DaemonSpec(Generic[LoadedT]):
    """A daemon. `load` raises ConfigError, opens nothing that must not be shared by forked processes.

    `serve` runs in a worker with the listening, non-blocking sockets in the order of `listen`; see
    WorkerContext for what it owes. `is_vital`: mail goes by it, so the service manager hears of it.
    """

    name: str
    load: Callable[[], Generation[LoadedT]]
    serve: Callable[[WorkerContext, LoadedT, Sequence[socket.socket]], None]
    is_vital: bool = True


class State(Enum):
    """What a worker is doing, as far as its parent knows."""

    STARTING = "starting"
    SERVING = "serving"
    WORN = "worn"
    """It serves, until another serves in its place."""
    RETIRING = "retiring"


class Crew:
    """The workers of one daemon in one generation, and how their restarts go."""

    def __init__(
        self, generation: Generation[Any], daemon: DaemonSpec[Any], listeners: Sequence[Listener] = ()
    ) -> None:
        self.generation = generation
        self.daemon = daemon
        self.listeners = listeners
        self.early_deaths = 0
        self.next_start = -inf
        self.has_served = False

    def serve(self, context: WorkerContext) -> None:
        """Be one of its workers, in a process of its own."""
        sockets = [listener.socket for listener in self.listeners]
        self.daemon.serve(context, self.generation.loaded, sockets)

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
class Worker:
    """One child. `deadline` is when it is killed: not serving in time, or not drained in time.

    `asked_at` is when it was asked whether it is there, None if it has answered since; `answered_at` when
    it last did. All times are monotonic. `page` is where it keeps its numbers (metrics_ledger.py).
    """

    pid: int
    crew: Crew
    control: socket.socket
    started: float
    deadline: float
    state: State = State.STARTING
    heard_of: bool = True
    asked_at: float | None = None
    answered_at: float = -inf
    page: int | None = None

    @property
    def serves(self) -> bool:
        """Does it take connections?"""
        return self.state in (State.SERVING, State.WORN)

    def is_hung(self, now: float) -> bool:
        """Was it asked too long ago?"""
        bound = self.crew.generation.hung_after_seconds
        return bool(bound) and self.serves and self.asked_at is not None and now - self.asked_at > bound

    def tell(self, order: bytes) -> None:
        """Give an order (worker.py). Never blocks, never raises."""
        with suppress(OSError):  # it is dead already, and will be reaped
            self.control.send(order, socket.MSG_DONTWAIT)
