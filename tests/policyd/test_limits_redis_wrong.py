"""A Redis that answers what no Redis answers, or never to the end: an outage as any other, and no bug."""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial

import pytest

from mailreeve_policyd.errors import StoreError
from mailreeve_policyd.limits import Charge, Usage
from mailreeve_policyd.limits_redis import OneServer, RedisStore, ScriptServer
from mailreeve_policyd.limits_redis_nodes import Nodes
from mailreeve_policyd.limits_redis_script import parse_usages
from mailreeve_policyd.limits_redis_sentinel import SentinelServer
from mailreeve_policyd.redis_access import Address, RedisAccess, RedisUrl
from tests.policyd.limit_stores import charge_of, messages

SECONDS = 0.2
"""For an answer; whoever is slower here is an outage, too."""

Send = Callable[[bytes], object]

WRONG = [
    b"*6\r\n" + b"$1\r\nx\r\n" * 6,
    b"*6\r\n" + b"$-1\r\n" * 6,
    b"*6\r\n:1\r\n:0\r\n:1\r\n:1\r\n:9223372036854775807\r\n:0\r\n",
    b"*6\r\n$5000\r\n" + b"9" * 5000 + b"\r\n" + b":1\r\n" * 5,
    b"*6\r\n" + b"*1\r\n:1\r\n" * 6,
    b"-MOVED\r\n",
    b"-ASK 1 nowhere\r\n",
    b"HTTP/1.1 400 Bad Request\r\n\r\n",
    b"*1\r\n" * 100,
]


@contextmanager
def answering(answer: Callable[[Send], object]) -> Iterator[Address]:
    """A server that gives one answer to all that it is told."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with suppress(OSError):
                while self.request.recv(65536):
                    answer(self.request.sendall)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=partial(server.serve_forever, poll_interval=0.01))
        thread.start()
        try:
            yield "127.0.0.1", server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


def open_server(address: Address, seconds: float = SECONDS) -> OneServer:
    return OneServer(RedisAccess(RedisUrl(*address), seconds).open())


def one_server(address: Address) -> ScriptServer:
    return open_server(address)


def named_by_a_sentinel(address: Address) -> ScriptServer:
    """The Sentinel is as wrong as the server."""
    return SentinelServer([open_server(address).client], "mymaster", open_server, SECONDS)


@pytest.mark.parametrize("raw", WRONG, ids=lambda raw: repr(raw[:20]))
@pytest.mark.parametrize("make", [one_server, named_by_a_sentinel])
def test_what_is_no_answer_is_an_outage(make: Callable[[Address], ScriptServer], raw: bytes) -> None:
    """So that what the rules say of a store that is away is done; one call and several are alike."""
    with answering(lambda send: send(raw)) as address:
        server = make(address)
        store = RedisStore(server)
        with pytest.raises(StoreError):
            store.charge([charge_of(messages(5))])
        answers = store.charge_each([[charge_of(messages(5))], [charge_of(messages(5))]])
        server.close()

    assert [type(answer) for answer in answers] == [StoreError, StoreError]


@pytest.mark.parametrize("raw", [*WRONG, b"*1\r\n:1\r\n", b"*1\r\n*3\r\n:0\r\n:9\r\n*0\r\n"])
def test_a_node_that_tells_nonsense_of_the_others_is_away(raw: bytes) -> None:
    """CLUSTER SLOTS is an answer as any other."""
    with answering(lambda send: send(raw)) as address:
        nodes = Nodes([address], open_server)
        with pytest.raises(StoreError):
            nodes.refresh()
        nodes.close()


def test_an_answer_that_comes_octet_by_octet_is_given_up() -> None:
    """Each octet is in time, the answer never: the whole of it has the time of one."""
    ends = threading.Event()

    def drip(send: Send) -> None:
        send(b"$1000000\r\n")
        while not ends.wait(0.01):
            send(b"x")

    with answering(drip) as address:
        server = open_server(address, 0.1)
        with pytest.raises(StoreError, match="Timeout"):
            RedisStore(server).charge([charge_of(messages(5))])
        ends.set()
        server.close()


def test_numbers_that_are_text_are_numbers() -> None:
    """Some proxies of Redis give integers as texts."""
    charges: list[Charge] = [charge_of(messages(5))]

    assert parse_usages(charges, [b"1", b"0", b"3", b"0", b"-1", b"1"]) == (Usage(3, 5, exceeded=False),)
