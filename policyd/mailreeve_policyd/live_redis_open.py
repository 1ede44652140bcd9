"""Who answers for sets and tables: one Redis server, the master that Sentinels name, or a Cluster's nodes.

Loaded only where Redis is asked: redis-py takes its time.
"""

from __future__ import annotations

from mailreeve_policyd.config import Configuration
from mailreeve_policyd.live_redis import Reading
from mailreeve_policyd.redis_answering import by_node, by_server, nodes_of, server_of
from mailreeve_policyd.redis_open import read_way


def reading(configuration: Configuration) -> tuple[Reading, bool]:
    """Who answers by the settings of `[limits]`, and whether it is a Cluster. Connects when it is asked.

    Raises:
        ConfigError: as `read_way`.
    """
    way = read_way(configuration)
    if way.nodes:
        return by_node(nodes_of(way)), True
    return by_server(server_of(way)), False
