from __future__ import annotations

from math import inf

from mailreeve_policyd.crew import Crew, DaemonSpec, Generation


def generation() -> Generation[None]:
    return Generation((), 0o660, 1, 30.0, None, None)


def crew() -> Crew:
    return Crew(generation(), DaemonSpec("policyd", generation, lambda *_: None))


def test_workers_that_die_young_are_restarted_more_and_more_slowly() -> None:
    """The configuration once worked, so the daemon goes on trying, without burning the machine."""
    dying = crew()

    assert [dying.delay_after_death(1.0, now=100.0) for _ in range(8)] == [0.5, 1, 2, 4, 8, 16, 30, 30]
    assert dying.next_start == 130.0


def test_a_worker_that_dies_after_a_long_life_is_replaced_at_once() -> None:
    """Its death says nothing about the next one; what came before is forgotten."""
    dying = crew()
    dying.delay_after_death(1.0, now=100.0)

    assert dying.delay_after_death(3600.0, now=5000.0) == 0.0
    assert dying.delay_after_death(1.0, now=5001.0) == 0.5


def test_a_crew_may_start_at_once() -> None:
    """Only deaths, and a system without room for a process, make it wait."""
    fresh = crew()
    assert fresh.next_start == -inf

    fresh.wait_for_the_system(now=100.0)
    assert fresh.next_start == 130.0
