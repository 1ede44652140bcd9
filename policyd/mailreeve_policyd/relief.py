"""One loop and several threads: where the work of one turn takes too long, another thread turns the loop.

So work may block, as everything beside the doors does (DESIGN.md section 2), and costs nobody else more than
the patience; work that does not block costs no hand-over to a thread. Go's scheduler treats system calls so.
Knows threads and time; knows no socket and no mail.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from functools import partial
from typing import Generic, Protocol, TypeVar

log = logging.getLogger(__name__)

PATIENCE_SECONDS = 0.02
"""Work may keep the loop for so long, and up to twice as long until it is noticed. A tenth of a millisecond
is usual: this is a store, a name server or a disk that is away."""

MOST_THREADS = 32
"""More pieces of slow work than this at once make the loop wait. A store that is away is noticed after its
first timeout, in which a new piece of work can begin every PATIENCE_SECONDS."""

WorkT = TypeVar("WorkT")


class Loop(Protocol[WorkT]):
    """What is turned. But for `do` and `post`, one thread at a time calls it and sees what another did."""

    def next_work(self) -> WorkT | None:
        """Wait for what comes. None when it is over."""

    def do(self, work: WorkT) -> None:
        """The work itself. Must not touch the loop, which another thread may be turning by now."""

    def done(self, work: WorkT) -> None:
        """It is done: soon after, or later if it took long."""

    def post(self, callback: Callable[[], None]) -> None:
        """Have `next_work` call this soon; from any thread."""


class Relief(Generic[WorkT]):
    """Turns a loop. `begin_thread` is called at the begin of each thread that may turn it."""

    def __init__(
        self,
        loop: Loop[WorkT],
        begin_thread: Callable[[], None] = lambda: None,
        patience_seconds: float = PATIENCE_SECONDS,
        most_threads: int = MOST_THREADS,
    ) -> None:
        self._loop = loop
        self._begin_thread = begin_thread
        self._patience = patience_seconds
        self._most = most_threads
        self._lock = threading.Lock()
        self._turn = 0
        """Who relieves another begins a new turn: the one whose turn has passed has lost the loop."""
        self._is_working = False
        self._has_work = threading.Event()
        self._over = threading.Event()
        self._failure: BaseException | None = None
        self._threads = 0
        self._resting = 0
        self._watch = threading.Semaphore(0)
        """Released once for each thread that may stand by: one does, the others rest."""

    def run(self) -> None:
        """Turn the loop to its end. The thread that calls this only waits.

        Raises what a thread raised outside of `do`'s own care: a bug.
        """
        self._start(has_loop=True)
        self._start()
        self._watch.release()
        self._over.wait()
        if self._failure is not None:
            raise self._failure

    def _start(self, *, has_loop: bool = False) -> None:
        thread = threading.Thread(target=self._live, args=(has_loop,), name="loop", daemon=True)
        thread.start()
        self._threads += 1

    def _live(self, has_loop: bool) -> None:
        try:
            self._begin_thread()
            if has_loop:
                self._have_the_loop()
            while not self._over.is_set():
                self._rest()
                if self._stand_by():
                    self._have_the_loop()
        except BaseException as error:  # noqa: BLE001 -- raised by `run`, whose thread is the main one
            self._failure = error
            self._end()

    def _have_the_loop(self) -> None:
        """Until it is over, or another thread has it."""
        while True:
            work = self._loop.next_work()
            if work is None:
                self._end()
                return
            turn = self._turn = self._turn + 1
            self._is_working = True
            if not self._has_work.is_set():
                self._has_work.set()
            self._loop.do(work)
            with self._lock:
                is_mine = self._turn == turn
                if is_mine:
                    self._is_working = False
            if not is_mine:
                self._loop.post(partial(self._loop.done, work))
                return
            self._loop.done(work)

    # -- while another has the loop ------------------------------------------------------------------

    def _rest(self) -> None:
        """Until a thread is needed that stands by."""
        with self._lock:
            self._resting += 1
        self._watch.acquire()
        with self._lock:
            self._resting -= 1

    def _stand_by(self) -> bool:
        """Watch who has the loop; True when it is this thread's now, False when it is over."""
        while not self._over.is_set():
            self._has_work.wait()
            turn = self._turn
            if self._over.wait(self._patience):
                return False
            if self._turn != turn:
                continue
            if self._take_over(turn):
                return True
            self._has_work.clear()
            if self._is_working:  # begun just now
                self._has_work.set()
        return False

    def _take_over(self, turn: int) -> bool:
        with self._lock:
            if self._turn != turn or not self._is_working:
                return False
            self._turn += 1
            self._is_working = False
            has_next = self._resting > 0
        if not has_next:
            self._start_another()
        self._watch.release()  # who rests next stands by, if there is nobody now
        return True

    def _start_another(self) -> None:
        if self._threads >= self._most:
            log.warning("%d threads wait for a store or a disk: requests wait for one of them", self._threads)
            return
        try:
            self._start()
        except RuntimeError:  # "can't start new thread"
            log.error("no further thread can be started")  # noqa: TRY400 -- the system's trouble

    def _end(self) -> None:
        self._over.set()
        self._has_work.set()
        self._watch.release(self._most)
