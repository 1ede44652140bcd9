"""A Redis Cluster's nodes: which owns which slot, and the script sent to the one that does.

Knows CLUSTER SLOTS, MOVED and ASK (the Redis Cluster specification). Knows nothing of limits, nor what
happens while a node is away.
"""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence

from redis.exceptions import AskError, MovedError, TryAgainError

from mailreeve_policyd.errors import StoreError
from mailreeve_policyd.limits_redis import OneServer, store_error
from mailreeve_policyd.limits_redis_script import Request
from mailreeve_policyd.redis_access import TROUBLE, Address

SLOTS = 16384

MAX_HOPS = 3
"""How often a call is sent on: a slot that moves meanwhile needs two."""

Ranges = tuple[tuple[int, Address], ...]
"""The first slot of each range and the node that owns it, in order."""


class Nodes:
    """The nodes of one cluster. `seeds` are asked first for all others; `open_server` makes connections."""

    def __init__(self, seeds: Sequence[Address], open_server: Callable[[Address], OneServer]) -> None:
        self._seeds = tuple(seeds)
        self._open_server = open_server
        self._lock = threading.Lock()
        self._servers: dict[Address, OneServer] = {}
        self._ranges: Ranges = ((0, self._seeds[0]),)
        self._is_known = False

    def owner(self, slot: int) -> Address:
        """Who owns a slot, as far as is known. Asks the seeds when it is the first question."""
        if not self._is_known:
            self._learn()
        ranges = self._ranges
        return ranges[bisect_right(ranges, slot, key=lambda one: one[0]) - 1][1]

    def run(self, slot: int, request: Request) -> object:
        """The script's answer by the owner of the slot, wherever that has moved.

        Raises:
            StoreError: as ScriptServer.run; where `is_moving`, the slot is just being moved. A counter and
                its marks are two keys, and until both are there the new node takes no such call (it
                answers ASKING with TRYAGAIN).
        """

        def call(server: OneServer, asking: bool) -> object:
            if asking:
                raise StoreError("Redis: the slot is just being moved") from TryAgainError()
            return server.run(request)

        return self._sent(slot, call)

    def command(self, slot: int, *words: bytes | str) -> object:
        """The answer to one command that only reads, by the owner of the slot. Raises StoreError as `run`."""
        return self._sent(slot, lambda server, asking: server.command(*words, asking=asking))

    def _sent(self, slot: int, call: Callable[[OneServer, bool], object]) -> object:
        address, asking = self.owner(slot), False
        for _ in range(MAX_HOPS):
            try:
                return call(self._server(address), asking)
            except StoreError as error:
                elsewhere = error.__cause__
                if not isinstance(elsewhere, AskError):  # of which MovedError is one
                    raise
            address = (elsewhere.host or address[0], elsewhere.port)
            asking = not isinstance(elsewhere, MovedError)
            if not asking:
                self._learn_from(address)
        raise StoreError("Redis: the nodes of the cluster send us from one to the other")

    def refresh(self) -> None:
        """Ask any node who owns what.

        Raises:
            StoreError: none answers.
        """
        last = StoreError("Redis: no node of the cluster owns a slot")
        for address in self._candidates():
            try:
                if self._learn_from(address):
                    return
            except StoreError as error:
                last = error
        raise last

    def close(self) -> None:
        """Close this process's connections."""
        for server in tuple(self._servers.values()):
            server.close()

    def _learn(self) -> None:
        """The first time, in one thread; the others take the seed that they have, which sends them on."""
        if not self._lock.acquire(blocking=False):
            return
        try:
            if not self._is_known:
                self.refresh()
        except StoreError:
            pass  # the call itself meets the same, and whoever watches the nodes asks again
        finally:
            self._is_known = True
            self._lock.release()

    def _candidates(self) -> Iterator[Address]:
        """Whoever may know, each once: the owners, the seeds, and who else was a node."""
        owners = [address for _, address in self._ranges]
        yield from dict.fromkeys((*owners, *self._seeds, *tuple(self._servers)))

    def _learn_from(self, address: Address) -> bool:
        client = self._server(address).client
        try:
            told = client.execute_command("CLUSTER SLOTS")  # type: ignore[no-untyped-call]  # has no types
            ranges = tuple(sorted(_parse_ranges(told, address[0])))
        except TROUBLE as error:
            raise store_error(error) from error
        if ranges:
            self._ranges = ranges
        return bool(ranges)

    def _server(self, address: Address) -> OneServer:
        return self._servers.get(address) or self._servers.setdefault(address, self._open_server(address))


def is_moving(error: StoreError) -> bool:
    """Is it that a slot is just being moved from one node to another?"""
    return isinstance(error.__cause__, TryAgainError)


def _parse_ranges(told: object, asked: str) -> Iterator[tuple[int, Address]]:
    """The answer to CLUSTER SLOTS: first and last slot, the owner, its replicas.

    A node without a host is the one that was asked.
    """
    if not isinstance(told, list):
        return
    for first, _last, (host, port, *_), *_replicas in told:
        name = host.decode() if isinstance(host, bytes) else host
        yield int(first), (name or asked, int(port))
