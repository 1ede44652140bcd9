"""From the configuration to the limit store of a daemon, with what it does while that store is away."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path

from mailreeve_policyd.config import Configuration
from mailreeve_policyd.errors import ConfigError
from mailreeve_policyd.limits import LimitStore, OnUnavailable
from mailreeve_policyd.limits_memory import MemoryStore
from mailreeve_policyd.limits_outage import FallbackStore
from mailreeve_policyd.limits_sqlite import SqliteStore

FILE_NAME = "limits.sqlite"
"""In the state directory."""

log = logging.getLogger(__name__)


def open_store(configuration: Configuration, clock: Callable[[], float] | None = None) -> FallbackStore:
    """The store that `[limits]` asks for. Touches neither file nor network before the first charge.

    Made before a fork or after, it opens what it needs once in each process. `clock` (seconds since the
    epoch) is for tests; without it time is the machine's, and that of the Redis server. While Redis is
    away `local` counts in the state directory; while that is away, a full disk for instance, each
    process counts in its memory.

    Raises:
        ConfigError: `redis_url` cannot be used; it is not repeated, since it may hold a password.
    """
    limits = configuration.settings.limits
    mode = OnUnavailable(limits.on_unavailable)
    path = configuration.resolve(configuration.settings.state_dir) / FILE_NAME
    if limits.store == "sqlite":
        return _embedded(path, mode, clock or time.time, limits.remember_seconds)
    primary = _shared(configuration, clock)
    local = _embedded(path, OnUnavailable.LOCAL, clock or time.time, limits.remember_seconds)
    return FallbackStore(primary, local, mode, log, name="the limit store in Redis")


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


def _shared(configuration: Configuration, clock: Callable[[], float] | None) -> LimitStore:
    # redis-py takes a tenth of a second to load, and most hosts do without
    from mailreeve_policyd.limits_redis import RedisStore  # noqa: PLC0415

    limits = configuration.settings.limits
    try:
        return RedisStore.from_url(
            limits.redis_url, limits.redis_timeout_seconds, clock, limits.remember_seconds
        )
    except ValueError as error:
        raise ConfigError(
            str(configuration.path),
            "limits.redis_url",
            str(error),
            'for instance "redis://:password@redis.example.org:6379/0", "rediss://..." with TLS, or '
            '"unix:///run/redis/redis.sock?db=0"; a password\'s special characters as %40, %2F and so on',
        ) from None


def _embedded(path: Path, mode: OnUnavailable, clock: Callable[[], float], remember: int) -> FallbackStore:
    return FallbackStore(
        SqliteStore(path, clock, remember),
        MemoryStore(clock, remember),
        mode,
        log,
        name="the limit store on this machine",
        local_means="each process counts for itself, from nothing: with N of them N times as much may pass",
    )
