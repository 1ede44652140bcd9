"""From `[limits]` to real servers: TLS, users, databases, Sentinels, a Cluster; and mistakes there."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from mailreeve_policyd.config import Configuration, parse_configuration
from mailreeve_policyd.errors import ConfigError
from mailreeve_policyd.limits import Usage
from mailreeve_policyd.limits_open import open_store
from mailreeve_policyd.redis_open import RedisWay, read_way
from tests.lab.certificates import Authority
from tests.lab.ports import LOOPBACK, free_port
from tests.lab.redis import Cluster, Redis, Sentinels
from tests.lab.site import format_toml
from tests.lab.work import work_folder
from tests.policyd.limit_stores import charge_of, messages

pytestmark = pytest.mark.system

PASSWORD = "p:a@ss/w%rd"
USER = f"ACL SETUSER mailreeve on >{PASSWORD} ~mailreeve:* +@all"


@pytest.fixture
def work() -> Iterator[Path]:
    """A folder for a server of this test's own, and for its files."""
    with work_folder() as folder:
        yield folder


def configuration(folder: Path, **limits: object) -> Configuration:
    """A mailreeve.toml in this folder that counts in Redis, and nowhere else when that is away."""
    settings = {"store": "redis", "on_unavailable": "closed", "redis_timeout_seconds": 5.0, **limits}
    return parse_configuration(format_toml({"limits": settings}).encode(), folder / "mailreeve.toml")


def counts(folder: Path, **limits: object) -> bool:
    """Does a store with these settings count?"""
    store = open_store(configuration(folder, **limits))
    usages = store.charge([charge_of(messages(5, 3600))])
    store.close()
    return usages == (Usage(1, 5, exceeded=False),)


def way(folder: Path, **limits: object) -> RedisWay:
    """How these settings reach Redis."""
    return read_way(configuration(folder, **limits))


def write_password(folder: Path, text: str = f"{PASSWORD}\n", mode: int = 0o600) -> str:
    """A password file; its name."""
    path = folder / "redis.password"
    path.write_text(text)
    path.chmod(mode)
    return path.name


def test_a_user_with_a_password_in_a_file(work: Path) -> None:
    """The password stands as it is in its file, and not in mailreeve.toml."""
    with Redis(work) as server:
        assert server.ask(USER) == "+OK"
        url = f"redis://mailreeve@{LOOPBACK}:{server.port}"

        assert counts(work, redis_url=url, redis_password_file=write_password(work))


def test_databases_are_apart(work: Path) -> None:
    """By TCP and by the socket, the number in the URL is where it counts."""
    with Redis(work) as server:
        assert counts(work, redis_url=f"redis://{LOOPBACK}:{server.port}/3")
        assert counts(work, redis_url=f"unix://{server.socket}?db=4")
        sizes = [redis.Redis(port=server.port, db=number, protocol=2) for number in range(5)]
        assert [client.dbsize() for client in sizes] == [0, 0, 0, 1, 1]
        for client in sizes:
            client.close()


def test_tls_with_certificates_on_both_sides(work: Path) -> None:
    """The server's is checked against the CA, and ours is shown to it."""
    authority = Authority(work)
    theirs, ours = authority.issue("server"), authority.issue("client")
    port = free_port()
    tls = ["--tls-port", str(port), "--tls-auth-clients", "yes", "--tls-ca-cert-file", str(authority.file)]
    tls += ["--tls-cert-file", str(theirs.file), "--tls-key-file", str(theirs.key)]
    files = {"redis_certificate_file": ours.file.name, "redis_key_file": ours.key.name}
    with Redis(work, *tls) as server:
        url = f"rediss://{LOOPBACK}:{port}"
        assert server.ask("PING") == "+PONG"
        assert counts(work, redis_url=url, redis_ca_file=authority.file.name, **files)

        others = Authority(work, "others")
        for wrong in (
            {**files, "redis_ca_file": others.file.name},
            files,
            {"redis_ca_file": authority.file.name},
        ):
            store = open_store(configuration(work, redis_url=url, **{**wrong, "on_unavailable": "open"}))
            assert store.charge([charge_of(messages(5))])[0].degraded
            store.close()


def test_sentinels_and_a_master_with_a_password(work: Path) -> None:
    """Sentinels are asked without it, the master with it."""
    with Sentinels(work) as sentinels:
        assert sentinels.master.ask(USER) == "+OK"
        assert counts(
            work,
            redis_url="redis://mailreeve@mymaster/0",
            redis_password_file=write_password(work),
            redis_sentinels=sentinels.addresses,
        )


def test_a_cluster_is_found_by_any_node(work: Path, redis_cluster: Cluster) -> None:
    """The URL names one node, `redis_cluster` others, of which some may be away."""
    first, *others = redis_cluster.addresses
    away = f"{LOOPBACK}:{free_port()}"

    assert counts(work, redis_url=f"redis://{first}", redis_cluster=others)
    assert counts(work, redis_url=f"redis://{away}", redis_cluster=[away, others[1]])


def test_the_password_is_in_no_log_line(work: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A wrong one is an outage, whose line says what is wrong and not what was sent."""
    with Redis(work) as server:
        url = f"redis://mailreeve@{LOOPBACK}:{server.port}"
        settings = configuration(
            work,
            redis_url=url,
            redis_password_file=write_password(work),
            on_unavailable="open",
        )
        store = open_store(settings)
        with caplog.at_level(logging.DEBUG):
            assert store.charge([charge_of(messages(5))])[0].degraded
        store.close()

    assert "invalid username-password pair" in caplog.text
    assert PASSWORD not in caplog.text + repr(read_way(settings))


def test_the_time_is_shared_by_all_sentinels(work: Path) -> None:
    """However many are asked in vain, they take no longer together than one server may."""
    found = way(work, redis_url="redis://mymaster", redis_sentinels=["192.0.2.1", "192.0.2.2:26380"])

    assert [one.timeout_seconds for one in found.sentinels] == [2.5, 2.5]
    assert [(one.url.host, one.url.port) for one in found.sentinels] == [
        ("192.0.2.1", 26379),
        ("192.0.2.2", 26380),
    ]


@pytest.mark.parametrize(
    ("limits", "place", "problem"),
    [
        (
            {"redis_url": "redis://h", "redis_sentinels": ["a"], "redis_cluster": ["b"]},
            "redis_cluster",
            "beside",
        ),
        ({"redis_url": "unix:///s", "redis_sentinels": ["a"]}, "redis_url", "unix socket"),
        ({"redis_url": "redis://h/2", "redis_cluster": ["b"]}, "redis_url", "database"),
        ({"redis_url": "redis://:hush@h", "redis_password_file": "f"}, "redis_password_file", "beside"),
        ({"redis_url": "redis://h", "redis_password_file": "none"}, "redis_password_file", "No such file"),
        ({"redis_url": "rediss://h", "redis_certificate_file": "c"}, "redis_key_file", "belongs"),
        ({"redis_url": "redis://h", "redis_ca_file": "ca.pem"}, "redis_ca_file", "without TLS"),
        ({"redis_url": "rediss://h", "redis_ca_file": "none.pem"}, "redis_ca_file", "not there"),
        ({"redis_url": "rediss://h", "redis_ca_file": "mailreeve.toml"}, "redis_ca_file", "cannot be used"),
        ({"redis_url": "redis://h", "redis_sentinels": ["a:b"]}, "redis_sentinels[0]", "port is no number"),
        ({"redis_url": "redis://h", "redis_cluster": ["b", "unix:///s"]}, "redis_cluster[1]", "no host"),
        ({"redis_url": "http://h"}, "redis_url", "not a URL"),
    ],
)
def test_settings_that_do_not_fit_are_told_with_their_place(
    tmp_path: Path, limits: dict[str, object], place: str, problem: str
) -> None:
    """Before any daemon asks Redis, and without a password."""
    (tmp_path / "mailreeve.toml").write_text("no certificate")
    with pytest.raises(ConfigError) as caught:
        way(tmp_path, **limits)

    assert caught.value.place == f"limits.{place}"
    assert problem in caught.value.problem
    assert caught.value.hint
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "mode", "problem"),
    [(PASSWORD, 0o644, "others can read"), ("\n", 0o600, "empty"), (PASSWORD, 0o600, "")],
)
def test_a_password_file_is_its_readers_alone(tmp_path: Path, text: str, mode: int, problem: str) -> None:
    """As a private key is; one that is empty is a mistake and no password."""
    settings = {"redis_url": "redis://h", "redis_password_file": write_password(tmp_path, text, mode)}
    if not problem:
        assert way(tmp_path, **settings).access.url.password == PASSWORD
        return
    with pytest.raises(ConfigError, match=problem) as caught:
        way(tmp_path, **settings)

    assert PASSWORD not in str(caught.value)
