"""Sets and tables in a real Redis: one server, and a Cluster."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from mailreeve_policyd.config import parse_configuration
from mailreeve_policyd.errors import ConfigError, StoreError
from mailreeve_policyd.live import REMEMBER_SECONDS, RETRY_SECONDS, LiveNames, UnusableName
from mailreeve_policyd.live_open import open_live
from mailreeve_policyd.live_redis import MAX_VALUE_OCTETS
from tests.lab.redis import Cluster, Redis
from tests.lab.work import work_folder
from tests.policyd.live_names import Hand

pytestmark = pytest.mark.system


def opened(text: str, clock: Hand | None = None) -> LiveNames:
    """What a configuration opens."""
    names = open_live(parse_configuration(text.encode(), Path("mailreeve.toml")), clock or Hand())
    assert names is not None
    return names


def at(url: str) -> str:
    """A configuration with the sets and tables there."""
    return f'[live]\nredis_url = "{url}"\n[limits]\nredis_timeout_seconds = 10.0\n'


@pytest.fixture
def client(redis_server: Redis) -> Iterator[redis.Redis]:
    """What the administrator types into redis-cli, on a database that is empty before."""
    with redis.Redis.from_url(redis_server.url.replace("/0", "/7")) as found:
        found.flushdb()
        yield found


@pytest.fixture
def url(redis_server: Redis) -> str:
    """Of that database."""
    return redis_server.url.replace("/0", "/7")


def test_what_is_added_holds_within_two_seconds(client: redis.Redis, url: str) -> None:
    """SADD and SREM, HSET and HDEL, by the names that the documentation gives."""
    clock = Hand()
    names = opened(at(url), clock)

    assert not names.has("staff", ("bob",))
    assert names.value("quotas", "bob") is None
    client.sadd("mailreeve:set:staff", "bob")
    client.hset("mailreeve:table:quotas", "bob", " 500 recipients/hour ")
    clock.now += REMEMBER_SECONDS
    assert names.has("staff", ("bob",))
    assert names.value("quotas", "bob") == "500 recipients/hour"
    client.srem("mailreeve:set:staff", "bob")
    client.hdel("mailreeve:table:quotas", "bob")
    clock.now += REMEMBER_SECONDS
    assert not names.has("staff", ("bob",))
    assert names.value("quotas", "bob") is None


def test_one_of_several_members_is_enough(client: redis.Redis, url: str) -> None:
    """A domain and those above it are asked in one round trip."""
    client.sadd("mailreeve:set:ours", "example.org")
    names = opened(at(url))

    assert names.has("ours", ("mx.example.org", "example.org", "org"))
    assert not names.has("ours", ("mx.example.net", "example.net", "net"))


def test_octets_that_are_no_text_stay_distinct(client: redis.Redis, url: str) -> None:
    """As everywhere: what came over the wire is compared as it came."""
    client.sadd("mailreeve:set:odd", b"b\xf6b")
    client.hset("mailreeve:table:odd", b"b\xf6b", b"v\xe4lue")
    names = opened(at(url))

    assert names.has("odd", ("b\udcf6b",))
    assert not names.has("odd", ("b\ufffdb",))
    assert names.value("odd", "b\udcf6b") == "v\udce4lue"


def test_a_value_is_bounded(client: redis.Redis, url: str) -> None:
    """What is too long stays too long for whoever reads it, and no longer than that."""
    client.hset("mailreeve:table:long", "bob", "x" * 1_000_000)

    assert len(opened(at(url)).value("long", "bob") or "") == MAX_VALUE_OCTETS + 1


def test_a_key_of_another_kind_is_told_and_is_no_outage(
    client: redis.Redis, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """`SET` instead of `SADD` is the administrator's slip; other sets answer as before."""
    client.set("mailreeve:set:staff", "bob")
    names = opened(at(url))

    with pytest.raises(UnusableName, match=r"mailreeve:set:staff: .*WRONGTYPE"):
        names.has("staff", ("bob",))
    assert not names.has("vip", ("bob",))
    assert "the set staff in Redis cannot be read" in caplog.messages[0]


def test_a_user_who_may_not_read_it_is_told(redis_server: Redis) -> None:
    """With the name of the key."""
    with redis.Redis.from_url(redis_server.url) as client:
        client.acl_setuser(
            "reader", enabled=True, passwords=["+secret"], keys=["mailreeve:set:*"], commands=["+@read"]
        )
    names = opened(at(redis_server.url.replace("redis://", "redis://reader:secret@")))

    assert not names.has("staff", ("bob",))
    with pytest.raises(UnusableName, match="mailreeve:table:quotas"):
        names.value("quotas", "bob")


def test_redis_that_stops_cannot_say_and_says_again_when_it_is_back(caplog: pytest.LogCaptureFixture) -> None:
    """By itself, and with the answer of then."""
    caplog.set_level(logging.WARNING)
    clock = Hand()
    with work_folder() as work:
        with Redis(work) as server:
            names = opened(at(server.unix_url), clock)
            server.ask("SADD mailreeve:set:staff bob")
            assert names.has("staff", ("bob",))
        clock.now += REMEMBER_SECONDS
        with pytest.raises(StoreError):
            names.has("staff", ("bob",))
        with server:
            clock.now += RETRY_SECONDS
            assert not names.has("staff", ("bob",))
    assert [" is away (" in line or line.endswith(" is back") for line in caplog.messages] == [True, True]


def test_a_cluster_is_asked_where_the_key_is(redis_cluster: Cluster) -> None:
    """Any node knows the way, by the settings of [limits]."""
    first, *others = redis_cluster.addresses
    names = opened(
        f'[limits]\nstore = "redis"\nredis_url = "redis://{first}"\nredis_cluster = {others}\n'
        "redis_timeout_seconds = 10.0\n"
    )
    host, _, port = first.partition(":")
    with redis.RedisCluster(host=host, port=int(port)) as client:
        for number in range(8):
            client.sadd(f"mailreeve:set:s{number}", "bob")
            client.hset(f"mailreeve:table:t{number}", "bob", str(number))

    assert [names.has(f"s{number}", ("bob",)) for number in range(8)] == [True] * 8
    assert [names.value(f"t{number}", "bob") for number in range(8)] == [str(number) for number in range(8)]


def test_without_redis_there_is_nobody_to_ask() -> None:
    """The default: limits in SQLite, no [live]."""
    assert open_live(parse_configuration(b"", Path("mailreeve.toml"))) is None


def test_a_url_that_is_none_is_told_where_it_stands_without_its_password() -> None:
    """Under [live], if it stands there."""
    with pytest.raises(ConfigError) as caught:
        opened('[live]\nredis_url = "http://:geheim@x"\n')

    assert (caught.value.place, "geheim" in str(caught.value)) == ("live.redis_url", False)
