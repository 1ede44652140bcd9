"""Limits: what is counted, what a store must promise (DESIGN.md section 5), and the keys it counts under.

Knows no rules language and no store.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta
from enum import Enum
from functools import lru_cache
from hashlib import blake2b
from typing import Protocol

import msgspec

from mailreeve_policyd.errors import StoreError

BUCKETS_PER_PERIOD = 60
"""A period is counted in sixtieths: promise 2 allows one sixtieth of a period of strictness more."""

MAX_DISTINCT = 10_000
"""`distinct` is exact and keeps a hash for each value, so its maximum is bounded (promise 5)."""

MIN_PERIOD = timedelta(seconds=1)
MAX_PERIOD = timedelta(days=31)


KEY_OCTETS = 16
SUBJECT_OCTETS = 8

MARK_OCTETS = 8

REMEMBERED_KEYS = 8192
"""Keys that were made lately: those of some thousand busy logins, in about two megabytes."""

REMEMBERED_MEMBERS = 256
"""Values that were hashed lately: several limits mark one request alike."""


class Unit(Enum):
    """What a limit counts."""

    MESSAGES = "messages"
    RECIPIENTS = "recipients"
    BYTES = "bytes"
    DISTINCT = "distinct"

    __hash__ = object.__hash__  # as Stage's


class OnUnavailable(Enum):
    """What a limit does while its store is away."""

    LOCAL = "local"
    """The store of this machine counts meanwhile."""
    OPEN = "open"
    """It counts nothing and is not exceeded."""
    CLOSED = "closed"
    """What it applies to is deferred."""


class Limit(msgspec.Struct, frozen=True, gc=False):
    """At most `maximum` units in any window of `period` (whole seconds, 1 s to 31 days)."""

    maximum: int
    unit: Unit
    period: timedelta


class Charge(msgspec.Struct, frozen=True, gc=False):  # as the values of transaction.py
    """One limit that applies to a transaction.

    `key` comes from `limit_key`; two limits never share one. `amount` is in the limit's unit (for
    distinct: 1, with the value's `member_hash` in `member`). `mark` is the `member_hash` of what must be
    counted only once under this key (a message's instance, or instance and recipient); None: always counted.
    `refuses` says whether exceeding it refuses the mail: one that lets mail in (hold, discard, warn,
    observe) is not charged when exceeded, but stops nobody else's charge. `on_unavailable` is for while the
    store is away; None: what the configuration says. `per` names the facts that are counted by and `values`
    has theirs in the form in which they compare, for what an administrator says of a key; they are empty
    where nobody can say anything. `observed`: its rule is under `observe`, and a block does not touch it.
    """

    rule: str
    key: bytes
    limit: Limit
    amount: int
    member: bytes | None = None
    mark: bytes | None = None
    refuses: bool = True
    on_unavailable: OnUnavailable | None = None
    per: tuple[str, ...] = ()
    values: tuple[str, ...] = ()
    observed: bool = False


class Usage(msgspec.Struct, frozen=True, gc=False, eq=False):
    """A store's answer to one charge.

    `used` is what the window holds after this call. `retry_after` is None unless `exceeded`: how long
    until this amount could be let through if nothing else is; None also if it never can be (the amount
    alone is more than the maximum). `added` is what of `used` this call added: of all calls exactly one
    takes a counter from below a mark to it or above. `blocked`: an administrator has blocked the key, and
    the mail is rejected whatever the limit does otherwise; nothing was counted. Answers of the same
    standing are equal whoever brought it about.
    """

    used: int
    maximum: int
    exceeded: bool
    retry_after: timedelta | None = None
    degraded: bool = False
    added: int = 0
    blocked: bool = False

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Usage):
            return NotImplemented
        return self._standing() == other._standing()

    def __hash__(self) -> int:
        return hash(self._standing())

    def _standing(self) -> tuple[object, ...]:
        return self.used, self.maximum, self.exceeded, self.retry_after, self.degraded, self.blocked

    def has_reached(self, mark: int) -> bool:
        """Did this call take the counter from below `mark` to it or above?"""
        return self.used - self.added < mark <= self.used

    @property
    def can_never_pass(self) -> bool:
        """Is the request larger than the limit by itself? It is rejected, never deferred for ever."""
        return self.exceeded and self.retry_after is None


Charged = tuple[Usage, ...] | StoreError | ValueError
"""The answer to one call of several: what `charge` gives, or raises (ValueError: charges that are none)."""


class LimitStore(Protocol):
    """Where usage is counted. One contract test runs over all stores. Safe from any thread.

    Raises:
        StoreError: the store is away; nothing was charged, or the charge was taken back or expires.
    """

    def charge(self, charges: Sequence[Charge]) -> tuple[Usage, ...]:
        """Charge all or nothing, in one atomic step; answers in the order of `charges`.

        If one that `refuses` is exceeded, nothing is charged, of any limit. Otherwise those that are
        not exceeded are charged. What carries a known mark is not counted again and not exceeded.
        """

    def charge_each(self, calls: Sequence[Sequence[Charge]]) -> Sequence[Charged]:
        """`charge` for each call, in order, for little more than one costs; never raises StoreError.

        Each call is one atomic step that sees what those before it counted. What one could not be
        answered for is its own answer, and no matter of the others.
        """

    def usage(self, charges: Sequence[Charge]) -> tuple[Usage, ...]:
        """What `charge` would answer now, counting nothing and leaving no mark."""

    def close(self) -> None:
        """Give the connections back. The store is not used again."""


def charge_one_by_one(store: LimitStore, calls: Sequence[Sequence[Charge]]) -> list[Charged]:
    """LimitStore.charge_each for a store that gains nothing by several calls at once."""
    return [_charged(store, charges) for charges in calls]


def _charged(store: LimitStore, charges: Sequence[Charge]) -> Charged:
    try:
        return store.charge(charges)
    except (StoreError, ValueError) as error:
        return error


class LimitKeys:
    """The keys of one rule's counters; what they have in common is hashed once."""

    def __init__(self, rule: str) -> None:
        self._rule = rule
        self._begun: dict[tuple[Unit, timedelta], bytes] = {}

    def key(self, limit: Limit, parts: Iterable[str]) -> bytes:
        """`limit_key` of this rule."""
        begun = self._begun.get((limit.unit, limit.period))
        if begun is None:
            begun = self._begin(limit)
        return _key(begun, tuple(parts))

    def _begin(self, limit: Limit) -> bytes:
        period = str(int(limit.period.total_seconds()))
        common = b"".join(map(_framed, (self._rule, limit.unit.value, period)))
        return self._begun.setdefault((limit.unit, limit.period), common)


@lru_cache(maxsize=REMEMBERED_KEYS)
def _key(common: bytes, parts: tuple[str, ...]) -> bytes:
    counted_by = b"".join([_framed(part) for part in parts])
    digest = blake2b(common + counted_by, digest_size=KEY_OCTETS - SUBJECT_OCTETS)
    return blake2b(counted_by, digest_size=SUBJECT_OCTETS).digest() + digest.digest()


def limit_key(rule: str, limit: Limit, parts: Iterable[str]) -> bytes:
    """KEY_OCTETS that name one counter: the rule, what it counts and the values of its key.

    The first SUBJECT_OCTETS are of the values alone: counters of one login lie side by side in a store that
    keeps keys in order, and what a request changes there is one place and not several.

    Values come from the wire: hashed, so that length and content are bounded; each is framed by its
    length, so that two different sequences never meet. A limit whose period or unit was changed
    starts a new counter; a changed maximum keeps it.
    """
    return LimitKeys(rule).key(limit, parts)


def _framed(part: str) -> bytes:
    raw = part.encode("utf-8", "surrogateescape")
    return len(raw).to_bytes(4, "big") + raw


@lru_cache(maxsize=REMEMBERED_MEMBERS)
def member_hash(value: str) -> bytes:
    """8 bytes for one value of a `distinct` limit, or for a mark: 10,000 values collide once in 10^11."""
    return blake2b(value.encode("utf-8", "surrogateescape"), digest_size=MARK_OCTETS).digest()
