"""Sets and tables that are asked where they live, and what may be remembered of the answers.

Knows no server and no rules. The real one is live_redis; `GivenNames` holds what an expect line gives.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Protocol

from mailreeve_policyd.errors import StoreError
from mailreeve_policyd.escape import encode_wire, escape

REMEMBER_SECONDS = 2.0
"""How old an answer may be (DESIGN.md section 5, promise 6): what the administrator adds holds that soon."""

MAX_REMEMBERED = 10_000
"""Answers that a process remembers, some four megabytes: what was asked longest ago is forgotten first."""

MAX_SPELT = 100
"""Characters of a question that are remembered as they are: strangers have long names, and IPv6 addresses
with a hundred networks around each. What is longer is known by its digest."""

RETRY_SECONDS = 2.0
"""While nothing answers one request tries again this often, and all others are told at once."""


class UnusableName(StoreError):  # noqa: N818 -- it is a StoreError, about one name alone
    """This set or table cannot be read, others may: the key holds something else, or may not be read."""


class LiveNames(Protocol):
    """Sets and tables outside, by the names that the rules file gives in quotes. Safe from any thread.

    Raises:
        StoreError: nothing can be known now; UnusableName if that is so for this name alone.
    """

    def has(self, name: str, members: Sequence[str]) -> bool:
        """Is one of `members` (one to 127, as facts compare: lower case) in the set?"""

    def value(self, name: str, key: str) -> str | None:
        """What stands in the table under `key` (lower case); None if nothing does."""


@dataclass(frozen=True, slots=True)
class GivenNames:
    """Sets and tables as values: what the `where` of an expect line gives."""

    sets: Mapping[str, frozenset[str]]
    tables: Mapping[str, Mapping[str, str]]

    def has(self, name: str, members: Sequence[str]) -> bool:
        """LiveNames.has."""
        return not self.sets.get(name, frozenset()).isdisjoint(members)

    def value(self, name: str, key: str) -> str | None:
        """LiveNames.value."""
        return self.tables.get(name, {}).get(key)


_Question = tuple[str, str, int, str | bytes]
"""What is asked, of which set or table, how many members or keys, and these, as _brief has them."""


@dataclass(frozen=True, slots=True)
class _Answer:
    until: float
    value: bool | str | None
    error: str | None = None


class RememberedNames:
    """LiveNames that asks `names` again only for what it has not asked in the last two seconds.

    When nothing answers it says so at once to everybody but one request every RETRY_SECONDS, logs once
    that it went and once that it is back; a name that cannot be used is logged once. `clock` gives seconds
    that only grow.
    """

    def __init__(
        self,
        names: LiveNames,
        log: logging.Logger,
        clock: Callable[[], float] = time.monotonic,
        what: str = "Redis with the sets and tables of the rules",
    ) -> None:
        self._names = names
        self._log = log
        self._clock = clock
        self._what = what
        self._answers: dict[_Question, _Answer] = {}
        self._lock = threading.Lock()
        self._is_away = False
        self._next_try = 0.0
        self._unusable: set[tuple[str, str]] = set()

    def has(self, name: str, members: Sequence[str]) -> bool:
        """LiveNames.has, as of at most two seconds ago."""
        question = ("set", name, len(members), _brief("\0".join(members)))
        return bool(self._ask(question, lambda: self._names.has(name, members)))

    def value(self, name: str, key: str) -> str | None:
        """LiveNames.value, as of at most two seconds ago."""
        found = self._ask(("table", name, 1, _brief(key)), lambda: self._names.value(name, key))
        return found if isinstance(found, str) else None

    def _ask(self, question: _Question, ask: Callable[[], bool | str | None]) -> bool | str | None:
        now = self._clock()
        known = self._answers.get(question)
        if known is None or known.until <= now:
            known = self._ask_anew(question, ask, now)
        if known.error is not None:
            raise UnusableName(known.error)
        return known.value

    def _ask_anew(self, question: _Question, ask: Callable[[], bool | str | None], now: float) -> _Answer:
        if self._is_away and not self._may_try(now):
            raise StoreError(f"{self._what} is away")
        try:
            answer = _Answer(now + REMEMBER_SECONDS, ask())
        except UnusableName as error:
            answer = _Answer(now + REMEMBER_SECONDS, None, str(error))
            self._tell_unusable(question, str(error))
        except StoreError as error:
            self._went(error)
            raise
        self._answered()
        self._remember(question, answer)
        return answer

    def _remember(self, question: _Question, answer: _Answer) -> None:
        with self._lock:
            self._answers.pop(question, None)  # so that it stands at the end, as the newest
            while len(self._answers) >= MAX_REMEMBERED:
                del self._answers[next(iter(self._answers))]
            self._answers[question] = answer

    def _may_try(self, now: float) -> bool:
        with self._lock:
            if now < self._next_try:
                return False
            self._next_try = now + RETRY_SECONDS
            return True

    def _went(self, error: StoreError) -> None:
        with self._lock:
            self._next_try = self._clock() + RETRY_SECONDS
            if self._is_away:
                return
            self._is_away = True
        self._log.warning(
            "%s is away (%s): rules that ask it do as their on-unknown says", self._what, escape(str(error))
        )

    def _answered(self) -> None:
        if not self._is_away:
            return
        with self._lock:
            if not self._is_away:
                return
            self._is_away = False
        self._log.warning("%s is back", self._what)

    def _tell_unusable(self, question: _Question, why: str) -> None:
        kind, name, *_ = question
        with self._lock:
            if (kind, name) in self._unusable:  # bounded: the rules file names them
                return
            self._unusable.add((kind, name))
        self._log.error("the %s %s in Redis cannot be read: %s", kind, escape(name), escape(why))


def _brief(asked: str) -> str | bytes:
    """The same for the same, and small."""
    return asked if len(asked) <= MAX_SPELT else blake2b(encode_wire(asked), digest_size=16).digest()


class PartedNames:
    """LiveNames of which some may be away while others answer, as on the nodes of a cluster.

    Each set or table is remembered by itself; `log` and `clock` are those of RememberedNames.
    """

    def __init__(
        self, names: LiveNames, log: logging.Logger, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._names = names
        self._log = log
        self._clock = clock
        self._parts: dict[tuple[str, str], RememberedNames] = {}  # bounded: the rules file names them

    def has(self, name: str, members: Sequence[str]) -> bool:
        """LiveNames.has."""
        return self._part("set", name).has(name, members)

    def value(self, name: str, key: str) -> str | None:
        """LiveNames.value."""
        return self._part("table", name).value(name, key)

    def _part(self, kind: str, name: str) -> RememberedNames:
        found = self._parts.get((kind, name))
        if found is not None:
            return found
        what = f"the node of Redis with the {kind} {escape(name)}"
        return self._parts.setdefault(
            (kind, name), RememberedNames(self._names, self._log, self._clock, what)
        )
