"""A limit store that does what the administrator orders, and remembers who is near a maximum.

Knows orders, not where they lie. Orders are as of at most two seconds ago (DESIGN.md section 5, promise 6);
while they cannot be read, those hold that are known. Charging never waits for a label to be written.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

from msgspec.structs import replace

from mailreeve_policyd.errors import StoreError
from mailreeve_policyd.limits import Charge, Charged, Usage
from mailreeve_policyd.limits_admin import NO_ORDERS, Book, Near, OrderBook, Orders, in_force, near_of
from mailreeve_policyd.limits_outage import Circuit, Outage, Retries, WatchedStore
from mailreeve_policyd.limits_window import period_seconds

REFRESH_SECONDS = 1.0
"""After that whoever comes first reads the orders again; the others go on with what they have."""

STALE_SECONDS = 2.0
"""After that all wait for it."""

MAX_NOTED = 10_000
"""Counters that a process knows to be written down as near: about two megabytes."""

NOTE_AGAIN_SECONDS = 600.0
"""A counter that stays near is written down this often, or twice a period if that is more often."""

MAX_WAITING = 10_000
"""Counters that wait to be written down; more are not, and come again with their next charge."""

BATCH = 500
GATHER_SECONDS = 0.05
"""What comes in so long is written together."""

CLOSE_SECONDS = 1.0
"""How long the end of a process waits for what is to be written."""


class ObeyingStore:
    """A WatchedStore that charges `store` as the orders in `book` say.

    A blocked key: nothing of the call is counted, and its answer is exceeded and `blocked`. `clock` gives
    seconds since the epoch, `monotonic` seconds that only grow.
    """

    def __init__(
        self,
        store: WatchedStore,
        book: OrderBook,
        log: logging.Logger,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        *,
        retries: Retries | None = None,
    ) -> None:
        self._store = store
        self._book = book
        self._orders = _CurrentOrders(store, book, log, clock, monotonic, retries)
        self._nearness = _Nearness(book, log, clock, monotonic)

    @property
    def outage(self) -> Outage:
        """See WatchedStore."""
        return self._store.outage

    def charge(self, charges: Sequence[Charge]) -> tuple[Usage, ...]:
        """LimitStore.charge, as ordered."""
        orders = self._orders.current()
        if orders is NO_ORDERS:
            usages = self._store.charge(charges)
        elif _is_blocked(charges, orders):
            return self._refuse(charges, orders)
        else:
            charges = [orders.applied(each) for each in charges]
            usages = self._store.charge(charges)
        self._nearness.look(charges, usages)
        return usages

    def charge_each(self, calls: Sequence[Sequence[Charge]]) -> Sequence[Charged]:
        """LimitStore.charge_each, as ordered."""
        orders = self._orders.current()
        if orders is NO_ORDERS:
            answers = self._store.charge_each(calls)
        else:
            calls, answers = self._charge_each(calls, orders)
        for charges, answer in zip(calls, answers, strict=True):
            if isinstance(answer, tuple):
                self._nearness.look(charges, answer)
        return answers

    def usage(self, charges: Sequence[Charge]) -> tuple[Usage, ...]:
        """LimitStore.usage, as ordered."""
        orders = self._orders.current()
        if orders is NO_ORDERS:
            return self._store.usage(charges)
        if _is_blocked(charges, orders):
            return self._refuse(charges, orders)
        return self._store.usage([orders.applied(each) for each in charges])

    def flush(self) -> None:
        """Have written down who is near, in CLOSE_SECONDS at most."""
        self._nearness.flush()

    def close(self) -> None:
        """Write what is to be written, and close both."""
        self.flush()
        self._orders.close()
        self._book.close()
        self._store.close()

    def _charge_each(
        self, calls: Sequence[Sequence[Charge]], orders: Orders
    ) -> tuple[list[Sequence[Charge]], list[Charged]]:
        """The calls as they are made, and their answers."""
        made = [[orders.applied(each) for each in charges] for charges in calls]
        blocked = [_is_blocked(charges, orders) for charges in calls]
        passing = [charges for charges, is_blocked in zip(made, blocked, strict=True) if not is_blocked]
        charged = iter(self._store.charge_each(passing))
        answers = [
            self._refuse(charges, orders) if is_blocked else next(charged)
            for charges, is_blocked in zip(made, blocked, strict=True)
        ]
        return list(made), answers

    def _refuse(self, charges: Sequence[Charge], orders: Orders) -> tuple[Usage, ...]:
        """What is blocked stays so while the store is away."""
        charges = [orders.applied(each) for each in charges]
        try:
            usages = self._store.usage(charges)
        except StoreError:
            usages = tuple(Usage(0, each.limit.maximum, exceeded=False, degraded=True) for each in charges)
        return tuple(
            replace(one, used=one.used - one.added, added=0, exceeded=True, retry_after=None, blocked=True)
            if orders.blocks_key(each)
            else replace(one, used=one.used - one.added, added=0)
            for each, one in zip(charges, usages, strict=True)
        )


def _is_blocked(charges: Sequence[Charge], orders: Orders) -> bool:
    return bool(orders.blocks) and any(orders.blocks_key(each) for each in charges)


class _CurrentOrders:
    """The orders as of at most STALE_SECONDS ago, or as they were when they could last be read."""

    def __init__(
        self,
        store: WatchedStore,
        book: OrderBook,
        log: logging.Logger,
        clock: Callable[[], float],
        monotonic: Callable[[], float],
        retries: Retries | None,
    ) -> None:
        self._store = store
        self._source = book
        self._clock = clock
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._book = Book()
        self._orders = NO_ORDERS
        self._read_at: float | None = None
        self._circuit = Circuit(
            "what the administrator ordered (overrides, blocks)",
            "what is known of it holds",
            self._read,
            log,
            retries=retries,
            clock=monotonic,
        )

    def current(self) -> Orders:
        if self._read_at is None or self._monotonic() - self._read_at >= REFRESH_SECONDS:
            self._refresh()
        return self._orders

    def close(self) -> None:
        self._circuit.close()

    def _refresh(self) -> None:
        if self._circuit.is_away:
            self._choose()
        elif self._store.outage.is_away:  # no request waits for what will hardly answer
            self._choose()
            if not self._lock.locked():
                threading.Thread(target=self._read_in_turn, name="orders", daemon=True).start()
        else:
            self._read_in_turn()

    def _read_in_turn(self) -> None:
        if not self._lock.acquire(blocking=self._age() >= STALE_SECONDS):
            return
        try:
            if self._age() >= REFRESH_SECONDS and not self._circuit.is_away:
                self._read()
        except StoreError as error:
            self._circuit.went(error)
        finally:
            self._lock.release()
        self._choose()

    def _age(self) -> float:
        return STALE_SECONDS if self._read_at is None else self._monotonic() - self._read_at

    def _read(self) -> None:
        asked_at = self._monotonic()  # an answer is as old as its question
        found = self._source.read(self._book.version)
        if found is not None:
            self._book = found
            self._orders = in_force(found, self._clock())
        self._read_at = asked_at

    def _choose(self) -> None:
        """Drop what has ended."""
        ends = self._orders.ends
        if ends is not None and ends <= self._clock():
            self._orders = in_force(self._book, self._clock())


class _Nearness:
    """Who is near a maximum: looked at with each answer, written down beside the charging."""

    def __init__(
        self,
        book: OrderBook,
        log: logging.Logger,
        clock: Callable[[], float],
        monotonic: Callable[[], float],
    ) -> None:
        self._book = book
        self._log = log
        self._clock = clock
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._noted: dict[bytes, float] = {}
        self._waiting: deque[Near] = deque()
        self._thread: threading.Thread | None = None
        self._hurry = threading.Event()

    def look(self, charges: Sequence[Charge], usages: Sequence[Usage]) -> None:
        for each, one in zip(charges, usages, strict=True):
            if 2 * one.used >= one.maximum and each.per and not one.degraded:
                self._near(each)

    def flush(self) -> None:
        self._hurry.set()
        with self._lock:
            thread = self._thread
        if thread is not None:
            thread.join(CLOSE_SECONDS)
        self._hurry.clear()

    def _near(self, each: Charge) -> None:
        now = self._monotonic()
        if now < self._noted.get(each.key, 0.0):
            return
        period = period_seconds(each.limit)
        with self._lock:
            self._noted.pop(each.key, None)
            self._noted[each.key] = now + min(period / 2, NOTE_AGAIN_SECONDS)
            if len(self._noted) > MAX_NOTED:
                del self._noted[next(iter(self._noted))]
            if len(self._waiting) >= MAX_WAITING:
                return
            # what is counted at the last moment before it is written again leaves a period later
            self._waiting.append(near_of(each, each.limit, self._clock() + 1.6 * period + 1))
            if self._thread is None:
                self._thread = threading.Thread(target=self._write, name="near a limit", daemon=True)
                self._thread.start()

    def _write(self) -> None:
        while True:
            self._hurry.wait(GATHER_SECONDS)
            with self._lock:
                batch = [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]
                if not batch:
                    self._thread = None
                    return
            try:
                self._book.note(batch)
            except StoreError as error:
                self._log.debug("who is near a limit was not written down: %s", error)
