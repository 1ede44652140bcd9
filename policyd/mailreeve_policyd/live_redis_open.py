"""Who answers for sets and tables: one Redis server, the master that Sentinels name, or a Cluster's nodes.

Loaded only where Redis is asked: redis-py takes its time.
"""

from __future__ import annotations

from redis.crc import key_slot

from mailreeve_policyd.config import Configuration
from mailreeve_policyd.limits_redis import OneServer
from mailreeve_policyd.limits_redis_nodes import Nodes
from mailreeve_policyd.limits_redis_sentinel import SentinelServer
from mailreeve_policyd.live_redis import Reading
from mailreeve_policyd.redis_access import Address
from mailreeve_policyd.redis_open import RedisWay, read_way


def reading(configuration: Configuration) -> tuple[Reading, bool]:
    """Who answers by the settings of `[limits]`, and whether it is a Cluster. Connects when it is asked.

    Raises:
        ConfigError: as `read_way`.
    """
    way = read_way(configuration)
    if way.nodes:
        return _by_node(Nodes(way.nodes, lambda address: _open(way, address))), True
    return _by_server(_server(way)), False


def _by_node(nodes: Nodes) -> Reading:
    def ask(key: bytes, command: str, *arguments: bytes) -> object:
        return nodes.command(key_slot(key), command, key, *arguments)

    return ask


def _by_server(server: OneServer | SentinelServer) -> Reading:
    def ask(key: bytes, command: str, *arguments: bytes) -> object:
        return server.command(command, key, *arguments)

    return ask


def _server(way: RedisWay) -> OneServer | SentinelServer:
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
