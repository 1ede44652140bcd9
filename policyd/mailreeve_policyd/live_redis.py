"""Sets and tables of the rules in Redis or Valkey: `set staff = redis "staff"`.

A set is a Redis set (SISMEMBER), a table is a hash (HGET). Knows redis-py; remembers nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import redis

from mailreeve_policyd.errors import StoreError
from mailreeve_policyd.escape import decode_wire, encode_wire, escape
from mailreeve_policyd.live import UnusableName

SET_PREFIX = "mailreeve:set:"
TABLE_PREFIX = "mailreeve:table:"
"""Before the name in quotes: one pattern, `mailreeve:*`, is all that an ACL needs to allow."""

MAX_VALUE_OCTETS = 1000
"""Of what stands in a table: as in a file (tables.MAX_LINE)."""


class RedisNames:
    """LiveNames in Redis, behind whatever connections `client` has. Threads and forks may share it."""

    def __init__(self, client: redis.Redis | redis.RedisCluster) -> None:
        self._client: Any = client  # redis-py types its commands as answering now or later

    def has(self, name: str, members: Sequence[str]) -> bool:
        """LiveNames.has: one round trip."""
        key, raw = SET_PREFIX + name, [encode_wire(member) for member in members]
        if len(raw) == 1:
            return bool(self._ask(key, lambda: self._client.sismember(key, raw[0])))
        return any(self._ask(key, lambda: self._client.smismember(key, raw)))

    def value(self, name: str, key: str) -> str | None:
        """LiveNames.value: one round trip."""
        table = TABLE_PREFIX + name
        found = self._ask(table, lambda: self._client.hget(table, encode_wire(key)))
        if found is None:
            return None
        raw = found if isinstance(found, bytes) else str(found).encode()
        if len(raw) > MAX_VALUE_OCTETS:
            return decode_wire(raw[: MAX_VALUE_OCTETS + 1])  # still too long, for whoever reads it
        return decode_wire(raw).strip()

    def close(self) -> None:
        """Close this process's connections."""
        self._client.close()

    def _ask(self, key: str, question: Any) -> Any:
        try:
            return question()
        except (redis.RedisError, OSError) as error:
            if _is_about_the_key(error):
                raise UnusableName(f"{key}: {escape(str(error))}") from error
            raise StoreError(f"Redis: {escape(str(error))}") from error


def _is_about_the_key(error: Exception) -> bool:
    """The server is there: the key holds something else, or this user may not read it."""
    return isinstance(error, redis.exceptions.NoPermissionError) or str(error).startswith("WRONGTYPE")
