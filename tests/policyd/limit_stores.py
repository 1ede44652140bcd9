"""The limit stores under test, a clock that stands still until told, and the exact ledger beside them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import count
from logging import getLogger

from mailreeve_policyd.limits import (
    Charge,
    Limit,
    LimitStore,
    OnUnavailable,
    Unit,
    Usage,
    limit_key,
    member_hash,
)
from mailreeve_policyd.limits_outage import Retries, ThreadRetries
from mailreeve_policyd.limits_redis import OneServer
from mailreeve_policyd.limits_redis_cluster import ClusterStore
from mailreeve_policyd.limits_redis_nodes import Nodes
from mailreeve_policyd.redis_access import RedisAccess, RedisUrl
from tests.lab.ports import LOOPBACK
from tests.lab.redis import Cluster
from tests.lab.tree import REPOSITORY

SECOND = 1_000_000
"""Microseconds, the resolution of every store."""

SIXTIETHS_COUNTED = 61
"""Promise 2: strict by at most one sixtieth of the period."""

_example = count()


class HandClock:
    """Seconds since the epoch that pass only by `advance`."""

    def __init__(self) -> None:
        self.now = 1_700_000_000 * SECOND + 123_457  # on no bucket's edge

    def __call__(self) -> float:
        return self.now / SECOND

    def advance(self, time: timedelta | int) -> None:
        """By a time, or by microseconds; either may be negative."""
        self.now += time // timedelta(microseconds=1) if isinstance(time, timedelta) else time


class HandRetries:
    """Tries that are made by `pass_time` alone (limits_outage.Retries)."""

    def __init__(self) -> None:
        self.wait: float | None = None
        self._attempt: Callable[[], float | None] = lambda: None

    def begin(self, attempt: Callable[[], float | None], seconds: float) -> None:
        """Have it tried after so many seconds of `pass_time`."""
        self._attempt, self.wait = attempt, seconds

    def end(self) -> None:
        """Try no more."""
        self.wait = None

    def pass_time(self, seconds: float) -> None:
        """Try as often as it is due in these seconds."""
        while self.wait is not None and self.wait <= seconds:
            seconds -= self.wait
            self.wait = self._attempt()
        if self.wait is not None:
            self.wait -= seconds


def documented_acl() -> str:
    """The line of docs/limits.md that makes the user of the limits."""
    page = (REPOSITORY / "docs" / "limits.md").read_text()
    (line,) = (line.strip() for line in page.splitlines() if line.strip().startswith("ACL SETUSER"))
    return line


def open_cluster(
    cluster: Cluster,
    local: LimitStore,
    clock: Callable[[], float] | None,
    mode: OnUnavailable = OnUnavailable.LOCAL,
    *,
    retries: Callable[[], Retries] = ThreadRetries,
    username: str | None = None,
    password: str | None = None,
) -> ClusterStore:
    """A store on the cluster."""
    seeds = [(LOOPBACK, server.port) for server in cluster.masters]
    access = RedisAccess(RedisUrl("", username=username, password=password), 10)
    nodes = Nodes(seeds, lambda address: OneServer(access.at(address).open()))
    return ClusterStore(nodes, local, mode, getLogger("tests.cluster"), clock, retries=retries)


def fresh_key(rule: str, limit: Limit) -> bytes:
    """A key that nothing was ever counted under, in whichever store."""
    return limit_key(rule, limit, [str(next(_example))])


def messages(maximum: int, seconds: int = 60) -> Limit:
    """A limit of messages."""
    return Limit(maximum, Unit.MESSAGES, timedelta(seconds=seconds))


def distinct(maximum: int, seconds: int = 60) -> Limit:
    """A limit of distinct values."""
    return Limit(maximum, Unit.DISTINCT, timedelta(seconds=seconds))


def charge_of(
    limit: Limit,
    key: bytes | None = None,
    amount: int = 1,
    *,
    value: str | None = None,
    mark: str | None = None,
    refuses: bool = True,
    on_unavailable: OnUnavailable | None = None,
) -> Charge:
    """A charge, under a key of its own unless one is given."""
    return Charge(
        rule="rule",
        key=fresh_key("rule", limit) if key is None else key,
        limit=limit,
        amount=amount,
        member=None if value is None else member_hash(value),
        mark=None if mark is None else member_hash(mark),
        refuses=refuses,
        on_unavailable=on_unavailable,
    )


@dataclass
class Ledger:
    """All that was let through, exactly, and what the promises make of it."""

    remember: int
    entries: dict[bytes, list[tuple[int, int, bytes | None]]] = field(default_factory=dict)
    marks: dict[tuple[bytes, bytes], int] = field(default_factory=dict)

    def check(self, charges: Sequence[Charge], usages: Sequence[Usage], now: int) -> None:
        """That the answers keep promises 1 to 4 and 7; then they are entered."""
        refused = any(
            usage.exceeded and charge.refuses for charge, usage in zip(charges, usages, strict=True)
        )
        taken: list[Charge] = []
        for charge, usage in zip(charges, usages, strict=True):
            assert usage.maximum == charge.limit.maximum
            if self._is_marked(charge, now, taken):
                assert not usage.exceeded
            elif usage.exceeded:
                self._check_exceeded(charge, usage, now, taken)
            else:
                assert self._units(charge, now, _period(charge), taken) <= charge.limit.maximum
                taken.append(charge)
        if not refused:
            self._enter(taken, now)
        for charge, usage in zip(charges, usages, strict=True):
            held = [self._held(charge.key, now, span) for span in (_period(charge), _strict_period(charge))]
            assert held[0] <= usage.used <= held[1]

    def _check_exceeded(self, charge: Charge, usage: Usage, now: int, taken: list[Charge]) -> None:
        assert self._units(charge, now, _strict_period(charge), taken) > charge.limit.maximum
        asked = self._asked(charge, taken)
        if usage.retry_after is None:
            assert asked > charge.limit.maximum
            return
        assert asked <= charge.limit.maximum
        then = now + usage.retry_after // timedelta(microseconds=1)
        assert then > now
        assert self._units(charge, then, _period(charge), taken) <= charge.limit.maximum
        assert self._units(charge, then - 1, _strict_period(charge), taken) > charge.limit.maximum

    def _is_marked(self, charge: Charge, now: int, taken: list[Charge]) -> bool:
        if charge.mark is None:
            return False
        if any((other.key, other.mark) == (charge.key, charge.mark) for other in taken):
            return True
        at = self.marks.get((charge.key, charge.mark))
        return at is not None and now < at + self.remember

    def _units(self, charge: Charge, now: int, span: int, taken: list[Charge]) -> int:
        """What the window of that span would hold with the charge and those taken before it."""
        same = [other for other in taken if other.key == charge.key]
        if charge.limit.unit is Unit.DISTINCT:
            new = {other.member for other in [*same, charge]}
            return len({member for _, _, member in self._window(charge.key, now, span)} | new)
        return self._held(charge.key, now, span) + sum(other.amount for other in [*same, charge])

    def _asked(self, charge: Charge, taken: list[Charge]) -> int:
        same = [charge, *(other for other in taken if other.key == charge.key)]
        if charge.limit.unit is Unit.DISTINCT:
            return len({other.member for other in same})
        return sum(other.amount for other in same)

    def _held(self, key: bytes, now: int, span: int) -> int:
        window = self._window(key, now, span)
        if window and window[0][2] is not None:
            return len({member for _, _, member in window})
        return sum(amount for _, amount, _ in window)

    def _window(self, key: bytes, now: int, span: int) -> list[tuple[int, int, bytes | None]]:
        return [entry for entry in self.entries.get(key, []) if entry[0] >= now - span]

    def _enter(self, taken: list[Charge], now: int) -> None:
        for charge in taken:
            self.entries.setdefault(charge.key, []).append((now, charge.amount, charge.member))
            if charge.mark is not None:
                self.marks[charge.key, charge.mark] = now


def _period(charge: Charge) -> int:
    return charge.limit.period // timedelta(microseconds=1)


def _strict_period(charge: Charge) -> int:
    return _period(charge) * SIXTIETHS_COUNTED // 60
