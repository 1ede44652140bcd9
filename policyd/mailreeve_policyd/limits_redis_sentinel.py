"""The server that Sentinels name: the master of the moment, asked for again when it no longer serves.

Knows the one question that Sentinels answer here (SENTINEL GET-MASTER-ADDR-BY-NAME). Knows nothing of limits.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

import redis
from redis.exceptions import ReadOnlyError

from mailreeve_policyd.errors import StoreError
from mailreeve_policyd.limits_redis import OneServer, store_error
from mailreeve_policyd.limits_redis_script import Request
from mailreeve_policyd.redis_access import TROUBLE, Address


class SentinelServer:
    """A ScriptServer that is whichever server is master now.

    `sentinels` are asked in turn, the one that knew last first; `master` is the name that they watch it
    by, and `open_server` makes the connections to it. A master that fails is forgotten, and who asks next
    has the Sentinels asked again; `timeout_seconds` bounds how long a thread waits while another asks.
    """

    def __init__(
        self,
        sentinels: Sequence[redis.Redis],
        master: str,
        open_server: Callable[[Address], OneServer],
        timeout_seconds: float = 1.0,
    ) -> None:
        self._sentinels = list(sentinels)
        self._master = master
        self._open_server = open_server
        self._timeout = timeout_seconds
        self._lock = threading.Lock()
        self._current: OneServer | None = None

    def run(self, request: Request) -> object:
        """See ScriptServer."""
        server = self._current or self._find()
        try:
            return server.run(request)
        except StoreError as error:
            self._forget(server)
            if not isinstance(error.__cause__, ReadOnlyError):
                raise
        return self._find().run(request)  # it was made a replica, and has counted nothing

    def command(self, *words: bytes | str) -> object:
        """The answer to one command that only reads. Raises StoreError as `run`."""
        server = self._current or self._find()
        try:
            return server.command(*words)
        except StoreError:
            self._forget(server)
            raise

    def run_each(self, requests: Sequence[Request]) -> list[object]:
        """See ScriptServer."""
        try:
            server = self._current or self._find()
        except StoreError as error:
            return [error] * len(requests)
        answers = server.run_each(requests)
        if any(isinstance(answer, StoreError) for answer in answers):
            self._forget(server)
        return answers

    def close(self) -> None:
        """See ScriptServer."""
        current, self._current = self._current, None
        if current is not None:
            current.close()
        for sentinel in tuple(self._sentinels):
            sentinel.connection_pool.disconnect()

    def _forget(self, server: OneServer) -> None:
        with self._lock:
            if self._current is server:
                self._current = None
        server.abandon()

    def _find(self) -> OneServer:
        if not self._lock.acquire(timeout=self._timeout):
            raise StoreError("Redis: the Sentinels are being asked for the master")
        try:
            if self._current is None:
                self._current = self._open_server(self._ask())
            return self._current
        finally:
            self._lock.release()

    def _ask(self) -> Address:
        """Where the master is, by the first Sentinel that knows. With the lock."""
        trouble: StoreError | None = None
        for sentinel in tuple(self._sentinels):
            try:
                told = sentinel.execute_command(_QUESTION, self._master)  # type: ignore[no-untyped-call]  # has no types
                address = _parse_address(told)
            except TROUBLE as error:
                trouble = trouble or store_error(error)
                continue
            if address is not None:
                self._sentinels.remove(sentinel)
                self._sentinels.insert(0, sentinel)
                return address
            trouble = StoreError("Redis: Sentinels do not know the master that redis_url names")
        raise trouble or StoreError("Redis: no Sentinel to ask")


_QUESTION = "SENTINEL GET-MASTER-ADDR-BY-NAME"


def _parse_address(answer: object) -> Address | None:
    if not isinstance(answer, list | tuple) or len(answer) != 2:
        return None
    host, port = (one.decode() if isinstance(one, bytes) else str(one) for one in answer)
    return (host, int(port)) if port.isdigit() else None
