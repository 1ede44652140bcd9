"""What the resolver remembers, under a clock of the test."""

from __future__ import annotations

import pytest

from mailreeve_policyd.errors import ResolverError
from mailreeve_policyd.resolver import Answer
from mailreeve_policyd.resolver_cache import AnswerCache, Remembered

KEY = ("example.org", "TXT")


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_an_answer_holds_for_its_ttl() -> None:
    """It is there until its TTL is over."""
    clock = Clock()
    cache = AnswerCache(10, clock)
    cache.put(KEY, Remembered(Answer((b"x",), ttl=60)))

    clock.now += 59.9
    held = cache.get(KEY)
    assert held is not None
    assert held.unwrap().records == (b"x",)
    clock.now += 0.1
    assert cache.get(KEY) is None


@pytest.mark.parametrize(
    ("outcome", "seconds"),
    [
        (Answer((b"x",), ttl=86400), 3600),
        (Answer((), ttl=86400), 900),
        (Answer((), exists=False, ttl=30), 30),
        ("no answer in time", 5),
    ],
)
def test_nothing_is_remembered_for_ever(outcome: Answer[bytes] | str, seconds: int) -> None:
    """Records hold an hour at most, absence a quarter, failures five seconds."""
    assert Remembered(outcome).seconds == seconds


def test_the_number_of_answers_is_bounded() -> None:
    """The oldest goes first."""
    cache = AnswerCache(2, Clock())
    for name in ("a", "b", "a", "c"):
        cache.put((name, "A"), Remembered(Answer((b"x",), ttl=60)))

    assert len(cache) == 2
    assert cache.get(("b", "A")) is None
    assert cache.get(("a", "A")) is not None


@pytest.mark.parametrize(
    ("entries", "answer"),
    [(0, Answer((b"x",), ttl=60)), (5, Answer((b"x",), ttl=0)), (5, Answer((b"x" * 5000,), ttl=60))],
)
def test_some_answers_are_not_remembered(entries: int, answer: Answer[bytes]) -> None:
    """None with a bound of 0, none with TTL 0, and none that is large."""
    cache = AnswerCache(entries, Clock())
    cache.put(KEY, Remembered(answer))

    assert len(cache) == 0


def test_a_failure_is_raised_again() -> None:
    """What is remembered of a failure is raised as one."""
    failure: Remembered[bytes] = Remembered("no answer in time")

    with pytest.raises(ResolverError, match="no answer"):
        failure.unwrap()
