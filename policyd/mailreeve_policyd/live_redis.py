"""Sets and tables of the rules in Redis or Valkey: `set staff = redis "staff"`.

A set is a Redis set (SISMEMBER, SMISMEMBER), a table is a hash (HGET). Knows these commands and what their
errors mean; remembers nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from redis.exceptions import NoPermissionError

from mailreeve_policyd.errors import StoreError
from mailreeve_policyd.escape import decode_wire, encode_wire
from mailreeve_policyd.live import UnusableName

SET_PREFIX = "mailreeve:set:"
TABLE_PREFIX = "mailreeve:table:"
"""Before the name in quotes: one pattern, `mailreeve:*`, is all that an ACL needs to allow."""

MAX_VALUE_OCTETS = 4000
"""Of what stands in a table: 1000 characters (sets.MAX_LINE). What is cut here is still too long."""


class Reading(Protocol):
    """Whoever answers a command that only reads: one server, the master, or the node that has the key."""

    def __call__(self, key: bytes, command: str, *arguments: bytes) -> object:
        """The answer.

        Raises:
            StoreError: an error of Redis, or of the way to it, which is its cause.
        """


class RedisNames:
    """LiveNames in Redis. Threads and forks may share it."""

    def __init__(self, ask: Reading) -> None:
        self._ask = ask

    def has(self, name: str, members: Sequence[str]) -> bool:
        """LiveNames.has: one round trip."""
        raw = [encode_wire(member) for member in members]
        if len(raw) == 1:
            return self._read(SET_PREFIX + name, "SISMEMBER", *raw) == 1
        found = self._read(SET_PREFIX + name, "SMISMEMBER", *raw)
        return isinstance(found, list) and 1 in found

    def value(self, name: str, key: str) -> str | None:
        """LiveNames.value: one round trip."""
        found = self._read(TABLE_PREFIX + name, "HGET", encode_wire(key))
        if not isinstance(found, bytes):
            return None
        return decode_wire(found[: MAX_VALUE_OCTETS + 1]).strip()

    def _read(self, key: str, command: str, *arguments: bytes) -> object:
        try:
            return self._ask(key.encode(), command, *arguments)
        except StoreError as error:
            if _is_about_the_key(error.__cause__):
                raise UnusableName(f"{key}: {error}") from error
            raise


def _is_about_the_key(error: BaseException | None) -> bool:
    """The server is there: the key holds something else, or this user may not read it."""
    return isinstance(error, NoPermissionError) or str(error).startswith("WRONGTYPE")
