"""The limit store that several machines share: Redis or Valkey, one script call and one round trip a charge.

Knows what asks for the script, and what a server's errors mean. limits_redis_script.py has the words of the
call, redis_access.py the way to a server, limits_redis_cluster.py the store on many. Knows no rules and no
other store.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, Self

import redis
from hiredis import pack_command
from redis.connection import AbstractConnection

from mailreeve_policyd.errors import StoreError
from mailreeve_policyd.escape import escape
from mailreeve_policyd.limits import Charge, Charged, Usage
from mailreeve_policyd.limits_redis_script import (
    SCRIPT,
    SCRIPT_SHA,
    Request,
    Verb,
    format_request,
    parse_usages,
)
from mailreeve_policyd.limits_window import MICROSECONDS, microseconds
from mailreeve_policyd.redis_access import TROUBLE, RedisAccess, parse_redis_url


class ScriptServer(Protocol):
    """Whoever runs limits.lua. Safe from any thread; sends nothing twice, since it may have been counted."""

    def run(self, request: Request) -> object:
        """The answer.

        Raises:
            StoreError: an error of Redis, or of the way to it, which is its cause.
        """

    def run_each(self, requests: Sequence[Request]) -> list[object]:
        """The answer to each, in order, or its StoreError; in one round trip if they are of one server."""

    def close(self) -> None:
        """Close this process's connections."""


class OneServer:
    """A ScriptServer behind the connections of one client, which must not retry."""

    def __init__(self, client: redis.Redis) -> None:
        self.client = client

    def run(self, request: Request) -> object:
        """See ScriptServer."""
        keys, *arguments = request
        try:
            try:
                return self.client.evalsha(SCRIPT_SHA, int(keys), *arguments)
            except redis.exceptions.NoScriptError:  # it was started since, or never saw it
                return self.client.eval(SCRIPT, int(keys), *arguments)
        except TROUBLE as error:
            raise store_error(error) from error

    def command(self, *words: bytes | str, asking: bool = False) -> object:
        """The answer to one command that only reads; `asking` a node that a slot is just moving to (ASK).

        Raises:
            StoreError: as `run`.
        """
        try:
            if not asking:
                return self.client.execute_command(*words)  # type: ignore[no-untyped-call]  # has no types
            pipeline = self.client.pipeline(transaction=False)
            pipeline.execute_command("ASKING")  # type: ignore[no-untyped-call]  # has no types
            pipeline.execute_command(*words)  # type: ignore[no-untyped-call]  # has no types
            return pipeline.execute()[1]
        except TROUBLE as error:
            raise store_error(error) from error

    def run_each(self, requests: Sequence[Request]) -> list[object]:
        """See ScriptServer."""
        return [
            self._settle(request, answer)
            for request, answer in zip(requests, self._pipeline(requests), strict=True)
        ]

    def _pipeline(self, requests: Sequence[Request]) -> list[object]:
        """redis-py's pipeline gives up all answers where one is missing: here those that came are kept."""
        answers: list[object] = []
        pool = self.client.connection_pool
        try:
            connection: Any = pool.get_connection()  # half of its methods have no types
            try:
                connection.send_packed_command([b"".join(map(_packed, requests))])
                while len(answers) < len(requests):
                    answers.append(_next_answer(connection))
            except BaseException:
                connection.disconnect()  # answers that were not read are nobody else's
                raise
            finally:
                pool.release(connection)
        except TROUBLE as error:
            answers += [error] * (len(requests) - len(answers))
        return answers

    def abandon(self) -> None:
        """Close the connections that nobody uses.

        Other threads may be within a request, and redis-py does not expect that somebody closes a connection
        under it: theirs end with the request.
        """
        self.client.connection_pool.disconnect(inuse_connections=False)

    def close(self) -> None:
        """See ScriptServer."""
        self.client.connection_pool.disconnect()

    def _settle(self, request: Request, answer: object) -> object:
        try:
            if isinstance(answer, redis.exceptions.NoScriptError):
                return self.run(request)
        except StoreError as error:
            return error
        return store_error(answer) if isinstance(answer, Exception) else answer


class RedisStore:
    """A LimitStore on whatever runs the script. Threads and forks may share it.

    Time is that of the Redis server, one clock for all machines; a `clock` (seconds since the epoch) is
    for tests.
    """

    def __init__(
        self,
        server: ScriptServer,
        clock: Callable[[], float] | None = None,
        remember_seconds: int = 3600,
    ) -> None:
        self._server = server
        self._clock = clock
        self._remember = remember_seconds * MICROSECONDS

    @classmethod
    def from_url(
        cls,
        url: str,
        timeout_seconds: float = 1.0,
        clock: Callable[[], float] | None = None,
        remember_seconds: int = 3600,
    ) -> Self:
        """A store on one server. Connects at the first charge.

        Raises:
            ValueError: as `parse_redis_url`.
        """
        access = RedisAccess(parse_redis_url(url), timeout_seconds)
        return cls(OneServer(access.open()), clock, remember_seconds)

    def charge(self, charges: Sequence[Charge]) -> tuple[Usage, ...]:
        """Charge all or nothing: LimitStore.charge."""
        return self._ask("charge", charges)

    def charge_each(self, calls: Sequence[Sequence[Charge]]) -> list[Charged]:
        """Charge each call, all in one round trip: LimitStore.charge_each."""
        requests: dict[int, Request] = {}
        answered: list[Charged] = [()] * len(calls)
        for at, charges in enumerate(calls):
            try:
                if charges:
                    requests[at] = self._request("charge", charges)
            except ValueError as error:
                answered[at] = error
        answers = self._server.run_each(list(requests.values())) if requests else []
        for at, answer in zip(requests, answers, strict=True):
            answered[at] = _charged(calls[at], answer)
        return answered

    def usage(self, charges: Sequence[Charge]) -> tuple[Usage, ...]:
        """What `charge` would answer: LimitStore.usage."""
        return self._ask("usage", charges)

    def close(self) -> None:
        """Close this process's connections."""
        self._server.close()

    def _ask(self, verb: Verb, charges: Sequence[Charge]) -> tuple[Usage, ...]:
        if not charges:
            return ()
        return parse_usages(charges, self._server.run(self._request(verb, charges)))

    def _request(self, verb: Verb, charges: Sequence[Charge]) -> Request:
        now = "" if self._clock is None else microseconds(self._clock())
        return format_request(verb, now, self._remember, charges)


def _packed(request: Request) -> bytes:
    # redis-py looks at each word once more before it has hiredis pack them: half of what packing costs
    words = "EVALSHA", SCRIPT_SHA, *request
    packed: bytes = pack_command(words)  # type: ignore[arg-type]  # its types know a single word
    return packed


def _charged(charges: Sequence[Charge], answer: object) -> Charged:
    if isinstance(answer, StoreError):
        return answer
    try:
        return parse_usages(charges, answer)
    except StoreError as error:
        return error


def _next_answer(connection: AbstractConnection) -> object:
    try:
        return connection.read_response()
    except redis.ResponseError as error:
        return error


def store_error(error: Exception) -> StoreError:
    """What redis-py or the way to Redis said, as StoreError; a peer's words are escaped."""
    made = StoreError(f"Redis: {escape(str(error))}")
    made.__cause__ = error
    return made
