"""How the URL of a Redis is read, and which connections are made of it."""

from __future__ import annotations

from contextlib import suppress

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st

from mailreeve_policyd.redis_access import (
    MAX_CONNECTIONS,
    SENTINEL_PORT,
    RedisAccess,
    RedisUrl,
    parse_redis_url,
    parse_server,
)

SECRET = "hush/hush"


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("redis://redis.example.org", RedisUrl("redis.example.org")),
        ("redis://redis.example.org:6380/2", RedisUrl("redis.example.org", 6380, database=2)),
        ("rediss://[2001:db8::1]:6380", RedisUrl("2001:db8::1", 6380, tls=True)),
        ("redis://MyMaster/1", RedisUrl("MyMaster", database=1)),
        ("redis://mailreeve@192.0.2.1", RedisUrl("192.0.2.1", username="mailreeve")),
        ("redis://:p%3Aa%40ss%2Fw%25rd@192.0.2.1/0", RedisUrl("192.0.2.1", password="p:a@ss/w%rd")),
        ("unix:///run/redis/redis.sock", RedisUrl("localhost", socket="/run/redis/redis.sock")),
        ("unix:///run/redis.sock?db=3", RedisUrl("localhost", socket="/run/redis.sock", database=3)),
        (
            "unix://mailreeve:secret@/run/redis.sock",
            RedisUrl("localhost", socket="/run/redis.sock", username="mailreeve", password="secret"),
        ),
    ],
)
def test_a_url_says_where_and_as_whom(text: str, url: RedisUrl) -> None:
    """TCP, TLS and a unix socket, with or without user, password and database."""
    assert parse_redis_url(text) == url


@pytest.mark.parametrize(
    "text",
    [
        "",
        "192.0.2.1:6379",
        f"http://{SECRET}@192.0.2.1/",
        f"redis://user:{SECRET}@127.0.0.1:6379/0",
        f"redis://:{SECRET}@127.0.0.1/0",
        "redis://:hush@127.0.0.1/0?socket_timeout=100",
        "redis://:hush@127.0.0.1/zero",
        "redis://:hush@127.0.0.1:port/0",
        "redis://:hush@127.0.0.1:99999/0",
        "redis://:hush#hush@127.0.0.1",
        "redis://[hush",
        "unix://hush",
        "unix://host/run/redis.sock",
        "unix:///run/redis.sock?db=hush",
        "unix:///run/redis.sock?db=1&retry_on_timeout=hush",
    ],
)
def test_what_is_no_url_is_told_without_its_secrets(text: str) -> None:
    """A mistake in the URL is the operator's; nothing of it is repeated."""
    with pytest.raises(ValueError, match=r"^(is|has|does)") as caught:
        parse_redis_url(text)

    assert "hush" not in str(caught.value)


@given(st.text(max_size=40) | st.text(max_size=40).map("redis://{}".format))
def test_any_text_is_a_url_or_told(text: str) -> None:
    """Nothing but ValueError, whatever stands in the file."""
    with suppress(ValueError):
        parse_redis_url(text)


@pytest.mark.parametrize(
    "text", ["192.0.2.1", "192.0.2.1:26379", "redis://192.0.2.1", "redis://192.0.2.1:26379"]
)
def test_a_server_may_be_given_without_a_scheme(text: str) -> None:
    """As a host, with its port, or as a URL where it needs a password or TLS of its own."""
    assert parse_server(text, SENTINEL_PORT) == RedisUrl("192.0.2.1", SENTINEL_PORT)


def test_a_password_is_never_shown() -> None:
    """Neither the URL nor what is made of it shows it in a traceback or a log."""
    access = RedisAccess(parse_redis_url("redis://mailreeve:hush@192.0.2.1"))

    assert "hush" not in repr(access) + str(access)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("redis://redis.example.org:6380/2", redis.Connection),
        ("rediss://redis.example.org:6380/2", redis.SSLConnection),
        ("unix:///run/redis/redis.sock?db=3", redis.UnixDomainSocketConnection),
    ],
)
def test_the_three_forms_of_a_connection(text: str, kind: type) -> None:
    """TCP, TLS and a unix socket; nothing is connected yet, and their number is bounded."""
    client = RedisAccess(parse_redis_url(text)).open()

    assert client.connection_pool.connection_class is kind
    assert client.connection_pool.max_connections == MAX_CONNECTIONS
    client.close()
