"""What the Redis store adds to the contract: restarts, outages, secrets, expiry, one round trip."""

from __future__ import annotations

import signal
import socket
import threading
import time
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import redis

from mailreeve_policyd.errors import StoreError
from mailreeve_policyd.limits import Charge, Limit, Unit, Usage
from mailreeve_policyd.limits_redis import OneServer, RedisStore
from mailreeve_policyd.limits_redis_script import key_names, slot_tag
from mailreeve_policyd.redis_access import RedisAccess, parse_redis_url
from tests.lab.ports import LOOPBACK
from tests.lab.redis import Redis
from tests.lab.work import work_folder
from tests.policyd.hammer import answers, go, start, used
from tests.policyd.limit_stores import (
    SECOND,
    HandClock,
    charge_of,
    distinct,
    documented_acl,
    fresh_key,
    messages,
)

pytestmark = pytest.mark.system

PASSWORD = "p:a@ss/w%rd"
QUOTED_PASSWORD = "p%3Aa%40ss%2Fw%25rd"


@pytest.fixture
def work() -> Iterator[Path]:
    """A folder for a server of this test's own."""
    with work_folder() as folder:
        yield folder


@pytest.fixture
def client(redis_server: Redis) -> Iterator[redis.Redis]:
    """A plain client, to look at what lies there."""
    with redis.Redis.from_url(redis_server.unix_url, decode_responses=True) as opened:
        yield opened


@pytest.fixture
def store(redis_server: Redis) -> Iterator[RedisStore]:
    """A store on the server's own clock."""
    opened = RedisStore.from_url(redis_server.unix_url, timeout_seconds=10)
    yield opened
    opened.close()


def keys_of(charge: Charge, client: redis.Redis) -> dict[str, int]:
    """The keys that a charge left, with the milliseconds that each has to live."""
    found = map(str, client.keys(f"*{slot_tag(charge.key)}*"))
    return {key.partition("{")[0]: client.pttl(key) for key in found}


def test_a_restarted_redis_is_given_the_script_again(work: Path) -> None:
    """Neither the lost script nor the lost connections are an outage."""
    with Redis(work) as server:
        store = RedisStore.from_url(server.url)
        assert store.charge([charge_of(messages(1))])[0].used == 1
        server.stop()
        server.start()

        assert store.charge([charge_of(messages(1))])[0].used == 1
        assert server.ask("SCRIPT FLUSH") == "+OK"
        assert store.charge([charge_of(messages(1))])[0].used == 1
        store.close()


def test_a_redis_that_is_away_is_an_outage(work: Path) -> None:
    """Refused connections are StoreError; when it is back the same store goes on."""
    with Redis(work) as server:
        store = RedisStore.from_url(server.url)
        server.kill()
        for _ in range(2):
            with pytest.raises(StoreError):
                store.charge([charge_of(messages(1))])
        with pytest.raises(StoreError):
            store.usage([charge_of(messages(1))])

        server.start()
        assert store.charge([charge_of(messages(1))])[0].used == 1
        store.close()


def test_a_redis_that_does_not_answer_is_an_outage_after_the_timeout(work: Path) -> None:
    """What was asked is not asked again, since it may have been counted."""
    charge = charge_of(messages(5))
    with Redis(work) as server:
        store = RedisStore.from_url(server.unix_url, timeout_seconds=0.2)
        store.charge([charge])
        server.send(signal.SIGSTOP)
        begun = time.monotonic()
        with pytest.raises(StoreError):
            store.charge([charge])
        lasted = time.monotonic() - begun
        server.send(signal.SIGCONT)

        assert lasted < 5
        patient = RedisStore.from_url(server.unix_url, timeout_seconds=10)
        assert patient.charge([charge])[0].used in (2, 3)
        patient.close()
        store.close()


@pytest.mark.parametrize("secret", [QUOTED_PASSWORD, "wrong-secret", ""])
def test_a_password_reaches_redis_and_nothing_else(work: Path, secret: str) -> None:
    """The right one opens; a wrong or missing one is an outage whose text does not hold it."""
    with Redis(work) as server:
        server.ask(f"CONFIG SET requirepass {PASSWORD}")
        userinfo = f":{secret}@" if secret else ""
        store = RedisStore.from_url(server.url.replace("//", f"//{userinfo}"))
        if secret == QUOTED_PASSWORD:
            assert store.charge([charge_of(messages(1))])[0].used == 1
        else:
            with pytest.raises(StoreError) as caught:
                store.charge([charge_of(messages(1))])
            assert "secret" not in str(caught.value)
        store.close()


def test_every_key_expires_by_itself(store: RedisStore, client: redis.Redis) -> None:
    """Counter, members and marks outlive what they hold by about a minute (promise 5)."""
    limit = messages(5, 600)
    counted = charge_of(limit, mark="message")
    members = charge_of(distinct(5, 600), value="a")
    store.charge([counted, members])

    alive = keys_of(counted, client)
    assert set(alive) == {"mailreeve:l:", "mailreeve:m:"}
    assert 610_000 < alive["mailreeve:l:"] <= 671_000
    assert 3_600_000 < alive["mailreeve:m:"] <= 3_660_000
    assert 600_000 < keys_of(members, client)["mailreeve:l:"] <= 660_000


def test_asking_writes_nothing(store: RedisStore, client: redis.Redis) -> None:
    """usage() leaves no key behind."""
    charge = charge_of(messages(5), mark="message")
    store.usage([charge])

    assert keys_of(charge, client) == {}


def test_a_counter_holds_at_most_61_buckets(redis_server: Redis, client: redis.Redis) -> None:
    """However many were let through over however long (promise 5)."""
    clock = HandClock()
    store = RedisStore.from_url(redis_server.unix_url, 10, clock)
    charge = charge_of(Limit(2**53 - 1, Unit.BYTES, messages(1).period), amount=10**12)
    for _ in range(200):
        store.charge([charge])
        clock.advance(SECOND // 2)

    assert client.strlen(key_names(charge.key)[0]) <= 61 * (9 + 9) + 5
    store.close()


@pytest.mark.parametrize("passing", [86400 * SECOND + 1, -86400 * SECOND + 1])
def test_marks_that_expired_are_dropped(redis_server: Redis, client: redis.Redis, passing: int) -> None:
    """A key in steady use does not keep the marks of all time, nor those of a clock that ran ahead.

    One charge in sixteen looks for them.
    """
    clock = HandClock()
    store = RedisStore.from_url(redis_server.unix_url, 10, clock)
    limit = messages(5)
    key = fresh_key("marks", limit)
    for number in range(64):
        clock.advance(passing)
        store.charge([charge_of(limit, key, mark=str(number))])

    assert client.zcard(key_names(key)[1]) <= 16
    store.close()


def test_a_charge_is_one_round_trip(store: RedisStore, client: redis.Redis) -> None:
    """Three limits, marks and distinct members: one command (promise 6)."""
    charges = [charge_of(messages(5), mark="m"), charge_of(distinct(5), value="a"), charge_of(messages(5))]
    store.charge(charges)
    before = client.info("stats")["total_commands_processed"]
    calls = client.info("commandstats")["cmdstat_evalsha"]["calls"]
    for _ in range(10):
        store.charge(charges)

    stats = client.info("commandstats")
    assert stats["cmdstat_evalsha"]["calls"] - calls == 10
    assert client.info("stats")["total_commands_processed"] > before


def test_many_charges_are_one_round_trip(work: Path) -> None:
    """Each is answered for itself; a script that the server has forgotten is no matter."""
    limit = messages(2)
    key = fresh_key("rule", limit)
    calls = [
        [charge_of(limit, key)],
        [],
        [charge_of(limit, key, -1)],
        [charge_of(limit, key, 2)],
        [charge_of(limit, key)],
    ]
    with Redis(work) as server:
        store = RedisStore.from_url(server.unix_url, 10)
        for times in range(2):
            first, none, mistake, exceeded, second = store.charge_each(calls)
            assert isinstance(mistake, ValueError)
            assert none == ()
            assert isinstance(exceeded, tuple)
            assert exceeded[0].exceeded
            if not times:
                assert [first, second] == [(Usage(1, 2, exceeded=False),), (Usage(2, 2, exceeded=False),)]
        server.kill()
        away = store.charge_each(calls)
        store.close()

    assert [type(answer) for answer in away] == [StoreError, tuple, ValueError, StoreError, StoreError]


def test_what_was_answered_before_the_way_broke_is_kept(tmp_path: Path) -> None:
    """Of two calls one was answered: it was counted, and only the other does without Redis."""
    path = tmp_path / "redis.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def answer_one() -> None:
            peer, _ = listener.accept()
            with peer:
                received = b""
                while received.count(b"EVALSHA") < 2 or not received.endswith(b"1\r\n"):
                    received += peer.recv(65536)
                peer.sendall(b"*6\r\n" + b"".join(b":%d\r\n" % number for number in (1, 0, 3, 0, -1, 1)))

        server = threading.Thread(target=answer_one)
        server.start()
        store = RedisStore.from_url(f"unix://{path}", timeout_seconds=10)
        first, second = store.charge_each([[charge_of(messages(5))], [charge_of(messages(5))]])
        server.join()
        store.close()

    assert first == (Usage(3, 5, exceeded=False),)
    assert isinstance(second, StoreError)


def test_time_is_the_servers(store: RedisStore) -> None:
    """Without a clock of the test's, the wait told is a whole window and some: Redis' TIME was read."""
    charge = charge_of(messages(1))
    store.charge([charge])

    wait = store.charge([charge])[0].retry_after
    assert wait is not None
    assert 59 < wait.total_seconds() <= 61


def test_what_somebody_else_wrote_under_a_key_is_an_outage(store: RedisStore, client: redis.Redis) -> None:
    """A value of another type or shape is StoreError."""
    for value in ("\xc1 no packed counter", "[]"):
        charge = charge_of(messages(1))
        client.set(key_names(charge.key)[0], value)
        with pytest.raises(StoreError):
            store.charge([charge])
    charge = charge_of(messages(1))
    client.lpush(key_names(charge.key)[0], "a list")
    with pytest.raises(StoreError, match="WRONGTYPE"):
        store.charge([charge])


def test_eight_processes_never_let_more_than_n_through(redis_server: Redis) -> None:
    """They share one key: of 1,600 requests exactly 1,000 pass."""
    redis_server.ask("FLUSHALL")
    processes = [start("repeat", redis_server.unix_url, 200) for _ in range(8)]
    for process in processes:
        go(process)

    lines = answers(processes)

    assert (lines.count("passed"), lines.count("refused")) == (1000, 600)


def test_a_forked_child_uses_connections_of_its_own(work: Path) -> None:
    """Parent and child never read each other's answers."""
    with Redis(work) as server:
        assert answers([start("fork", server.unix_url, 3)]) == ["passed"] * 5
        assert used(server.unix_url) == 5


def test_the_documented_acl_is_enough(work: Path) -> None:
    """The line of docs/limits.md makes a user that may charge, and that may do nothing else."""
    with Redis(work) as server:
        assert server.ask(documented_acl()) == "+OK"
        url = parse_redis_url(f"redis://mailreeve:PASSWORD@{LOOPBACK}:{server.port}/1")
        user = OneServer(RedisAccess(url, 10).open())
        store = RedisStore(user)
        full, members = charge_of(messages(1), mark="m"), charge_of(distinct(1), value="a")
        store.charge([full, members])
        other = charge_of(distinct(1), members.key, value="b")
        assert [usage.exceeded for usage in store.charge([charge_of(full.limit, full.key), other])] == [
            True
        ] * 2
        with pytest.raises(redis.ResponseError, match=r"(?i)no permissions"):
            user.client.get("somebody-elses")
        store.close()


def test_the_script_lies_beside_the_code() -> None:
    """It is found as part of the package, so a wheel without it would fail here."""
    assert files("mailreeve_policyd").joinpath("limits.lua").is_file()


def test_a_server_is_abandoned_without_cutting_who_uses_it(redis_server: Redis) -> None:
    """A connection that another thread has taken stays; one that lies idle is closed."""
    server = OneServer(redis.Redis.from_url(redis_server.unix_url))
    pool = server.client.connection_pool
    taken: Any = pool.get_connection()  # half of its methods have no types
    idle = pool.get_connection()
    pool.release(idle)

    server.abandon()

    assert not idle.is_connected
    taken.send_packed_command([b"PING\r\n"])
    assert taken.read_response() == b"PONG"
    pool.release(taken)
    server.close()
