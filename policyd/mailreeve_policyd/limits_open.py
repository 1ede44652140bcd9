"""From the configuration to the limit store of a daemon, with what it does while that store is away."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mailreeve_policyd.config import Configuration
from mailreeve_policyd.limits import LimitStore, OnUnavailable
from mailreeve_policyd.limits_admin import OrderBook
from mailreeve_policyd.limits_admin_sqlite import SqliteBook
from mailreeve_policyd.limits_admin_store import ObeyingStore
from mailreeve_policyd.limits_memory import MemoryStore
from mailreeve_policyd.limits_outage import FallbackStore, WatchedStore
from mailreeve_policyd.limits_sqlite import SqliteStore

if TYPE_CHECKING:
    from mailreeve_policyd.limits_redis_open import Shared

FILE_NAME = "limits.sqlite"
ORDERS_FILE_NAME = "orders.sqlite"
"""In the state directory."""

log = logging.getLogger(__name__)


def open_store(configuration: Configuration, clock: Callable[[], float] | None = None) -> WatchedStore:
    """The store that `[limits]` asks for. Touches neither its file nor the network before the first charge.

    Made before a fork or after, it opens what it needs once in each process. `clock` (seconds since the
    epoch) is for tests; without it time is the machine's, and that of the Redis server. While Redis is
    away `local` counts in the state directory; while that is away, a full disk for instance, each
    process counts in its memory.

    Raises:
        ConfigError: Redis cannot be reached with these settings; no password is repeated.
    """
    limits = configuration.settings.limits
    mode = OnUnavailable(limits.on_unavailable)
    store: WatchedStore
    book: OrderBook
    if limits.store == "sqlite":
        store, book = _embedded(configuration, mode, clock), _embedded_book(configuration, clock)
    else:
        shared = _shared(configuration, mode, clock)
        store, book = shared.store, shared.book()
    return ObeyingStore(store, book, log, clock or time.time)


@dataclass(frozen=True, slots=True)
class Desk:
    """What an administrator works with. Every call raises StoreError while the store is away.

    `store` counts without orders; charges should say `OnUnavailable.CLOSED`. `forget` drops counters.
    """

    store: LimitStore
    book: OrderBook
    forget: Callable[[Sequence[bytes]], None]

    def close(self) -> None:
        """Give the connections back."""
        self.book.close()
        self.store.close()


def open_desk(configuration: Configuration, clock: Callable[[], float] | None = None) -> Desk:
    """The same store for a person, who wants to know when it is away. Raises as `open_store`."""
    if configuration.settings.limits.store == "sqlite":
        store = _sqlite(configuration, clock)
        return Desk(store, _embedded_book(configuration, clock), store.forget)
    shared = _shared(configuration, OnUnavailable.CLOSED, clock)
    return Desk(shared.counting, shared.book(), shared.forget)


def uses_state_dir(configuration: Configuration) -> bool:
    """Do limits count in the state directory, always or while Redis is away?"""
    limits = configuration.settings.limits
    return limits.store == "sqlite" or OnUnavailable(limits.on_unavailable) is OnUnavailable.LOCAL


def check_store(configuration: Configuration) -> None:
    """Find a mistake in `[limits]` before a worker does. Asks no store.

    Raises:
        ConfigError: as `open_store`.
    """
    open_store(configuration).close()


def _shared(configuration: Configuration, mode: OnUnavailable, clock: Callable[[], float] | None) -> Shared:
    # redis-py takes a tenth of a second to load, and most hosts do without
    from mailreeve_policyd.limits_redis_open import open_shared  # noqa: PLC0415

    local = _embedded(configuration, OnUnavailable.LOCAL, clock)
    return open_shared(configuration, local, mode, log, clock)


def _embedded(
    configuration: Configuration, mode: OnUnavailable, clock: Callable[[], float] | None
) -> FallbackStore:
    remember = configuration.settings.limits.remember_seconds
    return FallbackStore(
        _sqlite(configuration, clock),
        MemoryStore(clock or time.time, remember),
        mode,
        log,
        name="the limit store on this machine",
        local_means="each process counts for itself, from nothing: with N of them N times as much may pass",
    )


def _sqlite(configuration: Configuration, clock: Callable[[], float] | None) -> SqliteStore:
    path = configuration.resolve(configuration.settings.state_dir) / FILE_NAME
    return SqliteStore(path, clock or time.time, configuration.settings.limits.remember_seconds)


def _embedded_book(configuration: Configuration, clock: Callable[[], float] | None) -> SqliteBook:
    path = configuration.resolve(configuration.settings.state_dir) / ORDERS_FILE_NAME
    return SqliteBook(path, clock or time.time)
