"""A loop that goes on while its work takes long."""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue

import pytest

from mailreeve_policyd.relief import Relief

TIMEOUT_SECONDS = 10.0
PATIENCE_SECONDS = 0.002

Work = Callable[[], None]


class Errands:
    """A loop whose work is what the test gives it; None ends it."""

    def __init__(self) -> None:
        self.queue: SimpleQueue[Work | tuple[Work] | None] = SimpleQueue()
        self.done_with: SimpleQueue[Work] = SimpleQueue()
        self.turned_by: set[int] = set()

    def next_work(self) -> Work | None:
        while isinstance(item := self.queue.get(timeout=TIMEOUT_SECONDS), tuple):
            item[0]()
        self.turned_by.add(threading.get_ident())
        return item

    def do(self, work: Work) -> None:
        work()

    def done(self, work: Work) -> None:
        self.done_with.put(work)

    def post(self, callback: Work) -> None:
        self.queue.put((callback,))

    def give(self, work: Work) -> Work:
        self.queue.put(work)
        return work

    def next_done(self) -> Work:
        return self.done_with.get(timeout=TIMEOUT_SECONDS)


class Running:
    """A loop in threads of this process."""

    def __init__(self, begin_thread: Work = lambda: None, most_threads: int = 8) -> None:
        self.loop = Errands()
        self.relief = Relief(self.loop, begin_thread, PATIENCE_SECONDS, most_threads)
        self.failures: list[BaseException] = []
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        try:
            self.relief.run()
        except ZeroDivisionError as error:
            self.failures.append(error)

    def end(self) -> None:
        self.loop.queue.put(None)
        self.thread.join(TIMEOUT_SECONDS)
        assert not self.thread.is_alive()


class Gate:
    """Work that takes until the test opens it."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.opened = threading.Event()

    def __call__(self) -> None:
        self.begun.set()
        assert self.opened.wait(TIMEOUT_SECONDS)


def quick() -> None:
    """Work that takes no time."""


def test_quick_work_is_done_one_after_the_other() -> None:
    """And told of in that order."""
    running = Running()
    given = [running.loop.give(quick) for _ in range(100)]

    assert [running.loop.next_done() for _ in given] == given
    running.end()


def test_another_thread_goes_on_while_work_takes_long() -> None:
    """What was given later is done first; the slow work is told of in the end, too."""
    running, gate = Running(), Gate()
    running.loop.give(gate)
    assert gate.begun.wait(TIMEOUT_SECONDS)
    running.loop.give(quick)

    assert running.loop.next_done() is quick
    gate.opened.set()
    assert running.loop.next_done() is gate
    running.end()


def test_several_pieces_of_slow_work_hold_up_nobody() -> None:
    """Each costs a thread for as long as it takes."""
    running, gates = Running(), [Gate() for _ in range(5)]
    for gate in gates:
        running.loop.give(gate)
    assert all(gate.begun.wait(TIMEOUT_SECONDS) for gate in gates)
    running.loop.give(quick)

    assert running.loop.next_done() is quick
    for gate in gates:
        gate.opened.set()
    assert {running.loop.next_done() for _ in gates} == set(gates)
    running.end()


def test_with_all_threads_taken_the_loop_waits_for_one_and_goes_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The operator is told; afterwards slow work is left to another thread as before."""
    running, gates = Running(most_threads=2), [Gate() for _ in range(2)]
    for gate in gates:
        running.loop.give(gate)
    assert all(gate.begun.wait(TIMEOUT_SECONDS) for gate in gates)
    running.loop.give(quick)
    gates[1].opened.set()

    assert [running.loop.next_done(), running.loop.next_done()] == [gates[1], quick]
    gates[0].opened.set()
    assert running.loop.next_done() is gates[0]
    assert "2 threads wait" in caplog.text

    again = Gate()
    running.loop.give(again)
    assert again.begun.wait(TIMEOUT_SECONDS)
    running.loop.give(quick)
    assert running.loop.next_done() is quick
    again.opened.set()
    assert running.loop.next_done() is again
    running.end()


def test_each_thread_that_turns_the_loop_was_prepared() -> None:
    """Before it does: the resolver is told which threads never wait."""
    prepared: set[int] = set()
    running, gate = Running(lambda: prepared.add(threading.get_ident())), Gate()
    running.loop.give(gate)
    running.loop.give(quick)
    assert running.loop.next_done() is quick
    gate.opened.set()
    assert running.loop.next_done() is gate
    running.end()

    assert len(running.loop.turned_by) > 1
    assert running.loop.turned_by <= prepared


def test_a_bug_in_the_loop_ends_it() -> None:
    """It is raised where the loop was started: the process ends, and is replaced."""
    running = Running()
    running.loop.post(lambda: 1 // 0)  # type: ignore[arg-type]  # a bug
    running.thread.join(TIMEOUT_SECONDS)

    assert [type(error) for error in running.failures] == [ZeroDivisionError]
