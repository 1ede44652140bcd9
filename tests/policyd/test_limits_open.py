"""Which store a configuration opens."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from mailreeve_policyd.config import parse_configuration
from mailreeve_policyd.errors import ConfigError, StoreError
from mailreeve_policyd.limits import LimitStore
from mailreeve_policyd.limits_open import FILE_NAME, check_store, open_store
from tests.lab.ports import LOOPBACK, free_port
from tests.lab.redis import Redis
from tests.policyd.limit_stores import HandClock, charge_of, messages


def opened(folder: Path, limits: str = "") -> LimitStore:
    """The store of a mailreeve.toml with these lines under [limits]."""
    text = f'state_dir = "state"\n[limits]\n{limits}'
    return open_store(parse_configuration(text.encode(), folder / "mailreeve.toml"), HandClock())


def redis_lines(url: str, on_unavailable: str) -> str:
    """[limits] for a Redis."""
    return f'store = "redis"\nredis_url = "{url}"\non_unavailable = "{on_unavailable}"'


def away() -> str:
    """The URL of a Redis that does not run."""
    return f"redis://{LOOPBACK}:{free_port()}/0"


def test_by_default_the_machine_counts_in_its_state_directory(tmp_path: Path) -> None:
    """Nothing is made before the first charge; what another daemon charged is seen."""
    policyd, milter = opened(tmp_path), opened(tmp_path)
    assert not (tmp_path / "state").exists()
    charge = charge_of(messages(5))

    assert [store.charge([charge])[0].used for store in (policyd, milter)] == [1, 2]
    assert (tmp_path / "state" / FILE_NAME).exists()
    policyd.close()
    milter.close()


def test_while_the_machines_store_is_away_the_process_counts_in_memory(tmp_path: Path) -> None:
    """A disk that cannot be written is an outage of the store and not of mail."""
    (tmp_path / "state").write_text("in the way")
    store = opened(tmp_path)
    charge = charge_of(messages(1))

    usages = [store.charge([charge])[0] for _ in range(2)]

    assert [(usage.exceeded, usage.degraded) for usage in usages] == [(False, True), (True, True)]
    store.close()


@pytest.mark.system
def test_redis_counts_for_all_machines(tmp_path: Path, redis_server: Redis) -> None:
    """Two machines with state directories of their own share what they count."""
    stores = [opened(tmp_path / name, redis_lines(redis_server.url, "closed")) for name in ("a", "b")]
    charge = charge_of(messages(5))

    assert [store.charge([charge])[0].used for store in stores] == [1, 2]
    for store in stores:
        store.close()


def test_while_redis_is_away_the_machine_counts(tmp_path: Path) -> None:
    """on_unavailable = "local": in the state directory, where both daemons see it."""
    stores = [opened(tmp_path, redis_lines(away(), "local")) for _ in range(2)]
    charge = charge_of(messages(1))

    usages = [store.charge([charge])[0] for store in stores]

    assert [(usage.exceeded, usage.degraded) for usage in usages] == [(False, True), (True, True)]
    for store in stores:
        store.close()


def test_open_and_closed_count_nowhere(tmp_path: Path) -> None:
    """`open` lets pass, `closed` cannot say; neither makes a file."""
    store = opened(tmp_path, redis_lines(away(), "open"))
    assert store.charge([charge_of(messages(0))])[0].exceeded is False
    store.close()

    store = opened(tmp_path, redis_lines(away(), "closed"))
    with pytest.raises(StoreError):
        store.charge([charge_of(messages(1))])
    store.close()
    assert not (tmp_path / "state").exists()


def test_a_url_that_cannot_be_used_is_the_operators_mistake(tmp_path: Path) -> None:
    """It is told with its key and without its password, before any worker runs."""
    text = "[limits]\n" + redis_lines("redis://:hush/hush@192.0.2.1/0", "local")
    configuration = parse_configuration(text.encode(), tmp_path / "mailreeve.toml")

    with pytest.raises(ConfigError) as caught:
        check_store(configuration)

    assert caught.value.place == "limits.redis_url"
    assert "hush" not in str(caught.value)


def test_counting_in_memory_is_not_called_counting_on_the_machine(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """With the state directory away each process counts for itself: the log must not promise more."""
    (tmp_path / "state").write_text("in the way")
    store = opened(tmp_path)

    with caplog.at_level(logging.WARNING):
        store.charge([charge_of(messages(1))])

    assert "each process counts for itself" in caplog.text
    assert "on this machine alone" not in caplog.text
    store.close()
