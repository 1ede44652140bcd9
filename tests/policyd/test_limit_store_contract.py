"""The promises of DESIGN.md section 5, on every store, with time under the test's control."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from mailreeve_policyd.limits import Charge, Limit, LimitStore, OnUnavailable, Unit, Usage
from mailreeve_policyd.limits_memory import MemoryStore
from mailreeve_policyd.limits_redis import RedisStore
from mailreeve_policyd.limits_sqlite import SqliteStore
from tests.lab.redis import Cluster
from tests.policyd.conftest import VALKEY
from tests.policyd.limit_stores import (
    SECOND,
    HandClock,
    Ledger,
    charge_of,
    distinct,
    fresh_key,
    messages,
    open_cluster,
)

REMEMBER_SECONDS = 3600
MICROSECOND = timedelta(microseconds=1)


@pytest.fixture
def clock() -> HandClock:
    """Time as the test moves it."""
    return HandClock()


def memory_store(clock: HandClock, request: pytest.FixtureRequest) -> LimitStore:
    """The store of the rules file's expect lines."""
    return MemoryStore(clock, REMEMBER_SECONDS)


def sqlite_store(clock: HandClock, request: pytest.FixtureRequest) -> LimitStore:
    """The embedded store."""
    folder: Path = request.getfixturevalue("tmp_path")
    return SqliteStore(folder / "limits.sqlite", clock, REMEMBER_SECONDS)


def redis_store(clock: HandClock, request: pytest.FixtureRequest) -> LimitStore:
    """The shared store, on a real Redis."""
    url = request.getfixturevalue("redis_server").unix_url
    return RedisStore.from_url(url, timeout_seconds=10, clock=clock, remember_seconds=REMEMBER_SECONDS)


def valkey_store(clock: HandClock, request: pytest.FixtureRequest) -> LimitStore:
    """The shared store, on a real Valkey."""
    url = request.getfixturevalue("valkey_server").unix_url
    return RedisStore.from_url(url, timeout_seconds=10, clock=clock, remember_seconds=REMEMBER_SECONDS)


def cluster_store(clock: HandClock, request: pytest.FixtureRequest) -> LimitStore:
    """The shared store, on a real Cluster, where the keys of a call mostly lie in several slots."""
    cluster: Cluster = request.getfixturevalue("redis_cluster")
    return open_cluster(cluster, MemoryStore(clock), clock, OnUnavailable.CLOSED)


# Valkey where it is installed, so that nothing is skipped where it is not
OF_SERVERS = [redis_store, cluster_store, *([valkey_store] if VALKEY else [])]
STORES = [
    pytest.param(make, id=make.__name__.removesuffix("_store"), marks=marks)
    for makes, marks in (([memory_store, sqlite_store], ()), (OF_SERVERS, pytest.mark.system))
    for make in makes
]


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest, clock: HandClock) -> Iterator[LimitStore]:
    """Each store in turn."""
    make: Callable[[HandClock, pytest.FixtureRequest], LimitStore] = request.param
    made = make(clock, request)
    yield made
    made.close()


def one(store: LimitStore, charge: Charge) -> Usage:
    """Charge one limit alone."""
    (usage,) = store.charge([charge])
    return usage


def test_n_are_let_through_and_the_next_is_told_to_wait(store: LimitStore) -> None:
    """The answer says used, maximum and, once exceeded, how long to wait (promise 7)."""
    charge = charge_of(messages(2))

    assert one(store, charge) == Usage(1, 2, exceeded=False)
    assert one(store, charge) == Usage(2, 2, exceeded=False)
    refused = one(store, charge)

    assert (refused.used, refused.maximum, refused.exceeded) == (2, 2, True)
    assert refused.retry_after is not None
    assert timedelta(seconds=60) < refused.retry_after <= timedelta(seconds=61)


@pytest.mark.parametrize("seconds", [1, 7, 60, 3600, 31 * 86400])
def test_the_wait_is_exact(store: LimitStore, clock: HandClock, seconds: int) -> None:
    """After the time told the request passes; a microsecond earlier it does not."""
    charge = charge_of(messages(1, seconds))
    one(store, charge)
    wait = one(store, charge).retry_after
    assert wait is not None

    clock.advance(wait - MICROSECOND)
    assert one(store, charge).retry_after == MICROSECOND
    clock.advance(1)
    assert not one(store, charge).exceeded


def test_no_window_of_the_period_holds_more_than_n(store: LimitStore, clock: HandClock) -> None:
    """What was let through exactly one period ago still counts (promise 1)."""
    charge = charge_of(messages(1))
    one(store, charge)

    clock.advance(60 * SECOND)

    assert one(store, charge).exceeded


def test_after_a_period_and_a_sixtieth_the_window_is_free(store: LimitStore, clock: HandClock) -> None:
    """Promise 2: what was let through earlier than that stops nobody."""
    charge = charge_of(messages(1))
    one(store, charge)

    clock.advance(61 * SECOND)

    assert one(store, charge) == Usage(1, 1, exceeded=False)


def test_the_wait_is_for_as_much_as_is_asked(store: LimitStore, clock: HandClock) -> None:
    """Three units wait until three are free, one unit only until the first is."""
    limit = messages(3)
    key = fresh_key("rule", limit)
    for _ in range(3):
        one(store, charge_of(limit, key))
        clock.advance(10 * SECOND)

    waits = [store.usage([charge_of(limit, key, amount)])[0].retry_after for amount in (1, 2, 3)]

    assert all(wait is not None for wait in waits)
    assert waits == sorted(waits, key=str)
    clock.advance(waits[1] or MICROSECOND)
    assert one(store, charge_of(limit, key, 3)).exceeded
    assert not one(store, charge_of(limit, key, 2)).exceeded


def test_a_refused_request_consumes_nothing_of_any_limit(store: LimitStore) -> None:
    """All are charged or none is, whichever comes first (promise 3)."""
    wide, narrow = charge_of(messages(10)), charge_of(messages(1))
    one(store, narrow)

    for charges in ([wide, narrow], [narrow, wide]):
        usages = dict(zip(charges, store.charge(charges), strict=True))
        assert usages[narrow].exceeded
        assert usages[wide] == Usage(0, 10, exceeded=False)

    assert one(store, wide).used == 1


def test_a_limit_that_lets_mail_in_stops_nobody(store: LimitStore) -> None:
    """It is not charged further itself, the others are judged and charged (promise 3)."""
    holding, wide = charge_of(messages(1), refuses=False), charge_of(messages(10))
    one(store, holding)

    exceeded, charged = store.charge([holding, wide])

    assert exceeded.exceeded
    assert exceeded.used == 1
    assert charged == Usage(1, 10, exceeded=False)


def test_more_than_the_maximum_can_never_pass(store: LimitStore) -> None:
    """A request larger than N by itself is told no time to wait."""
    usage = one(store, charge_of(messages(10), amount=11))

    assert usage.can_never_pass
    assert usage.used == 0


@pytest.mark.parametrize("limit", [messages(0), distinct(0)])
def test_a_limit_of_none_is_always_exceeded(store: LimitStore, limit: Limit) -> None:
    """`limit 0` lets nothing through, ever."""
    assert one(store, charge_of(limit, value="a")).can_never_pass


def test_what_is_marked_is_counted_once(store: LimitStore, clock: HandClock) -> None:
    """A message asked about again passes uncounted, even when the limit is reached meanwhile (promise 4)."""
    limit = messages(1)
    key = fresh_key("rule", limit)
    first = charge_of(limit, key, mark="first")
    one(store, first)

    clock.advance(30 * SECOND)

    assert one(store, first) == Usage(1, 1, exceeded=False)
    assert one(store, charge_of(limit, key, mark="second")).exceeded


def test_a_mark_is_for_one_key(store: LimitStore) -> None:
    """The same message counts once under each key that it has."""
    limit = messages(5)

    assert [one(store, charge_of(limit, mark="message")).used for _ in range(2)] == [1, 1]


def test_a_mark_expires(store: LimitStore, clock: HandClock) -> None:
    """After the time to remember the message counts anew; until then it does not."""
    limit = messages(5, 31 * 86400)
    charge = charge_of(limit, mark="message")
    one(store, charge)

    clock.advance(REMEMBER_SECONDS * SECOND - 1)
    assert one(store, charge).used == 1
    clock.advance(1)
    assert one(store, charge).used == 2


def test_a_refused_request_leaves_no_mark(store: LimitStore, clock: HandClock) -> None:
    """When it is retried it is judged and counted like any other."""
    full, wide = charge_of(messages(1)), charge_of(messages(10), mark="message")
    one(store, full)
    store.charge([full, wide])

    clock.advance(61 * SECOND)

    assert [usage.used for usage in store.charge([full, wide])] == [1, 1]


def test_an_exceeded_limit_that_lets_mail_in_leaves_no_mark(store: LimitStore) -> None:
    """What was let in uncounted stays exceeded when it is asked about again."""
    limit = messages(0)
    charge = charge_of(limit, mark="message", refuses=False)

    assert [one(store, charge).exceeded for _ in range(2)] == [True, True]


def test_distinct_counts_values_and_not_requests(store: LimitStore) -> None:
    """A value that was seen in the window consumes nothing."""
    limit = distinct(2)
    key = fresh_key("rule", limit)

    used = [one(store, charge_of(limit, key, value=value)).used for value in ("a", "b", "a", "b", "a")]

    assert used == [1, 2, 2, 2, 2]
    assert one(store, charge_of(limit, key, value="c")).exceeded


def test_a_known_value_stays_known_as_long_as_it_is_used(store: LimitStore, clock: HandClock) -> None:
    """Each use refreshes its time; the value that was not used leaves first."""
    limit = distinct(2)
    key = fresh_key("rule", limit)
    for value in ("a", "b"):
        one(store, charge_of(limit, key, value=value))
    clock.advance(40 * SECOND)
    one(store, charge_of(limit, key, value="a"))

    refused = one(store, charge_of(limit, key, value="c"))
    assert refused.retry_after == timedelta(seconds=20) + MICROSECOND
    clock.advance(refused.retry_after)

    assert not one(store, charge_of(limit, key, value="c")).exceeded
    assert one(store, charge_of(limit, key, value="b")).exceeded
    assert not one(store, charge_of(limit, key, value="a")).exceeded


def test_a_refused_request_refreshes_no_value(store: LimitStore, clock: HandClock) -> None:
    """A value that was asked for in vain is seen as long as before (promise 3), and a new one is not kept."""
    limit = distinct(2)
    key, full = fresh_key("rule", limit), charge_of(messages(0))
    one(store, charge_of(limit, key, value="a"))
    clock.advance(40 * SECOND)
    for value in ("a", "b"):
        for charges in (
            [charge_of(limit, key, value=value), full],
            [full, charge_of(limit, key, value=value)],
        ):
            assert sum(usage.exceeded for usage in store.charge(charges)) == 1

    assert store.usage([charge_of(limit, key, value="a")])[0].used == 1
    clock.advance(20 * SECOND + 1)
    assert one(store, charge_of(limit, key, value="c")).used == 1


def test_a_lowered_maximum_holds_for_known_values_too(store: LimitStore, clock: HandClock) -> None:
    """The counter is kept when N changes: what it holds above the new N has to leave first."""
    limit = distinct(3)
    key = fresh_key("rule", limit)
    for value in ("a", "b", "c"):
        one(store, charge_of(limit, key, value=value))
        clock.advance(SECOND)

    refused = one(store, charge_of(distinct(1), key, value="a"))

    assert (refused.used, refused.exceeded) == (3, True)
    assert refused.retry_after == timedelta(seconds=59) + MICROSECOND


def test_several_charges_of_one_key_see_each_other(store: LimitStore) -> None:
    """Three recipients of one message under one key are three values, or none if they do not fit."""
    limit = distinct(4)
    key = fresh_key("rule", limit)
    three = [charge_of(limit, key, value=value) for value in ("a", "b", "c")]
    others = [charge_of(limit, key, value=value) for value in ("d", "e")]

    assert [usage.used for usage in store.charge(three)] == [3, 3, 3]
    assert [(usage.used, usage.exceeded) for usage in store.charge(others)] == [(3, False), (3, True)]
    assert one(store, others[1]).used == 4


def test_a_value_is_known_for_a_whole_period(store: LimitStore, clock: HandClock) -> None:
    """Asked again exactly one period later it consumes nothing; a microsecond more and it is new."""
    limit = distinct(2)
    key = fresh_key("rule", limit)
    for value in ("a", "b"):
        one(store, charge_of(limit, key, value=value))

    clock.advance(60 * SECOND)
    assert one(store, charge_of(limit, key, value="a")) == Usage(2, 2, exceeded=False)
    clock.advance(1)
    assert one(store, charge_of(limit, key, value="c")) == Usage(2, 2, exceeded=False)
    assert one(store, charge_of(limit, key, value="b")).exceeded


def test_the_wait_leaves_room_for_all_values_of_a_call(store: LimitStore, clock: HandClock) -> None:
    """A known value that is asked for in the same call stays: another one has to leave."""
    limit = distinct(2)
    key = fresh_key("rule", limit)
    for value in ("a", "b"):
        one(store, charge_of(limit, key, value=value))
        clock.advance(10 * SECOND)
    both = [charge_of(limit, key, value=value) for value in ("a", "c")]

    wait = store.charge(both)[1].retry_after

    assert wait == timedelta(seconds=50) + MICROSECOND
    clock.advance(wait)
    assert not any(usage.exceeded for usage in store.charge(both))


def test_a_call_whose_values_exceed_the_maximum_can_never_pass(store: LimitStore) -> None:
    """A value that is named twice is one; three under a maximum of two are too many for ever."""
    limit = distinct(2)
    key = fresh_key("rule", limit)
    one(store, charge_of(limit, key, value="x"))
    a, b, c = (charge_of(limit, key, value=value) for value in "abc")

    twice = store.charge([a, a, b])[2]
    assert twice.exceeded
    assert not twice.can_never_pass
    assert store.charge([charge_of(limit, key, value="x"), a, c])[2].can_never_pass


def test_usage_counts_nothing_and_marks_nothing(store: LimitStore) -> None:
    """It gives what a charge would answer, as often as it is asked."""
    limit = messages(1)
    key = fresh_key("rule", limit)
    charge = charge_of(limit, key, mark="message")

    assert [store.usage([charge]) for _ in range(3)] == [(Usage(1, 1, exceeded=False),)] * 3
    assert store.usage([charge_of(limit, key, amount=0)])[0].used == 0
    one(store, charge)
    assert store.usage([charge]) == (Usage(1, 1, exceeded=False),)
    assert store.usage([charge_of(limit, key)])[0].exceeded


def test_no_charges_are_no_answers(store: LimitStore) -> None:
    """Where no limit applies there is nothing to ask."""
    assert store.charge([]) == ()
    assert store.usage([]) == ()


def test_bytes_go_beyond_32_bits(store: LimitStore) -> None:
    """A terabyte in a month is counted to the byte."""
    limit = Limit(10**12, Unit.BYTES, timedelta(days=31))
    key = fresh_key("rule", limit)
    one(store, charge_of(limit, key, amount=10**12 - 1))

    assert one(store, charge_of(limit, key, amount=2)).exceeded
    assert one(store, charge_of(limit, key, amount=1)).used == 10**12


@pytest.mark.parametrize("limit", [messages(1), distinct(1)])
def test_a_clock_set_back_blocks_nobody_for_longer_than_a_period(
    store: LimitStore, clock: HandClock, limit: Limit
) -> None:
    """What was counted ahead of the clock is neither forgotten nor kept until that time comes again."""
    key = fresh_key("rule", limit)
    one(store, charge_of(limit, key, value="a"))
    clock.advance(timedelta(days=-3650))

    refused = one(store, charge_of(limit, key, value="b"))
    assert refused.exceeded
    assert refused.retry_after is not None
    assert refused.retry_after <= timedelta(seconds=61)


@pytest.mark.parametrize("limit", [messages(1), distinct(1)])
@pytest.mark.parametrize("verb", ["charge", "usage"])
def test_who_asks_on_after_a_clock_was_set_back_waits_one_period_in_all(
    store: LimitStore, clock: HandClock, limit: Limit, verb: str
) -> None:
    """Not one from each refusal: what was counted ahead of the clock is of the first that finds it."""
    key = fresh_key("rule", limit)
    asked = charge_of(limit, key, value="b")
    one(store, charge_of(limit, key, value="a"))
    clock.advance(timedelta(days=-3650))

    for _ in range(4):
        assert getattr(store, verb)([asked])[0].exceeded
        clock.advance(20 * SECOND)
    assert not one(store, asked).exceeded


def test_threads_never_let_more_than_n_through(store: LimitStore) -> None:
    """Eight threads on one key: exactly N of their requests pass."""
    charge = charge_of(messages(50))
    passed: list[bool] = []

    def hammer() -> None:
        passed.extend(not one(store, charge).exceeded for _ in range(20))

    threads = [threading.Thread(target=hammer) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert (len(passed), sum(passed)) == (160, 50)


def test_threads_that_charge_two_keys_count_what_they_let_through(store: LimitStore) -> None:
    """In whichever order: a request that one key refuses leaves nothing on the other (promises 3 and 6)."""
    wide, narrow = charge_of(messages(50)), charge_of(messages(30))
    passed: list[bool] = []

    def hammer(charges: list[Charge]) -> None:
        passed.extend(not any(usage.exceeded for usage in store.charge(charges)) for _ in range(10))

    orders = [[wide, narrow], [narrow, wide]] * 4
    threads = [threading.Thread(target=hammer, args=(order,)) for order in orders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert (len(passed), sum(passed)) == (80, 30)
    left = [charge_of(each.limit, each.key, amount=0) for each in (wide, narrow)]
    assert [usage.used for usage in store.usage(left)] == [30, 30]


PERIODS = (1, 7, 60, 31 * 86400)
START = 1_700_000_000 * SECOND
Drawn = tuple[int, int, str, str | None, bool]


@st.composite
def limits(draw: st.DrawFn) -> list[Limit]:
    """One to three limits of one period, with small maxima, so that they are reached."""
    period = timedelta(seconds=draw(st.sampled_from(PERIODS)))
    units = st.sampled_from([Unit.MESSAGES, Unit.BYTES, Unit.DISTINCT])
    pairs = draw(st.lists(st.tuples(st.integers(0, 4), units), min_size=1, max_size=3))
    return [Limit(maximum, unit, period) for maximum, unit in pairs]


def passing(period: int, told: int | None) -> st.SearchStrategy[int]:
    """How many microseconds pass: about one of the moments at which something happens, or any time."""
    moments = [0, period // 60, period, period * 61 // 60, REMEMBER_SECONDS * SECOND]
    about = moments if told is None else [told, told, *moments]
    near = st.tuples(st.sampled_from(about), st.integers(-1, 1)).map(lambda pair: max(0, sum(pair)))
    return st.one_of(near, st.integers(0, period))


def drawn_charges(keys: int) -> st.SearchStrategy[list[Drawn]]:
    """What is charged in one call: key, amount, value, mark, refuses."""
    charge = st.tuples(
        st.integers(0, keys - 1),
        st.integers(0, 3),
        st.sampled_from("abcd"),
        st.sampled_from([None, None, None, "m", "n"]),
        st.booleans(),
    )
    return st.lists(charge, min_size=1, max_size=4)


@settings(
    max_examples=60,
    deadline=None,  # three stores, one of them a server, on whatever machine
    suppress_health_check=[HealthCheck.function_scoped_fixture],  # each example has keys of its own
)
@given(st.data())
def test_any_sequence_keeps_the_promises(store: LimitStore, clock: HandClock, data: st.DataObject) -> None:
    """Whatever is charged whenever, each answer agrees with the exact ledger of what was let through."""
    chosen = data.draw(limits())
    period = chosen[0].period // MICROSECOND
    keys = [fresh_key(str(place), limit) for place, limit in enumerate(chosen)]
    ledger = Ledger(REMEMBER_SECONDS * SECOND)
    # on an edge of all buckets, or anywhere
    clock.now = START // period * period + data.draw(st.one_of(st.just(0), st.integers(0, period)))
    told: int | None = None
    for _ in range(data.draw(st.integers(1, 15))):
        clock.advance(data.draw(passing(period, told)))
        charges = [
            _charge(chosen[place], keys[place], *rest) for place, *rest in data.draw(drawn_charges(len(keys)))
        ]
        foreseen = store.usage(charges)
        usages = store.charge(charges)
        assert usages == foreseen
        ledger.check(charges, usages, clock.now)
        told = next((usage.retry_after // MICROSECOND for usage in usages if usage.retry_after), told)


def _charge(limit: Limit, key: bytes, *rest: Any) -> Charge:
    amount, value, mark, refuses = rest
    if limit.unit is Unit.DISTINCT:
        return charge_of(limit, key, value=value, mark=mark, refuses=refuses)
    return charge_of(limit, key, amount, mark=mark, refuses=refuses)


# What a call adds: how a crossing is seen exactly once


def test_the_answer_says_what_this_call_added(store: LimitStore) -> None:
    """A counted charge adds its amount; a marked one, a refused one and a look add nothing."""
    charge = replace(charge_of(messages(2)), mark=b"message1")
    another = replace(charge, mark=b"message2")

    assert one(store, charge).added == 1
    assert one(store, charge).added == 0
    assert one(store, another).added == 1
    assert one(store, replace(charge, mark=b"message3")).added == 0


def test_exactly_one_call_reaches_a_mark(store: LimitStore) -> None:
    """Whatever the order, of all that are let through one takes the counter to it or above."""
    limit = messages(10)
    key = fresh_key("rule", limit)
    charges = [replace(charge_of(limit, key), amount=amount) for amount in (3, 3, 3, 1)]
    answers = [one(store, charge) for charge in charges]

    assert [usage.has_reached(8) for usage in answers] == [False, False, True, False]
    assert not one(store, charges[0]).has_reached(8)


def test_a_value_that_is_there_adds_nothing(store: LimitStore) -> None:
    """Of distinct values each is added once."""
    limit = distinct(3)
    key = fresh_key("rule", limit)

    assert [one(store, charge_of(limit, key, value=value)).added for value in "aabb"] == [1, 0, 1, 0]


# Several calls at once


def test_calls_that_come_together_see_each_other(store: LimitStore) -> None:
    """Of three calls under a limit of two the third is refused, and leaves nothing on the other key."""
    narrow, wide = charge_of(messages(2)), charge_of(messages(5))

    answers = store.charge_each([[narrow], [wide, narrow], [wide, narrow], []])

    assert answers == [
        (Usage(1, 2, exceeded=False),),
        (Usage(1, 5, exceeded=False), Usage(2, 2, exceeded=False)),
        answers[2],
        (),
    ]
    assert isinstance(answers[2], tuple)
    assert [usage.exceeded for usage in answers[2]] == [False, True]
    assert one(store, replace(wide, amount=0)).used == 1


def test_a_call_that_is_none_is_its_own_trouble(store: LimitStore) -> None:
    """A charge that cannot be is that call's answer; those beside it are counted."""
    charge = charge_of(messages(5))

    first, wrong, last = store.charge_each([[charge], [charge_of(messages(5), amount=-1)], [charge]])

    assert isinstance(wrong, ValueError)
    assert (first, last) == ((Usage(1, 5, exceeded=False),), (Usage(2, 5, exceeded=False),))


def test_many_calls_are_all_answered(store: LimitStore) -> None:
    """More than a store takes in one transaction or round trip, in their order."""
    charge = charge_of(messages(150))

    answers = store.charge_each([[charge]] * 200)

    used = [answer[0].used for answer in answers if isinstance(answer, tuple)]
    assert used == [*range(1, 151), *[150] * 50]


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],  # each example has keys of its own
)
@given(st.data())
def test_calls_that_come_together_are_answered_as_one_after_the_other(
    store: LimitStore, clock: HandClock, data: st.DataObject
) -> None:
    """Whatever is charged: the same answers, and the same is counted in the end."""
    chosen = data.draw(limits())
    period = chosen[0].period // MICROSECOND
    apart, together = ([fresh_key(str(place), limit) for place, limit in enumerate(chosen)] for _ in range(2))
    for _ in range(data.draw(st.integers(1, 4))):
        clock.advance(data.draw(passing(period, None)))
        drawn = data.draw(st.lists(drawn_charges(len(chosen)), max_size=5))
        singles, calls = (
            [[_charge(chosen[place], keys[place], *rest) for place, *rest in call] for call in drawn]
            for keys in (apart, together)
        )

        expected = [store.charge(call) for call in singles]

        assert store.charge_each(calls) == expected
