"""Work in a bounded number of threads, its end told to the loop."""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue

from mailreeve_policyd.threads import Threads, Work

SECONDS = 10.0


class HandLoop:
    """A loop that is turned by hand: what is posted waits until `turn`."""

    def __init__(self) -> None:
        self._posted: SimpleQueue[tuple[Callable[[Work], None], Work]] = SimpleQueue()

    def post(self, callback: Callable[[Work], None], work: Work, /) -> None:
        self._posted.put((callback, work))

    def turn(self) -> None:
        """Run one callback."""
        callback, work = self._posted.get(timeout=SECONDS)
        callback(work)


def test_work_is_done_elsewhere_and_its_end_told_here() -> None:
    """In a thread of its own; what is to follow runs in the loop's thread."""
    loop, where = HandLoop(), list[int]()
    threads = Threads("test", 2, loop.post)
    threads.run(lambda: where.append(threading.get_ident()), lambda: where.append(threading.get_ident()))
    loop.turn()

    assert where[0] != threading.get_ident() == where[1]


def test_a_free_thread_is_used_again() -> None:
    """Work that comes after other work has ended starts no thread."""
    loop, where = HandLoop(), list[int]()
    threads = Threads("test", 5, loop.post)
    for _ in range(3):
        threads.run(lambda: where.append(threading.get_ident()), lambda: None)
        loop.turn()

    assert len(set(where)) == 1


def test_work_beyond_the_bound_waits_its_turn() -> None:
    """Two threads for three: the third begins when one of the others has ended, and all are done."""
    loop, gate, started, done = HandLoop(), threading.Event(), threading.Semaphore(0), list[int]()
    threads = Threads("test", 2, loop.post)

    def work() -> None:
        started.release()
        gate.wait(SECONDS)

    for number in range(3):
        threads.run(work, lambda number=number: done.append(number))  # type: ignore[misc]
    assert started.acquire(timeout=SECONDS)
    assert started.acquire(timeout=SECONDS)
    assert not started.acquire(blocking=False)
    gate.set()
    for _ in range(3):
        loop.turn()

    assert sorted(done) == [0, 1, 2]
