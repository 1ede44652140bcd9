"""From the configuration to the limit store of a daemon, with what it does while that store is away."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from mailreeve_policyd.config import Configuration
from mailreeve_policyd.limits import OnUnavailable
from mailreeve_policyd.limits_memory import MemoryStore
from mailreeve_policyd.limits_outage import FallbackStore, WatchedStore
from mailreeve_policyd.limits_sqlite import SqliteStore

FILE_NAME = "limits.sqlite"
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
    if limits.store == "sqlite":
        return _embedded(configuration, mode, clock)
    return _shared(configuration, mode, clock)


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


def _shared(
    configuration: Configuration, mode: OnUnavailable, clock: Callable[[], float] | None
) -> WatchedStore:
    # redis-py takes a tenth of a second to load, and most hosts do without
    from mailreeve_policyd.limits_redis_open import open_shared  # noqa: PLC0415

    local = _embedded(configuration, OnUnavailable.LOCAL, clock)
    return open_shared(configuration, local, mode, log, clock)


def _embedded(
    configuration: Configuration, mode: OnUnavailable, clock: Callable[[], float] | None
) -> FallbackStore:
    path = configuration.resolve(configuration.settings.state_dir) / FILE_NAME
    remember = configuration.settings.limits.remember_seconds
    return FallbackStore(
        SqliteStore(path, clock or time.time, remember),
        MemoryStore(clock or time.time, remember),
        mode,
        log,
        name="the limit store on this machine",
        local_means="each process counts for itself, from nothing: with N of them N times as much may pass",
    )
