"""What an event loop waits with: descriptors that are ready, by number. Knows nothing of what they are.

The standard library's selectors give an object for each event, which costs as much as asking the system.
"""

from __future__ import annotations

import select
from typing import Protocol

READ, WRITE = select.POLLIN, select.POLLOUT
"""What a descriptor is watched for. One that failed or was left is ready, whatever it is watched for."""


class Poller(Protocol):
    """select.epoll, and what stands in for it."""

    def register(self, fd: int, eventmask: int, /) -> object:
        """Watch a descriptor."""

    def modify(self, fd: int, eventmask: int, /) -> object:
        """Watch it for something else."""

    def unregister(self, fd: int, /) -> object:
        """Watch it no longer. To be called before it is closed."""

    def poll(self, seconds: float | None, /) -> list[tuple[int, int]]:
        """Wait so long, or until something is ready: each descriptor that is, and for what."""

    def close(self) -> None:
        """Watch nothing any more."""


def open_poller() -> Poller:
    """The best that the system has."""
    return select.epoll() if hasattr(select, "epoll") else PlainPoller()


class PlainPoller:
    """poll(2), where there is no epoll: FreeBSD, macOS."""

    def __init__(self) -> None:
        poller = select.poll()
        self.register, self.modify, self.unregister = poller.register, poller.modify, poller.unregister
        self._poll = poller.poll

    def poll(self, seconds: float | None, /) -> list[tuple[int, int]]:
        """See Poller; it never returns before the time is over."""
        return self._poll(None if seconds is None else int(seconds * 1000) + (seconds > 0))

    def close(self) -> None:
        """Nothing of the system's is held."""
