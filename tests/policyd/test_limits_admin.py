"""Orders of an administrator over every store: overrides, blocks, resets, and who is near a maximum."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest
from msgspec.structs import replace as changed
from redis.crc import key_slot

from mailreeve_policyd.errors import StoreError
from mailreeve_policyd.limits import Charge, Limit, LimitStore, Unit, Usage, limit_key, member_hash
from mailreeve_policyd.limits_admin import (
    MAX_LABEL,
    Book,
    Near,
    Order,
    OrderBook,
    OrderKind,
    in_force,
    parse_near,
    parse_order,
)
from mailreeve_policyd.limits_admin_memory import MemoryBook
from mailreeve_policyd.limits_admin_redis import RedisBook, forget_in_redis
from mailreeve_policyd.limits_admin_sqlite import SqliteBook
from mailreeve_policyd.limits_admin_store import ObeyingStore
from mailreeve_policyd.limits_memory import MemoryStore
from mailreeve_policyd.limits_outage import Outage
from mailreeve_policyd.limits_redis import OneServer, RedisStore
from mailreeve_policyd.limits_redis_nodes import Nodes
from mailreeve_policyd.limits_sqlite import SqliteStore
from mailreeve_policyd.redis_access import RedisAccess, RedisUrl, parse_redis_url
from tests.lab.ports import LOOPBACK
from tests.lab.redis import Cluster, Redis
from tests.lab.work import work_folder
from tests.policyd.limit_stores import SECOND, HandClock, HandRetries, documented_acl, messages, open_cluster

log = logging.getLogger("tests.orders")


@dataclass(slots=True)
class Watched:
    """A store that is never away."""

    store: LimitStore
    outage: Outage = Outage(is_away=False, outages=0, degraded=0)  # noqa: RUF009 -- it is frozen

    def __getattr__(self, name: str) -> object:
        return getattr(self.store, name)


@dataclass(frozen=True, slots=True)
class Place:
    """One store, its orders as two processes see them, and how counters are dropped."""

    store: LimitStore
    book: OrderBook
    other: OrderBook
    forget: Callable[[Sequence[bytes]], None]
    clock: HandClock
    obeyed: list[ObeyingStore] = field(default_factory=list)

    def obeying(self) -> ObeyingStore:
        """The store of a daemon, whose orders come from the other process."""
        made = ObeyingStore(Watched(self.store), self.other, log, self.clock, self.clock)  # type: ignore[arg-type]
        self.obeyed.append(made)
        return made


def memory(clock: HandClock, request: pytest.FixtureRequest) -> Place:
    """In memory."""
    store, book = MemoryStore(clock), MemoryBook(clock)
    return Place(store, book, book, store.forget, clock)


def sqlite(clock: HandClock, request: pytest.FixtureRequest) -> Place:
    """The embedded store: each process has its own connection to the file of orders."""
    folder: Path = request.getfixturevalue("tmp_path")
    store, path = SqliteStore(folder / "limits.sqlite", clock), folder / "orders.sqlite"
    return Place(store, SqliteBook(path, clock), SqliteBook(path, clock), store.forget, clock)


def redis(clock: HandClock, request: pytest.FixtureRequest) -> Place:
    """One Redis."""
    url = request.getfixturevalue("redis_server").unix_url
    server = OneServer(RedisAccess(parse_redis_url(url), 10).open())
    server.client.flushdb()

    def ask(key: bytes, command: str, *words: bytes) -> object:
        return server.command(command, key, *words)

    book = RedisBook(ask, lambda: None, clock)
    return Place(RedisStore(server, clock), book, book, lambda keys: forget_in_redis(ask, keys), clock)


def cluster(clock: HandClock, request: pytest.FixtureRequest) -> Place:
    """A Redis Cluster."""
    lab: Cluster = request.getfixturevalue("redis_cluster")
    access = RedisAccess(RedisUrl(""), 10)
    nodes = Nodes(
        [(LOOPBACK, server.port) for server in lab.masters],
        lambda address: OneServer(access.at(address).open()),
    )

    def ask(key: bytes, command: str, *words: bytes) -> object:
        return nodes.command(key_slot(key), command, key, *words)

    for key in (b"mailreeve:orders", b"mailreeve:near:burst", b"mailreeve:near:day"):
        ask(key, "DEL")
    store = open_cluster(lab, MemoryStore(clock), clock)
    book = RedisBook(ask, nodes.close, clock)
    return Place(store, book, book, lambda keys: forget_in_redis(ask, keys), clock)


STORES = [
    pytest.param(make, id=make.__name__, marks=marks)
    for makes, marks in (([memory, sqlite], ()), ([redis, cluster], pytest.mark.system))
    for make in makes
]


@pytest.fixture(params=STORES)
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    """Each store in turn, without orders; the counters of `charge_by` are dropped."""
    made: Place = request.param(HandClock(), request)
    made.forget([charge_by(who).key for who in ("bob", "ann")])
    yield made
    for store in made.obeyed:
        store.flush()
    made.book.close()
    made.other.close()
    made.store.close()


def charge_by(who: str = "bob", limit: Limit | None = None, rule: str = "burst", **around: object) -> Charge:
    """One unit of a limit per sasl_username."""
    limit = limit or messages(10)
    made = Charge(rule, limit_key(rule, limit, [who]), limit, 1, per=("sasl_username",), values=(who,))
    return changed(made, **around)


def block(who: str = "bob", until: float | None = None) -> Order:
    """Everything that is counted by a login."""
    return Order(OrderKind.BLOCK, ("sasl_username",), (who,), "root", 0.0, "hacked", until)


def override(maximum: int, charge: Charge, until: float | None = None) -> Order:
    """Another maximum for one counter."""
    return Order(
        OrderKind.OVERRIDE, charge.per, charge.values, "root", 0.0, "newsletter", until,
        charge.rule, charge.key.hex(), maximum, "messages/minute",
    )  # fmt: skip


def one(store: LimitStore, charge: Charge) -> Usage:
    """Charge one limit alone."""
    (usage,) = store.charge([charge])
    return usage


# The book


def test_an_order_is_there_until_it_is_taken_back(place: Place) -> None:
    """Another about the same replaces it; whoever has read it all is told that nothing changed."""
    assert place.other.read(None) is None
    place.book.put(block())
    place.book.put(replace_reason(block(), "again"))

    found = place.other.read(None)

    assert found is not None
    assert [order.reason for order in found.orders] == ["again"]
    assert place.other.read(found.version) is None
    place.book.remove([block().name])
    empty = place.other.read(found.version)
    assert empty is not None
    assert empty.orders == ()


def replace_reason(order: Order, reason: str) -> Order:
    """The same with another reason."""
    return changed(order, reason=reason)


def test_what_has_ended_is_dropped_when_something_is_ordered(place: Place) -> None:
    """The book does not grow with what was ordered once."""
    place.book.put(block("ann", until=place.clock() + 60))
    place.clock.advance(61 * SECOND)
    place.book.put(block("bob"))

    found = place.other.read(None)

    assert found is not None
    assert [order.values for order in found.orders] == [("bob",)]


def test_every_field_of_an_order_comes_back(place: Place) -> None:
    """Whatever it says is read as it was written."""
    order = override(5, charge_by(), until=place.clock() + 60)
    place.book.put(order)

    assert place.other.read(None) == Book(place.other.read(None).version, (order,))  # type: ignore[union-attr]


@pytest.mark.parametrize("written", [b"", b"{}", b'{"kind":"block"}', b"\xff", b"[1]"])
def test_what_is_no_order_is_an_outage(written: bytes) -> None:
    """What somebody else wrote there is no reason to end a daemon."""
    with pytest.raises(StoreError):
        parse_order(written)
    with pytest.raises(StoreError):
        parse_near(written)


# Blocks


def test_a_blocked_key_is_refused_and_nothing_is_counted(place: Place) -> None:
    """All limits of the call stay as they are, and other keys go on."""
    store = place.obeying()
    place.book.put(block())

    mine, other = store.charge([charge_by(), charge_by("ann")])

    assert (mine.blocked, mine.exceeded, mine.retry_after, mine.used) == (True, True, None, 0)
    assert not other.blocked
    assert [usage.used for usage in place.store.usage([charge_by("ann", amount=0)])] == [0]
    assert one(store, charge_by("ann")) == Usage(1, 10, exceeded=False)


def test_what_is_asked_together_is_blocked_as_what_is_asked_alone(place: Place) -> None:
    """Of several calls only those with the key are refused."""
    store = place.obeying()
    place.book.put(block())

    answers = store.charge_each([[charge_by("ann")], [charge_by()], [], [charge_by("ann")]])

    assert [answer and answer[0].blocked for answer in answers if isinstance(answer, tuple)] == [
        False, True, (), False,
    ]  # fmt: skip
    assert one(store, charge_by("ann")).used == 3


def test_a_block_is_of_the_facts_that_it_names(place: Place) -> None:
    """A login that is blocked goes on to receive mail, where its address is a recipient that is counted."""
    store = place.obeying()
    place.book.put(block())

    assert not one(store, charge_by(per=("recipient",))).blocked


def test_a_limit_under_observe_blocks_nobody(place: Place) -> None:
    """Such a rule does nothing, whoever is blocked."""
    store = place.obeying()
    place.book.put(block())

    assert one(store, charge_by(observed=True)) == Usage(1, 10, exceeded=False)


def test_a_block_ends_when_it_was_said_to(place: Place) -> None:
    """Without anybody doing anything."""
    store = place.obeying()
    place.book.put(block(until=place.clock() + 60))

    assert one(store, charge_by()).blocked
    place.clock.advance(61 * SECOND)
    assert not one(store, charge_by()).blocked


# Overrides


def test_an_override_is_the_maximum_of_its_counter(place: Place) -> None:
    """Upwards and downwards, with what was counted before; other keys keep theirs."""
    store = place.obeying()
    for _ in range(3):
        one(store, charge_by())
    place.book.put(override(3, charge_by()))
    place.clock.advance(2 * SECOND)

    refused = one(store, charge_by())

    assert (refused.used, refused.maximum, refused.exceeded) == (3, 3, True)
    assert store.usage([charge_by()])[0].maximum == 3
    assert store.charge_each([[charge_by()]]) == [(refused,)]
    assert one(store, charge_by("ann")).maximum == 10
    place.book.put(override(20, charge_by()))
    place.clock.advance(2 * SECOND)
    assert one(store, charge_by()) == Usage(4, 20, exceeded=False)


def test_orders_hold_within_two_seconds(place: Place) -> None:
    """What another process ordered is seen by a charge that comes two seconds later (promise 6)."""
    store = place.obeying()
    assert not one(store, charge_by()).blocked
    place.book.put(block())

    place.clock.advance(2 * SECOND)

    assert one(store, charge_by()).blocked
    place.book.remove([block().name])
    place.clock.advance(2 * SECOND)
    assert not one(store, charge_by()).blocked


# Resets


def test_a_reset_frees_at_once(place: Place) -> None:
    """Counters of every kind; what was counted for others stays."""
    few = charge_by(limit=Limit(1, Unit.DISTINCT, timedelta(hours=1)), rule="day", member=member_hash("a"))
    place.forget([few.key])
    for charge in (charge_by(limit=messages(1)), few, charge_by("ann")):
        one(place.store, charge)
    assert one(place.store, charge_by(limit=messages(1))).exceeded

    place.forget([charge_by(limit=messages(1)).key, few.key])

    assert one(place.store, charge_by(limit=messages(1))) == Usage(1, 1, exceeded=False)
    assert one(place.store, changed(few, member=member_hash("b"))) == Usage(1, 1, exceeded=False)
    assert one(place.store, charge_by("ann")).used == 2


# Who is near


def test_who_has_used_half_is_remembered(place: Place) -> None:
    """By name, with the limit; who has used less is not."""
    store = place.obeying()
    for who, times in (("bob", 5), ("ann", 4)):
        for _ in range(times):
            one(store, charge_by(who))
    store.flush()

    (near,) = place.book.near(["burst", "day"])

    assert (near.rule, near.per, near.values) == ("burst", ("sasl_username",), ("bob",))
    assert (near.key, near.limit) == (charge_by().key, messages(10))


def test_who_is_near_is_forgotten_when_the_window_is_empty(place: Place) -> None:
    """Nothing is left of a name after the period of its limit and a little more."""
    store = place.obeying()
    for _ in range(5):
        one(store, charge_by())
    store.flush()

    place.clock.advance(61 * SECOND)
    assert [near.values for near in place.book.near(["burst"])] == [("bob",)]
    place.clock.advance(60 * SECOND)
    assert place.book.near(["burst"]) == []


def test_a_name_is_escaped_and_bounded(place: Place) -> None:
    """Whatever a client calls itself reaches no terminal as it is."""
    store = place.obeying()
    one(store, charge_by("\x1b[31m\udcff" + "x" * 500, messages(1)))
    store.flush()

    (near,) = place.book.near(["burst"])

    assert near.values[0].startswith("\\x1b[31m\\xff")
    assert len(near.values[0]) == MAX_LABEL


def test_a_counter_is_there_once(place: Place) -> None:
    """However often it is written down, by whichever process."""
    near = Near("burst", ("sasl_username",), ("bob",), b"k" * 16, messages(1), place.clock() + 60)
    place.book.note([near])
    place.other.note([changed(near, ends=near.ends + 60)])

    assert [each.ends for each in place.book.near(["burst"])] == [pytest.approx(near.ends + 60, abs=0.01)]


# The user that the documentation makes


@pytest.mark.system
def test_the_documented_acl_is_enough_for_orders() -> None:
    """Daemons and commands need no right that docs/limits.md does not name."""
    clock = HandClock()
    with work_folder() as work, Redis(work) as server:
        assert server.ask(documented_acl()) == "+OK"
        url = parse_redis_url(f"redis://mailreeve:PASSWORD@{LOOPBACK}:{server.port}/1")
        user = OneServer(RedisAccess(url, 10).open())

        def ask(key: bytes, command: str, *words: bytes) -> object:
            return user.command(command, key, *words)

        book = RedisBook(ask, user.close, clock)
        book.put(block("ann", until=clock() + 1))
        clock.advance(2 * SECOND)
        book.put(block())
        book.note([Near("burst", ("sasl_username",), ("bob",), b"k" * 16, messages(1), clock() + 60)])
        assert len(book.near(["burst"])) == 1
        book.remove([block().name])
        forget_in_redis(ask, [charge_by().key])
        found = book.read(None)
        assert found is not None
        assert found.orders == ()
        book.close()


# Outages


class Broken(MemoryBook):
    """Orders that cannot always be read."""

    is_away = False

    def read(self, known: str | None) -> Book | None:
        """As MemoryBook, or not."""
        if self.is_away:
            raise StoreError("away")
        return super().read(known)


def test_orders_that_cannot_be_read_hold_as_they_are_known(caplog: pytest.LogCaptureFixture) -> None:
    """A block outlives an outage; it is said once, and orders are read again when they can be."""
    clock, retries = HandClock(), HandRetries()
    book = Broken(clock)
    store = ObeyingStore(
        Watched(MemoryStore(clock)), book, log, clock, clock, retries=retries  # type: ignore[arg-type]
    )  # fmt: skip
    book.put(block(until=clock() + 60))
    assert one(store, charge_by()).blocked
    book.is_away = True

    for _ in range(5):
        clock.advance(2 * SECOND)
        assert one(store, charge_by()).blocked

    assert len(caplog.records) == 1
    clock.advance(60 * SECOND)
    assert not one(store, charge_by()).blocked
    book.is_away = False
    book.put(block())
    retries.pass_time(60)
    assert one(store, charge_by()).blocked


def test_a_block_holds_while_the_counters_are_away() -> None:
    """What is blocked is refused, though nobody can say what it has used."""
    clock = HandClock()

    class Away(MemoryStore):
        def usage(self, charges: Sequence[Charge]) -> tuple[Usage, ...]:
            raise StoreError("away")

    book = MemoryBook(clock)
    book.put(block())
    store = ObeyingStore(Watched(Away(clock)), book, log, clock, clock)  # type: ignore[arg-type]

    assert one(store, charge_by()).blocked


def test_orders_that_end_are_told_by_when_the_first_does() -> None:
    """Nothing has to be looked at before."""
    orders = in_force(Book("1", (block("bob", 5.0), block("ann", 9.0), block("eve"))), 5.0)

    assert orders.blocks == {(("sasl_username",), ("ann",)), (("sasl_username",), ("eve",))}
    assert orders.ends == 9.0
