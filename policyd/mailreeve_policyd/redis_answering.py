"""Who answers at a way to Redis: one server, the master that Sentinels name, or a Cluster's nodes.

Limits, sets and tables reach Redis alike. Loaded only where Redis is asked: redis-py takes its time.
"""

from __future__ import annotations

from redis.crc import key_slot

from mailreeve_policyd.limits_redis import OneServer
from mailreeve_policyd.limits_redis_nodes import Nodes
from mailreeve_policyd.limits_redis_sentinel import SentinelServer
from mailreeve_policyd.live_redis import Reading
from mailreeve_policyd.redis_access import Address
from mailreeve_policyd.redis_open import RedisWay


def nodes_of(way: RedisWay) -> Nodes:
    """The nodes of a Cluster; connects when it is asked."""
    return Nodes(way.nodes, lambda address: _open(way, address))


def server_of(way: RedisWay) -> OneServer | SentinelServer:
    """The one server, or whichever Sentinels name; connects when it is asked."""
    if not way.sentinels:
        return OneServer(way.access.open())
    return SentinelServer(
        [sentinel.open() for sentinel in way.sentinels],
        way.access.url.host,
        lambda address: _open(way, address),
        way.access.timeout_seconds,
    )


def by_node(nodes: Nodes) -> Reading:
    """Asks the node that has a key's slot."""
    return lambda key, command, *words: nodes.command(key_slot(key), command, key, *words)


def by_server(server: OneServer | SentinelServer) -> Reading:
    """Asks the one there is."""
    return lambda key, command, *words: server.command(command, key, *words)


def _open(way: RedisWay, address: Address) -> OneServer:
    return OneServer(way.access.at(address).open())
