"""The store in Redis that a configuration asks for: on one server, behind Sentinels, on a Cluster.

Loaded only where Redis counts: redis-py takes its time.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from mailreeve_policyd.config import Configuration
from mailreeve_policyd.limits import LimitStore, OnUnavailable
from mailreeve_policyd.limits_outage import FallbackStore, WatchedStore
from mailreeve_policyd.limits_redis import OneServer, RedisStore, ScriptServer
from mailreeve_policyd.limits_redis_cluster import ClusterStore
from mailreeve_policyd.limits_redis_nodes import Nodes
from mailreeve_policyd.limits_redis_sentinel import SentinelServer
from mailreeve_policyd.redis_access import Address
from mailreeve_policyd.redis_open import RedisWay, read_way


def open_shared(
    configuration: Configuration,
    local: LimitStore,
    mode: OnUnavailable,
    log: logging.Logger,
    clock: Callable[[], float] | None = None,
) -> WatchedStore:
    """The store, doing what `mode` and `local` are for while Redis is away. Connects at the first charge.

    Raises:
        ConfigError: as `read_way`.
    """
    way = read_way(configuration)
    remember = configuration.settings.limits.remember_seconds
    if way.nodes:
        return ClusterStore(_nodes(way), local, mode, log, clock, remember)
    store = RedisStore(_server(way), clock, remember)
    return FallbackStore(store, local, mode, log, name="the limit store in Redis")


def _nodes(way: RedisWay) -> Nodes:
    return Nodes(way.nodes, lambda address: _open(way, address))


def _server(way: RedisWay) -> ScriptServer:
    if not way.sentinels:
        return OneServer(way.access.open())
    return SentinelServer(
        [sentinel.open() for sentinel in way.sentinels],
        way.access.url.host,
        lambda address: _open(way, address),
        way.access.timeout_seconds,
    )


def _open(way: RedisWay, address: Address) -> OneServer:
    return OneServer(way.access.at(address).open())
