"""What an administrator says of keys while mail flows: orders, and the keys that are near their maximum.

An order is an override (another maximum under one key) or a block (all mail that is counted by a key is
rejected). Knows what they are, how they are written and the port of where they lie; no store, no rules.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from hashlib import blake2b
from typing import Protocol, TypeVar

import msgspec
from msgspec.structs import replace

from mailreeve_policyd.errors import StoreError
from mailreeve_policyd.escape import escape
from mailreeve_policyd.limits import Charge, Limit

MAX_ORDERS = 10_000
"""Each process holds all of them, in some five megabytes then: whole lists of keys belong into a table."""

MAX_NEAR = 10_000
"""Keys of one rule that are remembered as near their maximum: beyond that those go that end soonest. Who has
many addresses makes as many as he likes."""

MAX_LABEL = 100
"""Characters of each value of a key near its maximum, for people."""

MAX_REASON = 200
MAX_KEY = 320
"""Characters of one value: the longest address (RFC 5321 section 4.5.3.1)."""


class OrderKind(Enum):
    """What is ordered."""

    BLOCK = "block"
    OVERRIDE = "override"


class Order(msgspec.Struct, frozen=True, omit_defaults=True):
    """One order. `per` are facts, `values` theirs as charges have them (Charge.per, Charge.values).

    An override is of one counter: `rule`, its `key` (hex) and the `maximum` that holds instead. `until` and
    `at` are seconds since the epoch; None: until it is taken back. `by` is who gave it.
    """

    kind: OrderKind
    per: tuple[str, ...]
    values: tuple[str, ...]
    by: str
    at: float
    reason: str = ""
    until: float | None = None
    rule: str | None = None
    key: str | None = None
    maximum: int | None = None
    counts: str | None = None
    """What the counter of an override counts, for people: `recipients/day`."""

    @property
    def name(self) -> str:
        """Under which it lies: another order about the same replaces it."""
        words = (self.kind.value, self.key or "", *self.per, *self.values)
        framed = "".join(f"{len(word)}:{word}" for word in words)
        return blake2b(framed.encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()

    def has_ended(self, now: float) -> bool:
        """Is its time over?"""
        return self.until is not None and self.until <= now


class Near(msgspec.Struct, frozen=True):
    """A counter that holds half of its maximum or more, for people: who, and how to ask for it.

    `values` are escaped and cut. `ends` (seconds since the epoch) is when it is forgotten.
    """

    rule: str
    per: tuple[str, ...]
    values: tuple[str, ...]
    key: bytes
    limit: Limit
    ends: float


def near_of(charge: Charge, limit: Limit, ends: float) -> Near:
    """The counter of a charge."""
    values = tuple(escape(value, MAX_LABEL) for value in charge.values)
    return Near(charge.rule, charge.per, values, charge.key, limit, ends)


class Book(msgspec.Struct, frozen=True):
    """All orders. `version` differs whenever they differ; None where there never were any."""

    version: str | None = None
    orders: tuple[Order, ...] = ()


class OrderBook(Protocol):
    """Where orders lie, for all who share the limit store. Safe from any thread.

    Raises:
        StoreError: it is away; what was to be written may have been written.
    """

    def read(self, known: str | None) -> Book | None:
        """The orders, those among them that have ended; None if `known` is their version still."""

    def put(self, order: Order) -> None:
        """Write an order, in the place of the one of its name."""

    def remove(self, names: Sequence[str]) -> None:
        """Take orders back; those that are not there do not matter."""

    def note(self, counters: Sequence[Near]) -> None:
        """Remember counters as near their maximum, at most MAX_NEAR of a rule."""

    def near(self, rules: Iterable[str]) -> list[Near]:
        """Those of these rules that have not ended; of one counter the one that ends last."""

    def close(self) -> None:
        """Give the connections back. It is not used again."""


@dataclass(frozen=True, slots=True)
class Orders:
    """The orders that hold, as charges meet them. `ends` is when the first of them ends."""

    blocks: frozenset[tuple[tuple[str, ...], tuple[str, ...]]] = frozenset()
    maxima: Mapping[bytes, int] = field(default_factory=dict)
    ends: float | None = None

    def blocks_key(self, charge: Charge) -> bool:
        """Is the key of a charge blocked? Those of rules under `observe` never are."""
        return not charge.observed and (charge.per, charge.values) in self.blocks

    def applied(self, charge: Charge) -> Charge:
        """The charge with the maximum that holds for its key."""
        maximum = self.maxima.get(charge.key)
        if maximum is None:
            return charge
        return replace(charge, limit=replace(charge.limit, maximum=maximum))

    @property
    def is_empty(self) -> bool:
        """Is nothing ordered?"""
        return not self.blocks and not self.maxima


NO_ORDERS = Orders()


def in_force(book: Book, now: float) -> Orders:
    """What of a book holds at a moment."""
    holding = [order for order in book.orders if not order.has_ended(now)]
    if not holding:
        return NO_ORDERS
    blocks = {(order.per, order.values) for order in holding if order.kind is OrderKind.BLOCK}
    maxima = {
        bytes.fromhex(order.key): order.maximum
        for order in holding
        if order.key is not None and order.maximum is not None
    }
    ends = min((order.until for order in holding if order.until is not None), default=None)
    return Orders(frozenset(blocks), maxima, ends)


# How they are written

_encode = msgspec.json.Encoder().encode
_order = msgspec.json.Decoder(Order)
_near = msgspec.json.Decoder(Near)

WrittenT = TypeVar("WrittenT")


def format_order(order: Order) -> bytes:
    """As JSON."""
    return _encode(order)


def parse_order(written: bytes) -> Order:
    """What `format_order` wrote. Raises StoreError: it is none."""
    return _parsed(_order, written)


def format_near(counter: Near) -> bytes:
    """As JSON."""
    return _encode(counter)


def parse_near(written: bytes) -> Near:
    """What `format_near` wrote. Raises StoreError: it is none."""
    return _parsed(_near, written)


def _parsed(decoder: msgspec.json.Decoder[WrittenT], written: bytes) -> WrittenT:
    try:
        return decoder.decode(written)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise StoreError(f"what lies among the orders is none: {escape(str(error))}") from error
