"""A limit store that an event loop must not ask."""

from __future__ import annotations

import threading

import pytest

from mailreeve_milter.store_elsewhere import StoreElsewhere
from mailreeve_policyd.limits import LimitStore
from mailreeve_policyd.limits_memory import MemoryStore
from mailreeve_policyd.resolver import NotAtHandError
from tests.policyd.limit_stores import charge_of, messages

CHARGE = charge_of(messages(3))


def test_in_a_thread_that_must_not_wait_nothing_is_counted() -> None:
    """Whatever is asked: it is not at hand there."""
    store = StoreElsewhere(MemoryStore(lambda: 0.0))
    store.never_wait_in(threading.get_ident())

    with pytest.raises(NotAtHandError):
        store.charge([CHARGE])
    with pytest.raises(NotAtHandError):
        store.charge_each([[CHARGE]])
    with pytest.raises(NotAtHandError):
        store.usage([CHARGE])
    assert charged_in_another_thread(store) == 1


def test_in_any_other_thread_it_is_the_store() -> None:
    """Asked and counted as ever."""
    store: LimitStore = StoreElsewhere(MemoryStore(lambda: 0.0))

    assert store.charge([CHARGE])[0].used == 1
    assert len(store.charge_each([[CHARGE]])) == 1
    assert store.usage([CHARGE])[0].used == 3
    assert charged_in_another_thread(store) == 3


def charged_in_another_thread(store: LimitStore) -> int:
    """What is used after another thread has charged."""
    found: list[int] = []
    thread = threading.Thread(target=lambda: found.append(store.charge([CHARGE])[0].used))
    thread.start()
    thread.join()
    return found[0]
