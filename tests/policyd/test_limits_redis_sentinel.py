"""A real master, its replica and three Sentinels: which server counts, and what a failover costs."""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Iterator

import pytest

from mailreeve_policyd.errors import StoreError
from mailreeve_policyd.limits import OnUnavailable
from mailreeve_policyd.limits_memory import MemoryStore
from mailreeve_policyd.limits_outage import FallbackStore
from mailreeve_policyd.limits_redis import OneServer, RedisStore
from mailreeve_policyd.limits_redis_sentinel import SentinelServer
from mailreeve_policyd.redis_access import SENTINEL_PORT, RedisAccess, parse_server
from tests.lab.ports import LOOPBACK
from tests.lab.process import wait_until
from tests.lab.redis import Redis, Sentinels
from tests.lab.work import work_folder
from tests.policyd.limit_load import Load
from tests.policyd.limit_stores import charge_of, fresh_key, messages

pytestmark = pytest.mark.system

TIMEOUT_SECONDS = 1.0
BOUND_SECONDS = 5 * TIMEOUT_SECONDS
"""Of a request that meets a failover: a connection, the Sentinels, connecting, an answer, the machine."""

log = logging.getLogger("tests.sentinel")


@pytest.fixture
def sentinels() -> Iterator[Sentinels]:
    """A set of its own for each test, since each breaks it."""
    with work_folder() as work, Sentinels(work) as running:
        yield running


def open_server(sentinels: Sentinels, name: str = "mymaster") -> SentinelServer:
    """The master that these Sentinels name."""
    access = RedisAccess(parse_server(name, SENTINEL_PORT), TIMEOUT_SECONDS)
    each = [RedisAccess(parse_server(one, SENTINEL_PORT), TIMEOUT_SECONDS / 3) for one in sentinels.addresses]
    return SentinelServer(
        [one.open() for one in each],
        name,
        lambda address: OneServer(access.at(address).open()),
        TIMEOUT_SECONDS,
    )


def has_failed_over(sentinels: Sentinels) -> bool:
    """Do all Sentinels that run name the replica?"""
    running = [one for one in sentinels.sentinels if one.is_running]
    return all(one.knows()["port"] == str(sentinels.replica.port) for one in running)


def swap(sentinels: Sentinels) -> None:
    """What a failover that was asked for comes to in the end (Sentinels take ten seconds over it)."""
    sentinels.replica.ask("REPLICAOF NO ONE")
    sentinels.master.ask(f"REPLICAOF {LOOPBACK} {sentinels.replica.port}")
    for sentinel in sentinels.sentinels:
        sentinel.ask("SENTINEL REMOVE mymaster")
        sentinel.ask(f"SENTINEL MONITOR mymaster {LOOPBACK} {sentinels.replica.port} 2")


def wait_for_replica(sentinels: Sentinels) -> None:
    """Wait until the replica has all that the master has now."""
    now = offset(sentinels.master, "master_repl_offset")
    wait_until(lambda: offset(sentinels.replica, "slave_repl_offset") >= now, "the replica has it")


def offset(server: Redis, name: str) -> int:
    """How far replication is at a server."""
    return int(server.ask("INFO replication").partition(f"{name}:")[2].split()[0])


def test_sentinels_that_are_away_are_passed_over(sentinels: Sentinels) -> None:
    """The third one tells; a name that none knows is an outage that says so."""
    for sentinel in sentinels.sentinels[:2]:
        sentinel.kill()
    store, nobody = (RedisStore(open_server(sentinels, name)) for name in ("mymaster", "nobody"))

    assert store.charge([charge_of(messages(1))])[0].used == 1
    with pytest.raises(StoreError, match="do not know the master"):
        nobody.charge([charge_of(messages(1))])
    store.close()
    nobody.close()


def test_a_failover_that_was_asked_for_is_no_outage(sentinels: Sentinels) -> None:
    """A master that was made a replica refuses to count; the new one is found, and has what was counted."""
    store = RedisStore(open_server(sentinels))
    charge = charge_of(messages(5))
    store.charge([charge])
    wait_for_replica(sentinels)
    swap(sentinels)

    assert store.charge([charge])[0].used == 2
    store.close()


def test_a_master_that_dies_under_load_costs_little(
    sentinels: Sentinels, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody waits for long; the machine counts meanwhile; the new master counts on, without help.

    Each server lets N through at most, and so does the machine: what the replica had not been told when
    its master died is what a failover may lose.
    """
    limit = messages(150, 3600)
    charge = charge_of(limit, fresh_key("load", limit))
    shared = RedisStore(open_server(sentinels))
    store = FallbackStore(shared, MemoryStore(time.time), OnUnavailable.LOCAL, log)
    for _ in range(100):
        store.charge([charge])
    wait_for_replica(sentinels)

    with Load(store, [charge]) as load:
        wait_until(lambda: len(load.answers) > 10, "requests run")
        sentinels.master.kill()
        wait_until(lambda: store.outage.is_away, "the outage is seen")
        wait_until(lambda: not store.outage.is_away, "the new master counts")
        wait_until(load.is_refused_by_the_store, "it refuses what is above N")

    wait_until(lambda: has_failed_over(sentinels), "all Sentinels agree")
    assert store.usage([charge])[0].used == 150
    assert load.passed(degraded=True) <= 150
    assert load.passed(degraded=False) <= 100
    assert load.longest < BOUND_SECONDS
    assert [record.getMessage().split(" (")[0] for record in caplog.records] == [
        "the limit store is away",
        "the limit store is back",
    ]
    store.close()


def test_a_master_that_hangs_is_replaced(sentinels: Sentinels) -> None:
    """It answers nothing and refuses nothing: requests meet the timeout, and then the new master."""
    store = FallbackStore(
        RedisStore(open_server(sentinels)), MemoryStore(time.time), OnUnavailable.LOCAL, log
    )
    store.charge([charge_of(messages(1))])
    sentinels.master.send(signal.SIGSTOP)

    assert store.charge([charge_of(messages(1))])[0].degraded
    wait_until(lambda: not store.outage.is_away, "the new master counts")
    assert not store.charge([charge_of(messages(1))])[0].degraded
    store.close()
