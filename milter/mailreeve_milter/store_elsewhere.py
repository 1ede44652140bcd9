"""A limit store that an event loop must not ask, as it may have to wait. Knows no limits and no loop."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from mailreeve_policyd.limits import Charge, Charged, LimitStore, Usage
from mailreeve_policyd.resolver import NotAtHandError


class StoreElsewhere:
    """A LimitStore that raises NotAtHandError, and counts nothing, in threads that must never wait.

    So what a rule decides without a limit is decided where it arose, and only what is counted takes a thread.
    """

    def __init__(self, store: LimitStore) -> None:
        self._store = store
        self._never_waiting: frozenset[int] = frozenset()

    def never_wait_in(self, thread: int) -> None:
        """From now on this thread (as threading.get_ident) gets NotAtHandError."""
        self._never_waiting |= {thread}

    def charge(self, charges: Sequence[Charge]) -> tuple[Usage, ...]:
        """LimitStore.charge."""
        return self._here().charge(charges)

    def charge_each(self, calls: Sequence[Sequence[Charge]]) -> Sequence[Charged]:
        """LimitStore.charge_each."""
        return self._here().charge_each(calls)

    def usage(self, charges: Sequence[Charge]) -> tuple[Usage, ...]:
        """LimitStore.usage."""
        return self._here().usage(charges)

    def close(self) -> None:
        """LimitStore.close."""
        self._store.close()

    def _here(self) -> LimitStore:
        if threading.get_ident() in self._never_waiting:
            raise NotAtHandError
        return self._store
