"""A bounded number of threads for what an event loop must not wait for. Knows nothing of mail."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Protocol

log = logging.getLogger(__name__)

Work = Callable[[], None]


class NoThreadError(Exception):
    """There is no thread, and the system gives none (RLIMIT_NPROC, TasksMax, memory)."""


class Post(Protocol):
    """A loop's call_soon_threadsafe."""

    def __call__(self, callback: Callable[[Work], None], work: Work, /) -> object:
        """Have `callback(work)` called in the loop's thread, from any thread."""


class Threads:
    """At most `most` threads, each started when there is work and none that is free; they never end.

    All but the work happens in the loop's thread, so that no lock is needed: concurrent.futures costs
    four times as much.
    """

    def __init__(self, name: str, most: int, post: Post) -> None:
        self._name = name
        self._most = most
        self._post = post
        self._started = 0
        self._under_way = 0
        self._queue: SimpleQueue[tuple[Work, Work]] = SimpleQueue()

    def run(self, work: Work, when_done: Work) -> None:
        """Do `work`, which must not raise, in a thread, and then `when_done` in the loop's.

        Raises:
            NoThreadError: nobody can do it. Another try may find a thread.
        """
        if self._started < min(self._under_way + 1, self._most):
            self._start()
        self._under_way += 1
        self._queue.put((work, when_done))

    def _start(self) -> None:
        try:
            threading.Thread(target=self._serve, name=self._name, daemon=True).start()
        except RuntimeError as error:  # "can't start new thread"
            log.error("no further thread can be started")  # noqa: TRY400 -- the system's trouble
            if not self._started:
                raise NoThreadError from error
            return
        self._started += 1

    def _serve(self) -> None:
        while True:
            work, when_done = self._queue.get()
            work()
            self._post(self._finish, when_done)

    def _finish(self, when_done: Work) -> None:
        self._under_way -= 1
        when_done()
