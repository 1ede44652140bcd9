"""What the resolver remembers: answers by their TTL, failures for a moment, a bounded number of both.

Must not know how DNS is asked. RFC 2308 for negative answers, RFC 9520 for failures.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from mailreeve_policyd.errors import ResolverError
from mailreeve_policyd.resolver import Answer

MAX_TTL_SECONDS = 3600
"""Nothing is remembered for longer, so that a corrected record helps within the hour."""

MAX_NEGATIVE_TTL_SECONDS = 900
"""The same for what is not there (RFC 2308 section 5 allows one to three hours)."""

FAILURE_SECONDS = 5.0
"""How long a failure is remembered: a second to five minutes, RFC 9520 section 3.2. A silent server costs
each question its timeout once in so many seconds, not each message that asks it."""

MAX_CACHED_OCTETS = 4096
"""Larger answers are not remembered, or an attacker's records of 64 KB each would fill the memory."""

RECORD_OCTETS = 64
"""What a record that is no text counts towards that."""

Clock = Callable[[], float]
"""Seconds that never go back, as time.monotonic."""

Key = tuple[str, str]
"""Name and type of a question, as `parse_name` gives the name."""

RecordT = TypeVar("RecordT")


@dataclass(frozen=True, slots=True)
class Remembered(Generic[RecordT]):
    """An answer, or the text of a failure."""

    outcome: Answer[RecordT] | str

    def unwrap(self) -> Answer[RecordT]:
        """The answer.

        Raises:
            ResolverError: it was a failure.
        """
        if isinstance(self.outcome, str):
            raise ResolverError(self.outcome)
        return self.outcome

    @property
    def seconds(self) -> float:
        """How long it holds."""
        if isinstance(self.outcome, str):
            return FAILURE_SECONDS
        return min(self.outcome.ttl, MAX_TTL_SECONDS if self.outcome.records else MAX_NEGATIVE_TTL_SECONDS)

    @property
    def octets(self) -> int:
        """Roughly what it takes to hold."""
        if isinstance(self.outcome, str):
            return len(self.outcome)
        return sum(
            len(record) if isinstance(record, bytes) else RECORD_OCTETS for record in self.outcome.records
        )


class AnswerCache:
    """At most `entries` answers, the oldest going first; safe from any thread."""

    def __init__(self, entries: int, clock: Clock) -> None:
        self._entries = entries
        self._clock = clock
        self._lock = threading.Lock()
        self._held: OrderedDict[Key, tuple[float, Remembered[Any]]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._held)

    def get(self, key: Key) -> Remembered[Any] | None:
        """What is known and still holds."""
        held = self._held.get(key)
        if held is None or held[0] <= self._clock():
            return None
        return held[1]

    def put(self, key: Key, remembered: Remembered[Any]) -> None:
        """Remember, unless it is too large or does not hold at all."""
        seconds = remembered.seconds
        if not self._entries or seconds <= 0 or remembered.octets > MAX_CACHED_OCTETS:
            return
        with self._lock:
            self._held.pop(key, None)
            self._held[key] = (self._clock() + seconds, remembered)
            while len(self._held) > self._entries:
                self._held.popitem(last=False)
