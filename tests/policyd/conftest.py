"""What tests of several modules share: a real Redis."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from tests.lab.redis import Cluster, Redis
from tests.lab.work import work_folder

VALKEY = shutil.which("valkey-server")


@pytest.fixture(scope="session")
def redis_server() -> Iterator[Redis]:
    """One Redis for the whole run; a test that stops it starts its own instead."""
    with work_folder() as work, Redis(work) as server:
        yield server


@pytest.fixture(scope="session")
def redis_cluster() -> Iterator[Cluster]:
    """One Cluster for the whole run, which no test harms."""
    with work_folder() as work, Cluster(work) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def valkey_server() -> Iterator[Redis]:
    """One Valkey for the whole run, where it is installed (Debian 12 has no package)."""
    assert VALKEY is not None
    with work_folder() as work, Redis(work, name="valkey", program=VALKEY) as server:
        yield server
