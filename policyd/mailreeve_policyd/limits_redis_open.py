"""The store in Redis that a configuration asks for: on one server, behind Sentinels, on a Cluster.

Loaded only where Redis counts: redis-py takes its time.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mailreeve_policyd.config import Configuration
from mailreeve_policyd.limits import LimitStore, OnUnavailable
from mailreeve_policyd.limits_admin_redis import RedisBook, forget_in_redis
from mailreeve_policyd.limits_outage import FallbackStore, WatchedStore
from mailreeve_policyd.limits_redis import RedisStore
from mailreeve_policyd.limits_redis_cluster import ClusterStore
from mailreeve_policyd.live_redis import Reading
from mailreeve_policyd.redis_answering import by_node, by_server, nodes_of, server_of
from mailreeve_policyd.redis_open import read_way


def open_shared(
    configuration: Configuration,
    local: LimitStore,
    mode: OnUnavailable,
    log: logging.Logger,
    clock: Callable[[], float] | None = None,
) -> Shared:
    """The store, doing what `mode` and `local` are for while Redis is away. Connects at the first charge.

    Raises:
        ConfigError: as `read_way`.
    """
    way = read_way(configuration)
    remember = configuration.settings.limits.remember_seconds
    if way.nodes:
        nodes = nodes_of(way)
        store = ClusterStore(nodes, local, mode, log, clock, remember)
        return Shared(store, store, by_node(nodes), clock or time.time)
    server = server_of(way)
    counting = RedisStore(server, clock, remember)
    watched = FallbackStore(counting, local, mode, log, name="the limit store in Redis")
    return Shared(watched, counting, by_server(server), clock or time.time)


@dataclass(frozen=True, slots=True)
class Shared:
    """What one way to Redis is for: `store` goes on without it, `counting` says that it is away.

    On a Cluster they are one: whoever asks says for each charge what its outage means.
    """

    store: WatchedStore
    counting: LimitStore
    ask: Reading
    clock: Callable[[], float]

    def book(self) -> RedisBook:
        """The administrator's orders, over the same connections; `store` closes them."""
        return RedisBook(self.ask, lambda: None, self.clock)

    def forget(self, keys: Sequence[bytes]) -> None:
        """Drop these counters. Raises StoreError."""
        forget_in_redis(self.ask, keys)
