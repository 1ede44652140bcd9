"""Orders in Redis or Valkey, for all machines: a hash of orders, and sorted sets of who is near, by rule.

Each command touches one key and may be sent twice, so that no script is needed and a Cluster is as good as
one server. Knows these commands; loaded only where Redis counts.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from secrets import token_hex

from mailreeve_policyd.errors import StoreError
from mailreeve_policyd.limits_admin import (
    MAX_NEAR,
    Book,
    Near,
    Order,
    OrderBook,
    format_near,
    format_order,
    parse_near,
    parse_order,
)
from mailreeve_policyd.limits_admin_memory import check_room
from mailreeve_policyd.limits_redis_script import key_names
from mailreeve_policyd.live_redis import Reading

ORDERS = b"mailreeve:orders"
NEAR_PREFIX = "mailreeve:near:"

VERSION = b"version"
"""The field of the hash that changes with every other; no order has a name of so few letters."""

KEYS_AT_ONCE = 100
"""Of ZADD: an answer in a millisecond, for which others wait."""


class RedisBook(OrderBook):
    """An OrderBook in Redis. Threads and forks may share it; `clock` gives seconds since the epoch."""

    def __init__(
        self, ask: Reading, close: Callable[[], None], clock: Callable[[], float] = time.time
    ) -> None:
        self._ask = ask
        self._close = close
        self._clock = clock

    def read(self, known: str | None) -> Book | None:
        """OrderBook.read: one round trip, two where something changed."""
        if _text(self._ask(ORDERS, "HGET", VERSION)) == known:
            return None
        fields = _pairs(self._ask(ORDERS, "HGETALL"))
        orders = [
            parse_order(written) for name, written in sorted(fields.items()) if name != VERSION and written
        ]
        return Book(_text(fields.get(VERSION)), tuple(orders))

    def put(self, order: Order) -> None:
        """OrderBook.put: the order and the version in one step."""
        found = self.read("") or Book()
        now = self._clock()
        ended = [each.name for each in found.orders if each.has_ended(now) and each.name != order.name]
        check_room(sum(each.name not in ended and each.name != order.name for each in found.orders))
        self._ask(ORDERS, "HSET", order.name.encode(), format_order(order), VERSION, _new_version())
        self._drop(ended)

    def remove(self, names: Sequence[str]) -> None:
        """OrderBook.remove: first nothing in their place, with the version; then they are dropped."""
        emptied = [part for name in names for part in (name.encode(), b"")]
        self._ask(ORDERS, "HSET", *emptied, VERSION, _new_version())
        self._drop(names)

    def note(self, counters: Sequence[Near]) -> None:
        """OrderBook.note. A counter whose maximum has changed may be there twice, until one of them ends."""
        by_rule: dict[str, list[Near]] = {}
        for each in counters:
            by_rule.setdefault(each.rule, []).append(each)
        for rule, some in by_rule.items():
            for at in range(0, len(some), KEYS_AT_ONCE):
                self._note(_near_key(rule), some[at : at + KEYS_AT_ONCE])

    def near(self, rules: Iterable[str]) -> list[Near]:
        """OrderBook.near."""
        return [each for rule in rules for each in self._near(rule)]

    def close(self) -> None:
        """OrderBook.close."""
        self._close()

    def _drop(self, names: Sequence[str]) -> None:
        if names:
            self._ask(ORDERS, "HDEL", *[name.encode() for name in names])

    def _note(self, key: bytes, counters: Sequence[Near]) -> None:
        scored = [part for each in counters for part in (_number(each.ends), _member(each))]
        self._ask(key, "ZADD", *scored)
        self._ask(key, "ZREMRANGEBYSCORE", b"-inf", _number(self._clock()))
        self._ask(key, "ZREMRANGEBYRANK", b"0", str(-MAX_NEAR - 1).encode())
        last = self._ask(key, "ZRANGE", b"-1", b"-1", b"WITHSCORES")
        if isinstance(last, list) and len(last) == 2:
            ends = float(last[1])
            self._ask(key, "PEXPIRE", str(max(1, round((ends - self._clock()) * 1000))).encode())

    def _near(self, rule: str) -> list[Near]:
        told = self._ask(_near_key(rule), "ZRANGE", b"0", b"-1", b"WITHSCORES")
        scored = _pairs(told)
        now, found = self._clock(), dict[bytes, Near]()
        for member, score in scored.items():
            each, ends = parse_near(member), float(score)
            if ends > now:
                found.pop(each.key, None)
                found[each.key] = Near(each.rule, each.per, each.values, each.key, each.limit, ends)
        return list(found.values())


def forget_in_redis(ask: Reading, keys: Iterable[bytes]) -> None:
    """Drop these counters. What was marked as counted stays so.

    Raises:
        StoreError: Redis is away; some may be gone.
    """
    for key in keys:
        counter, _ = key_names(key)
        ask(counter.encode(), "DEL")


def _near_key(rule: str) -> bytes:
    return (NEAR_PREFIX + rule).encode()


def _member(counter: Near) -> bytes:
    """The same for one counter whenever it is written: when it ends is the score."""
    return format_near(Near(counter.rule, counter.per, counter.values, counter.key, counter.limit, 0.0))


def _number(seconds: float) -> bytes:
    return f"{seconds:.3f}".encode()


def _new_version() -> bytes:
    return token_hex(8).encode()


def _text(value: object) -> str | None:
    return value.decode("ascii", "replace") if isinstance(value, bytes) else None


def _pairs(told: object) -> dict[bytes, bytes]:
    """HGETALL and ZRANGE WITHSCORES, whichever way redis-py gives them."""
    if isinstance(told, dict):
        return {bytes(key): bytes(value) for key, value in told.items()}
    if isinstance(told, list) and told and isinstance(told[0], tuple):
        return {member: str(score).encode() for member, score in told}
    if isinstance(told, list) and not len(told) % 2:
        return dict(zip(told[::2], told[1::2], strict=True))
    raise StoreError("Redis: an answer that these commands do not give")
