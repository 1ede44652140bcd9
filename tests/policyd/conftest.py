"""What tests of several modules share: a real Redis."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.lab.redis import Redis
from tests.lab.work import work_folder


@pytest.fixture(scope="session")
def redis_server() -> Iterator[Redis]:
    """One Redis for the whole run; a test that stops it starts its own instead."""
    with work_folder() as work, Redis(work) as server:
        yield server
