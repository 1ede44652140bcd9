"""What the store on a Cluster adds to the contract: slots, refunds, moves, and a master that dies."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence

import pytest
from redis.crc import key_slot

from mailreeve_policyd.errors import StoreError
from mailreeve_policyd.limits import Charge, Limit, OnUnavailable, Usage, limit_key
from mailreeve_policyd.limits_memory import MemoryStore
from mailreeve_policyd.limits_outage import Outage
from mailreeve_policyd.limits_redis_cluster import ClusterStore
from mailreeve_policyd.limits_redis_script import slot_tag
from tests.lab.ports import LOOPBACK
from tests.lab.process import wait_until
from tests.lab.redis import Cluster, Redis, ask_list
from tests.lab.work import work_folder
from tests.policyd.hammer import CLUSTER, answers, go, start, used
from tests.policyd.limit_load import Load
from tests.policyd.limit_stores import (
    HandClock,
    HandRetries,
    charge_of,
    distinct,
    documented_acl,
    messages,
    open_cluster,
)

pytestmark = pytest.mark.system

BOUND_SECONDS = 5.0
LOCAL, OPEN, CLOSED = OnUnavailable.LOCAL, OnUnavailable.OPEN, OnUnavailable.CLOSED


@pytest.fixture
def own_cluster() -> Iterator[Cluster]:
    """One that a test may break."""
    with work_folder() as work, Cluster(work) as cluster:
        yield cluster


@pytest.fixture
def store(redis_cluster: Cluster) -> Iterator[ClusterStore]:
    """A store on the cluster that no test harms, on its own clock."""
    opened = open_cluster(redis_cluster, MemoryStore(time.time), None, CLOSED)
    yield opened
    opened.close()


def key_in(slots: range, limit: Limit, rule: str = "rule", *, skip: int = 0) -> bytes:
    """A key that lies in one of these slots."""
    found = (limit_key(rule, limit, [f"{time.time_ns()}-{number}"]) for number in range(100_000))
    for key in found:
        if key_slot(slot_tag(key).encode()) in slots and (skip := skip - 1) < 0:
            return key
    raise AssertionError("no such key")


def charges_everywhere(cluster: Cluster, maxima: Sequence[int]) -> list[Charge]:
    """One charge for each master, of a limit with this maximum."""
    limits = [messages(maximum, 3600) for maximum in maxima]
    return [charge_of(limit, key_in(cluster.slots(at), limit)) for at, limit in enumerate(limits)]


def move_keys(source: Redis, target: Redis, slot: int) -> None:
    """The keys of a slot, as `redis-cli --cluster reshard` moves them."""
    for name in ask_list(source.socket, f"CLUSTER GETKEYSINSLOT {slot} 10"):
        assert source.ask(f"MIGRATE {LOOPBACK} {target.port} {name} 0 1000") == "+OK"


def script_calls(server: Redis) -> int:
    """How often it ran the script."""
    told = server.ask("INFO commandstats").partition("cmdstat_evalsha:calls=")[2]
    return int(told.partition(",")[0] or 0)


def test_all_that_is_counted_by_one_login_lies_in_one_slot() -> None:
    """Its limits are charged in one atomic step, whatever they count and by whichever rule."""
    keys = [limit_key("burst", messages(5), ["bob"]), limit_key("fan-out", distinct(5, 3600), ["bob"])]

    assert len({key_slot(slot_tag(key).encode()) for key in keys}) == 1


def test_charges_of_several_slots_are_one_call_each(redis_cluster: Cluster, store: ClusterStore) -> None:
    """Three limits by one login and one by another: two calls (promise 6)."""
    bob, alice = f"bob-{time.time_ns()}", f"alice-{time.time_ns()}"
    limits = [(messages(5), bob), (messages(5, 600), bob), (distinct(5), bob), (messages(5), alice)]
    charges = [
        charge_of(limit, limit_key("rule", limit, [login]), value="192.0.2.1") for limit, login in limits
    ]
    store.charge(charges)
    before = sum(map(script_calls, redis_cluster.masters))

    assert [usage.used for usage in store.charge(charges)] == [2, 2, 1, 2]
    assert sum(map(script_calls, redis_cluster.masters)) - before == 2


@pytest.mark.parametrize("full", [0, 1, 2])
def test_what_another_slot_refuses_is_taken_back(
    redis_cluster: Cluster, store: ClusterStore, full: int
) -> None:
    """Whichever of three masters refuses: counters, values and marks are as before (promise 3)."""
    charges = charges_everywhere(redis_cluster, [int(at != full) * 5 for at in range(3)])
    values = distinct(5, 3600)
    charges += [
        charge_of(values, key_in(redis_cluster.slots(at), values), value="a", mark="m") for at in range(3)
    ]

    usages = store.charge(charges)

    assert [usage.used for usage in usages] == [0] * 6
    assert [usage.added for usage in usages] == [0] * 6
    assert [usage.exceeded for usage in usages] == [at == full for at in range(6)]
    free = [each for at, each in enumerate(charges) if at != full]
    assert [usage.used for usage in store.charge(free)] == [1] * 5


def test_the_documented_acl_is_enough(redis_cluster: Cluster) -> None:
    """For finding the nodes, and for what is taken back, too."""
    for server in redis_cluster.servers:
        assert server.ask(documented_acl()) == "+OK"
    store = open_cluster(
        redis_cluster, MemoryStore(time.time), None, CLOSED, username="mailreeve", password="PASSWORD"
    )
    values = distinct(5, 3600)
    charges = charges_everywhere(redis_cluster, [5, 5, 0])
    charges += [charge_of(values, key_in(redis_cluster.slots(0), values), value="a", mark="m")]

    assert [usage.used for usage in store.charge([charges[3], *charges])] == [0] * 5
    assert [usage.used for usage in store.charge(charges[:2])] == [1, 1]
    assert store.outage == Outage(is_away=False, outages=0, degraded=0)
    store.close()


def test_eight_processes_never_let_more_than_n_through(redis_cluster: Cluster) -> None:
    """They share one key: of 1,600 requests exactly 1,000 pass."""
    where = CLUSTER + ",".join(str(server.port) for server in redis_cluster.masters)
    processes = [start("repeat", where, 200) for _ in range(8)]
    for process in processes:
        go(process)

    lines = answers(processes)

    assert (lines.count("passed"), lines.count("refused")) == (1000, 600)
    assert used(where) == 1000


def test_a_slot_that_moves_is_followed(own_cluster: Cluster) -> None:
    """While it moves its limits do without, since Redis takes no call of two keys; then it is where it is.

    Neither is an outage of the node, whose other slots serve.
    """
    store = open_cluster(own_cluster, MemoryStore(time.time), None, LOCAL)
    limit = messages(5, 3600)
    other, moving = (charge_of(limit, key_in(own_cluster.slots(0), limit)) for _ in range(2))
    slot = key_slot(slot_tag(moving.key).encode())
    source, target = own_cluster.masters[:2]
    assert store.charge([moving, other])[0] == Usage(1, 5, exceeded=False)
    names = [server.ask("CLUSTER MYID") for server in (source, target)]
    assert target.ask(f"CLUSTER SETSLOT {slot} IMPORTING {names[0]}") == "+OK"
    assert source.ask(f"CLUSTER SETSLOT {slot} MIGRATING {names[1]}") == "+OK"
    move_keys(source, target, slot)
    assert [usage.degraded for usage in store.charge([moving, other])] == [True, False]

    for server in (target, source):
        assert server.ask(f"CLUSTER SETSLOT {slot} NODE {names[1]}") == "+OK"
    assert store.charge([moving, other]) == (Usage(2, 5, exceeded=False), Usage(3, 5, exceeded=False))
    assert store.outage == Outage(is_away=False, outages=0, degraded=1)
    store.close()


def test_while_a_master_is_away_only_its_limits_do_without(own_cluster: Cluster) -> None:
    """Each as it says itself; the others are counted where they were, or nowhere if one of all refuses."""
    clock = HandClock()
    store = open_cluster(own_cluster, MemoryStore(clock), clock, LOCAL, retries=HandRetries)
    gone, alive, other = charges_everywhere(own_cluster, (1, 5, 5))
    own_cluster.replica.kill()
    own_cluster.masters[0].kill()
    clock.advance(1)

    assert store.charge([gone, alive]) == (
        Usage(1, 1, exceeded=False, degraded=True),
        Usage(1, 5, exceeded=False),
    )
    refused = store.charge([alive, other, gone])
    assert [usage.used for usage in refused] == [1, 0, 1]
    assert [usage.exceeded for usage in refused] == [False, False, True]

    free = charge_of(gone.limit, gone.key, on_unavailable=OPEN)
    assert [usage.degraded for usage in store.charge([free, alive])] == [True, False]
    strict = charge_of(gone.limit, gone.key, on_unavailable=CLOSED)
    with pytest.raises(StoreError):
        store.charge([alive, strict])
    assert store.usage([charge_of(alive.limit, alive.key, amount=0)])[0].used == 2
    assert store.outage == Outage(is_away=True, outages=1, degraded=4)
    store.close()


def test_a_master_that_dies_under_load_takes_no_other_with_it(
    own_cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    """Its limits are counted by the machine, those of others go on; its replica takes over without help."""
    charges = charges_everywhere(own_cluster, (100, 10**6, 10**6))
    open_ended = [charge_of(each.limit, each.key, refuses=False) for each in charges]
    store = open_cluster(own_cluster, MemoryStore(time.time), None, LOCAL)

    with Load(store, open_ended) as load:
        wait_until(lambda: len(load.answers) > 10, "requests run")
        own_cluster.masters[0].kill()
        wait_until(lambda: store.outage.is_away, "the outage is seen")
        wait_until(lambda: not store.outage.is_away, "the replica has taken over")
        wait_until(load.is_refused_by_the_store, "it refuses what is above N")

    lasted = [usages for usages in load.answers if usages[0].degraded]
    assert lasted
    assert not any(usage.degraded for usages in load.answers for usage in usages[1:])
    assert load.passed(degraded=True) <= 100
    assert load.passed(degraded=False) <= 200
    assert [usage.used for usage in store.usage(open_ended)][1:] == [len(load.answers) + 1] * 2
    assert load.longest < BOUND_SECONDS
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 2
    assert (
        caplog.records[0]
        .getMessage()
        .startswith(
            f"the part of the limit store in Redis that was at {own_cluster.addresses[0]} is away (Redis: "
        )
    )
    assert caplog.records[1].getMessage().endswith("is back")
    store.close()
