from __future__ import annotations

from mailreeve_policyd.moderation import MAX_KEYS, Moderation
from tests.policyd.limit_stores import SECOND, HandClock


def test_so_many_a_minute_are_admitted_and_the_next_tells_of_the_others() -> None:
    """Each kind on its own; a minute begins with the first that is admitted in it."""
    clock = HandClock()
    moderation = Moderation(2, clock)

    assert [moderation.admit("idle") for _ in range(5)] == [0, 0, None, None, None]
    assert moderation.admit("slow") == 0
    clock.advance(59 * SECOND)
    assert moderation.admit("idle") is None
    clock.advance(SECOND)
    assert [moderation.admit("idle") for _ in range(3)] == [4, 0, None]


def test_no_more_kinds_are_followed_than_there_are() -> None:
    """A caller that makes kinds out of what peers send would fill neither the memory nor the log."""
    moderation = Moderation(1, HandClock())
    admitted = [moderation.admit(str(number)) for number in range(MAX_KEYS + 1)]

    assert admitted == [0] * MAX_KEYS + [None]
