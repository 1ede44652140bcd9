"""From the configuration to the sets and tables in Redis that rules may ask."""

from __future__ import annotations

import logging
from collections.abc import Callable
from time import monotonic

import msgspec

from mailreeve_policyd.config import Configuration
from mailreeve_policyd.errors import ConfigError
from mailreeve_policyd.live import LiveNames, PartedNames, RememberedNames
from mailreeve_policyd.settings import Limits, Live

log = logging.getLogger(__name__)


def open_live(configuration: Configuration, clock: Callable[[], float] = monotonic) -> LiveNames | None:
    """The Redis of `[live]`, or else that of `[limits]`; None where there is neither.

    Touches no network before the first question, and may be made before a fork. `clock` gives seconds
    that only grow, for tests.

    Raises:
        ConfigError: Redis cannot be reached with these settings; no password is repeated.
    """
    settings = configuration.settings
    if not settings.live.redis_url and settings.limits.store != "redis":
        return None
    # redis-py takes a tenth of a second to load, and most hosts do without
    from mailreeve_policyd.live_redis import RedisNames  # noqa: PLC0415
    from mailreeve_policyd.live_redis_open import reading  # noqa: PLC0415

    asked = _as_limits(settings.limits, settings.live)
    whose = msgspec.structs.replace(settings, limits=asked)
    try:
        read, is_cluster = reading(Configuration(configuration.path, whose))
    except ConfigError as error:
        if settings.live.redis_url and error.place in _OWN:
            error.place = error.place.replace("limits.", "live.", 1)
        raise
    names = RedisNames(read)
    return PartedNames(names, log, clock) if is_cluster else RememberedNames(names, log, clock)


_OWN = ("limits.redis_url", "limits.redis_password_file")


def _as_limits(limits: Limits, live: Live) -> Limits:
    """The settings of the way to Redis, which `[limits]` has in full and `[live]` as far as it differs."""
    if not live.redis_url:
        return limits
    uses_tls = live.redis_url.startswith("rediss:")
    return msgspec.structs.replace(
        limits,
        redis_url=live.redis_url,
        redis_password_file=live.redis_password_file,
        redis_sentinels=(),
        redis_cluster=(),
        redis_ca_file=limits.redis_ca_file if uses_tls else "",
        redis_certificate_file=limits.redis_certificate_file if uses_tls else "",
        redis_key_file=limits.redis_key_file if uses_tls else "",
    )
