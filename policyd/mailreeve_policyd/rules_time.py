"""How much work the rules may be for one question: a bound in seconds of the processor, and its stopwatch.

What is bounded is work, and not waiting: DNS and Redis have bounds of their own, and a machine that is busy
with something else must not defer mail. Knows no rules.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

MAX_RULES_SECONDS = 1.0
"""Unless the settings say otherwise: two thousand plain rules take some milliseconds."""

BOUND = "deciding.max_rules_seconds"
"""The setting's name, for the record."""

Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class RulesTime:
    """The bound. `clock` gives seconds that only grow, `spent` those that this thread has worked.

    `clock` is far cheaper to ask, and no thread works longer than time passes: `spent` is asked again only
    when the clock says that it could be over.
    """

    seconds: float = MAX_RULES_SECONDS
    clock: Clock = time.monotonic
    spent: Clock = time.thread_time


class RulesStopwatch:
    """The time of one question, from when this is made. For one thread."""

    __slots__ = ("_began", "_bound", "_worked")

    def __init__(self, bound: RulesTime) -> None:
        self._bound = bound
        self._worked = bound.spent()
        self._began = bound.clock()

    def is_over(self) -> bool:
        """Has more been worked than may be?"""
        bound = self._bound
        if bound.clock() - self._began <= bound.seconds:
            return False
        return bound.spent() - self._worked > bound.seconds
