"""The store in memory, beside what the contract of all stores asks of it."""

from __future__ import annotations

import time
from datetime import timedelta

from mailreeve_policyd.limits import MAX_DISTINCT, Charge, Limit, Unit, member_hash
from mailreeve_policyd.limits_memory import MemoryStore

LIMIT = Limit(MAX_DISTINCT, Unit.DISTINCT, timedelta(hours=1))


def test_a_charge_of_many_different_ones_looks_at_few_of_them() -> None:
    """Expect lines try such limits while the parent waits: 60,000 messages took it 90 seconds."""
    store = MemoryStore(lambda: 1e9)
    before = time.process_time()
    for number in range(2 * MAX_DISTINCT):
        member = member_hash(str(number))
        (usage,) = store.charge((Charge("crowd", b"bob", LIMIT, 1, member=member),))

    assert usage.exceeded
    assert usage.used == MAX_DISTINCT
    assert time.process_time() - before < 5
