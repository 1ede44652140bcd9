"""Orders in this process's memory: for tests, and for what asks nobody. Knows no store."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence

from mailreeve_policyd.errors import StoreError
from mailreeve_policyd.limits_admin import MAX_NEAR, MAX_ORDERS, Book, Near, Order


class MemoryBook:
    """An OrderBook in memory. `clock` gives seconds since the epoch."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._changes = 0
        self._orders: dict[str, Order] = {}
        self._near: dict[str, dict[bytes, Near]] = {}

    def read(self, known: str | None) -> Book | None:
        """OrderBook.read."""
        with self._lock:
            version = str(self._changes) if self._changes else None
            return None if known == version else Book(version, tuple(self._orders.values()))

    def put(self, order: Order) -> None:
        """OrderBook.put."""
        with self._lock:
            now = self._clock()
            self._orders = {name: each for name, each in self._orders.items() if not each.has_ended(now)}
            check_room(len(self._orders.keys() - {order.name}))
            self._orders[order.name] = order
            self._changes += 1

    def remove(self, names: Sequence[str]) -> None:
        """OrderBook.remove."""
        with self._lock:
            for name in names:
                self._orders.pop(name, None)
            self._changes += 1

    def note(self, counters: Sequence[Near]) -> None:
        """OrderBook.note."""
        with self._lock:
            for counter in counters:
                self._near.setdefault(counter.rule, {})[counter.key] = counter
            for rule in {counter.rule for counter in counters}:
                self._near[rule] = {each.key: each for each in self._living(rule)[-MAX_NEAR:]}

    def near(self, rules: Iterable[str]) -> list[Near]:
        """OrderBook.near."""
        with self._lock:
            return [each for rule in rules for each in self._living(rule)]

    def close(self) -> None:
        """OrderBook.close."""

    def _living(self, rule: str) -> list[Near]:
        now = self._clock()
        living = [each for each in self._near.get(rule, {}).values() if each.ends > now]
        return sorted(living, key=lambda each: each.ends)


def check_room(others: int) -> None:
    """Is there room for one order more beside so many others?

    Raises:
        StoreError: there is none.
    """
    if others >= MAX_ORDERS:
        raise StoreError(f"there are {MAX_ORDERS} orders already: a set or table file takes more keys")
