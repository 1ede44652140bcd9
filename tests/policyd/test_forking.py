"""What the garbage collector looks at, in a parent and in its workers."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from mailreeve_policyd.forking import share_memory, spare_the_collector


@pytest.fixture(autouse=True)
def collector_as_it_was() -> Iterator[None]:
    """Another test's collector is none of ours."""
    before = gc.get_threshold()
    yield
    gc.set_threshold(*before)
    gc.unfreeze()
    gc.enable()


def test_the_collector_works_again_once_what_was_loaded_is_shared() -> None:
    """A daemon loads without it; workers, and a reload in the parent, have it."""
    gc.disable()

    share_memory()

    assert gc.isenabled()
    assert gc.get_freeze_count() > 0


def test_a_worker_looks_at_what_came_on_top_and_not_before_so_much_of_it_came() -> None:
    """What the worker opened is never looked at again."""
    spare_the_collector(10_000)

    assert gc.get_threshold()[0] == 10_000
    assert gc.get_freeze_count() > 0
