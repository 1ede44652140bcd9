"""Couriers: tried again, bounded, never in the way, and tried once more at the end."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest

from mailreeve_policyd.notices_courier import Attempt, Courier, Fate, NoticeCounters, Patience
from mailreeve_policyd.notices_event import NoticeEvent
from tests.lab.process import wait_until
from tests.policyd.notice_services import event

AT_ONCE = Patience(tries=5, retry_seconds=0.001)
LATER = Attempt(Fate.LATER, "451 not now")
NEVER = Attempt(Fate.NEVER, "550 no such user")
TAKEN = Attempt(Fate.TAKEN, "250 Ok")


@dataclass
class Desk:
    """A Target that answers by a script, then takes everything; it may be made to wait."""

    script: list[Attempt] = field(default_factory=list)
    readers: Sequence[str] = ("root@example.org",)
    name: str = "mail"
    tried: list[tuple[str, str]] = field(default_factory=list)
    is_open: threading.Event = field(default_factory=threading.Event)
    seen_by: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.is_open.set()

    def addressees(self, event: NoticeEvent) -> Sequence[str]:
        return self.readers

    def deliver(self, event: NoticeEvent, addressee: str) -> Attempt:
        self.tried.append((event.id, addressee))
        self.seen_by.add(threading.get_ident())
        self.is_open.wait(30)
        return self.script.pop(0) if self.script else TAKEN


def finish(courier: Courier, seconds: float = 30.0) -> None:
    courier.begin_to_close(seconds)
    courier.finish()


def settled(courier: Courier) -> Callable[[], bool]:
    return lambda: courier.counters().waiting == 0


def test_a_notice_goes_to_each_addressee_by_one_thread_of_its_own() -> None:
    """Both are told, each once, and not by the thread that decided."""
    desk = Desk(readers=("root@example.org", "ann@example.org"))
    courier = Courier(desk, AT_ONCE)
    told = event()

    courier.post(told)
    wait_until(settled(courier), "told")

    assert desk.tried == [(told.id, "root@example.org"), (told.id, "ann@example.org")]
    assert len(desk.seen_by) == 1
    assert threading.get_ident() not in desk.seen_by
    assert courier.counters() == NoticeCounters("mail", 0, 2, 0, 0, 0)
    finish(courier)


def test_without_a_notice_there_is_no_thread() -> None:
    """A daemon that tells nobody has none, nor one whose notice has nobody to read it."""
    courier = Courier(Desk(readers=()), AT_ONCE)
    before = threading.active_count()

    courier.post(event())

    assert threading.active_count() == before
    finish(courier)


def test_what_is_not_taken_now_is_tried_again() -> None:
    """Twice later, then taken: the same notice three times, once taken."""
    desk = Desk([LATER, LATER])
    courier = Courier(desk, AT_ONCE)

    courier.post(event())
    wait_until(settled(courier), "told")

    assert len(set(desk.tried)) == 1
    assert len(desk.tried) == 3
    assert courier.counters() == NoticeCounters("mail", 0, 1, 0, 0, 2)
    finish(courier)


def test_it_is_given_up_after_so_many_tries(caplog: pytest.LogCaptureFixture) -> None:
    """The log says whom it did not reach and what the other side said last."""
    desk = Desk([LATER] * 9)
    courier = Courier(desk, AT_ONCE)

    courier.post(event())
    wait_until(settled(courier), "given up")

    assert len(desk.tried) == AT_ONCE.tries
    assert courier.counters().failed == 1
    assert "the notice of warning by day did not reach root@example.org: 451 not now" in caplog.text
    finish(courier)


def test_a_refusal_is_not_tried_again() -> None:
    """A 5xx is the last word."""
    desk = Desk([NEVER])
    courier = Courier(desk, AT_ONCE)

    courier.post(event())
    wait_until(settled(courier), "refused")

    assert len(desk.tried) == 1
    assert courier.counters().failed == 1
    finish(courier)


def test_waits_double_and_end_within_ten_minutes() -> None:
    """By default 30, 60, 120 and 240 seconds, a quarter more at most."""
    patience = Patience()
    least = [patience.wait(tried, 0.0) for tried in range(1, patience.tries)]
    most = [patience.wait(tried, 1.0) for tried in range(1, patience.tries)]

    assert least == [30, 60, 120, 240]
    assert sum(most) < 600
    assert Patience(20, 3600.0).wait(19, 0.0) == 3600


def test_a_full_queue_drops_and_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    """Who posts never waits; dropped ones are counted, and the log has one line."""
    desk = Desk()
    desk.is_open.clear()
    courier = Courier(desk, Patience(queue_size=2))

    courier.post(event())
    wait_until(lambda: bool(desk.tried), "the first is under way")
    for _ in range(5):
        courier.post(event())

    assert courier.counters() == NoticeCounters("mail", 3, 0, 0, 3, 0)
    assert caplog.text.count("notices.queue_size") == 1
    desk.is_open.set()
    finish(courier)
    assert courier.counters() == NoticeCounters("mail", 0, 3, 0, 3, 0)


def test_nobody_gets_more_than_so_many_in_an_hour(caplog: pytest.LogCaptureFixture) -> None:
    """A crowd fills no mailbox: what is beyond is dropped, counted and logged once, until the next hour."""
    now = [0.0]
    desk = Desk()
    courier = Courier(desk, Patience(most_an_hour=2), clock=lambda: now[0])
    for _ in range(5):
        courier.post(event())
    wait_until(settled(courier), "the first two are sent")
    assert courier.counters() == NoticeCounters("mail", 0, 2, 0, 3, 0)
    assert caplog.text.count("notices.most_an_hour") == 1

    now[0] = 3600.0
    courier.post(event())
    wait_until(settled(courier), "the sixth is sent")
    finish(courier)
    assert courier.counters() == NoticeCounters("mail", 0, 3, 0, 3, 0)


def test_at_the_end_what_waits_is_tried_once_more() -> None:
    """One that would wait for an hour is tried now, and not after that."""
    desk = Desk([LATER, LATER, LATER])
    courier = Courier(desk, Patience(retry_seconds=3600.0))
    courier.post(event())
    wait_until(lambda: courier.counters().retried == 1, "tried")

    finish(courier)

    assert len(desk.tried) == 2
    assert courier.counters() == NoticeCounters("mail", 0, 0, 1, 0, 1)


def test_what_is_left_at_the_end_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """A server that never answers cannot hold up the end."""
    desk = Desk()
    desk.is_open.clear()
    courier = Courier(desk, AT_ONCE)
    courier.post(event())
    courier.post(event())
    wait_until(lambda: bool(desk.tried), "the first is under way")

    finish(courier, 0.05)

    assert "2 notices by mail are lost at the end: warning by day, warning by day" in caplog.text
    desk.is_open.set()


def test_a_bug_in_one_delivery_does_not_end_the_thread(caplog: pytest.LogCaptureFixture) -> None:
    """It is logged with its traceback, and the next notice is told."""

    class Broken(Desk):
        def deliver(self, event: NoticeEvent, addressee: str) -> Attempt:
            if not self.tried:
                self.tried.append((event.id, addressee))
                raise ZeroDivisionError
            return super().deliver(event, addressee)

    courier = Courier(Broken(), AT_ONCE)
    courier.post(event())
    courier.post(event())
    wait_until(settled(courier), "both are over")

    assert courier.counters().sent == 1
    assert courier.counters().failed == 1
    assert "this is a bug" in caplog.text
    finish(courier)
