"""The limit store that several machines share: Redis or Valkey, one script call and one round trip a charge.

Knows redis-py and the calling convention of limits.lua, which does the counting. Knows no rules and no other
store.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from hashlib import sha1
from importlib.resources import files
from typing import Self

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from mailreeve_policyd.errors import StoreError
from mailreeve_policyd.escape import escape
from mailreeve_policyd.limits import Charge, Charged, Unit, Usage, charge_one_by_one
from mailreeve_policyd.limits_window import MAX_UNITS, MICROSECONDS, leaves_at, microseconds, period_seconds

MAX_CONNECTIONS = 32
"""Connections of one process: more than one interpreter can keep busy; further threads wait their turn."""

SCRIPT = files("mailreeve_policyd").joinpath("limits.lua").read_text("ascii")
SCRIPT_SHA = sha1(SCRIPT.encode(), usedforsecurity=False).hexdigest()
"""The name under which Redis keeps the script."""

NEVER = -1
"""What limits.lua answers where nothing needs to leave the window, or nothing helps."""

ANSWERS = 4
"""Numbers that limits.lua gives for each charge."""


class RedisStore:
    """A LimitStore in Redis, behind whatever connections `client` has. Threads and forks may share it.

    Time is that of the Redis server, one clock for all machines; a `clock` (seconds since the epoch) is
    for tests. Every error of Redis and of the way to it is StoreError. Nothing is sent twice, since what
    was sent may have been counted; `client` must not retry either.
    """

    def __init__(
        self,
        client: redis.Redis,
        clock: Callable[[], float] | None = None,
        remember_seconds: int = 3600,
    ) -> None:
        self._client = client
        self._clock = clock
        self._remember = remember_seconds * MICROSECONDS

    @classmethod
    def from_url(
        cls,
        url: str,
        timeout_seconds: float = 1.0,
        clock: Callable[[], float] | None = None,
        remember_seconds: int = 3600,
    ) -> Self:
        """A store on one server: redis://, rediss:// or unix://. Connects at the first charge.

        `timeout_seconds` bounds each of: waiting for a connection of the pool, connecting, an answer.

        Raises:
            ValueError: what redis-py cannot use, without the URL, which may hold a password.
        """
        try:
            pool = _open_pool(url, timeout_seconds)
        except (ValueError, TypeError, redis.RedisError):
            raise ValueError("not a URL that Redis can be reached by") from None
        return cls(redis.Redis(connection_pool=pool), clock, remember_seconds)

    def charge(self, charges: Sequence[Charge]) -> tuple[Usage, ...]:
        """Charge all or nothing: LimitStore.charge."""
        return self._ask("charge", charges)

    def charge_each(self, calls: Sequence[Sequence[Charge]]) -> list[Charged]:
        """Charge each call: LimitStore.charge_each."""
        return charge_one_by_one(self, calls)

    def usage(self, charges: Sequence[Charge]) -> tuple[Usage, ...]:
        """What `charge` would answer: LimitStore.usage."""
        return self._ask("usage", charges)

    def close(self) -> None:
        """Close this process's connections."""
        self._client.connection_pool.disconnect()

    def _ask(self, verb: str, charges: Sequence[Charge]) -> tuple[Usage, ...]:
        if not charges:
            return ()
        now = "" if self._clock is None else microseconds(self._clock())
        keys: list[str] = []
        arguments: list[str | bytes | int] = [verb, now, self._remember]
        for charge in charges:
            keys += _keys(charge.key)
            arguments += _arguments(charge)
        try:
            answer = self._run(len(keys), *keys, *arguments)
        except (redis.RedisError, OSError) as error:
            raise StoreError(f"Redis: {escape(str(error))}") from error
        return _usages(charges, answer)

    def _run(self, keys: int, *arguments: str | bytes | int) -> object:
        try:
            return self._client.evalsha(SCRIPT_SHA, keys, *arguments)
        except redis.exceptions.NoScriptError:  # a Redis that was started since, or never saw it
            return self._client.eval(SCRIPT, keys, *arguments)


def _open_pool(url: str, timeout_seconds: float) -> redis.ConnectionPool:
    pool = redis.BlockingConnectionPool.from_url(
        url,
        max_connections=MAX_CONNECTIONS,
        timeout=timeout_seconds,
        socket_timeout=timeout_seconds,
        socket_connect_timeout=timeout_seconds,
        retry=Retry(NoBackoff(), 0),
        protocol=2,  # integers are all that comes back
    )
    pool.connection_class(**pool.connection_kwargs)  # finds what is wrong in the URL's options now
    return pool


def _keys(key: bytes) -> tuple[str, str]:
    """Where a counter and its marks lie. The braces put both into one slot of a cluster."""
    name = key.hex()
    return f"mailreeve:l:{{{name}}}", f"mailreeve:m:{{{name}}}"


def _arguments(charge: Charge) -> tuple[str | bytes | int, ...]:
    if charge.amount < 0:
        raise ValueError(f"an amount of {charge.amount}")
    distinct = charge.limit.unit is Unit.DISTINCT
    if distinct and charge.member is None:
        raise ValueError(f"rule {charge.rule}: a distinct limit without a member")
    return (
        "distinct" if distinct else "units",
        charge.amount,
        min(charge.limit.maximum, MAX_UNITS),
        period_seconds(charge.limit),
        charge.member or b"",
        charge.mark or b"",
        int(charge.refuses),
    )


def _usages(charges: Sequence[Charge], answer: object) -> tuple[Usage, ...]:
    if not isinstance(answer, list) or len(answer) != 2 + ANSWERS * len(charges):
        raise StoreError("Redis: an answer that limits.lua does not give")
    seconds, micros, *fields = (int(number) for number in answer)
    now = seconds * MICROSECONDS + micros
    return tuple(
        _usage(charge, now, *fields[at : at + ANSWERS])
        for charge, at in zip(charges, range(0, len(fields), ANSWERS), strict=True)
    )


def _usage(charge: Charge, now: int, used: int, exceeded: int, leaves: int, added: int) -> Usage:
    retry_after = None
    if exceeded and leaves != NEVER:
        retry_after = timedelta(microseconds=_free_at(charge, leaves) - now)
    return Usage(used, charge.limit.maximum, bool(exceeded), retry_after, added=added)


def _free_at(charge: Charge, leaves: int) -> int:
    """The first moment at which a bucket, or a member last seen at a moment, is out of the window."""
    period = period_seconds(charge.limit)
    if charge.limit.unit is Unit.DISTINCT:
        return leaves + period * MICROSECONDS + 1
    return leaves_at(leaves, period)
