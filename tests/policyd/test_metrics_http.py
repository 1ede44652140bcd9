from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailreeve_policyd.metrics_http import MAX_CONNECTIONS, MAX_HEAD_OCTETS, MetricsServer, Page, Patience

TIMEOUT_SECONDS = 20.0
BODY = b"mailreeve_up 1\n" * 1000


@dataclass(frozen=True)
class Reply:
    """A response, taken apart."""

    status: int
    fields: dict[str, str]
    body: bytes


def pages(path: str) -> Page | None:
    if path == "/broken":
        raise RuntimeError("redis://:secret@127.0.0.1")
    return Page(200, BODY, "text/plain; version=0.0.4") if path == "/metrics" else None


@contextmanager
def serving(request_seconds: float = 5.0) -> Iterator[tuple[str, int]]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        server = MetricsServer([listener], pages, Patience(request_seconds))
        thread = threading.Thread(target=server.serve)
        thread.start()
        try:
            yield listener.getsockname()
        finally:
            server.retire()
            thread.join(TIMEOUT_SECONDS)
            assert not thread.is_alive()


@pytest.fixture(scope="module")
def where() -> Iterator[tuple[str, int]]:
    with serving() as address:
        yield address


def read(client: socket.socket) -> bytes:
    octets = b""
    while more := client.recv(65536):
        octets += more
    return octets


def ask(where: tuple[str, int], request: bytes, *, ends: bool = False) -> bytes:
    with socket.create_connection(where, TIMEOUT_SECONDS) as client:
        client.sendall(request)
        if ends:
            client.shutdown(socket.SHUT_WR)
        return read(client)


def take_apart(octets: bytes) -> Reply:
    head, _, body = octets.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    fields = dict(line.split(": ", 1) for line in lines)
    return Reply(int(first.split(" ")[1]), fields, body)


def get(where: tuple[str, int], request: str) -> Reply:
    return take_apart(ask(where, request.encode("latin-1")))


def test_a_page_is_told_whole(where: tuple[str, int]) -> None:
    """With its type and length; the connection is closed after it."""
    reply = get(where, "GET /metrics HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n\r\n")

    assert (reply.status, reply.body) == (200, BODY)
    assert reply.fields["Content-Type"] == "text/plain; version=0.0.4"
    assert reply.fields["Content-Length"] == str(len(BODY))
    assert reply.fields["Connection"] == "close"


@pytest.mark.parametrize(
    ("request_line", "status"),
    [
        ("GET /metrics?a=b HTTP/1.0", 200),
        ("GET http://localhost:8925/metrics HTTP/1.1", 200),
        ("GET / HTTP/1.1", 404),
        ("GET //metrics HTTP/1.1", 404),
        ("GET /../../etc/passwd HTTP/1.1", 404),
        ("GET /broken HTTP/1.1", 500),
        ("POST /metrics HTTP/1.1", 405),
        ("CONNECT localhost:25 HTTP/1.1", 405),
        ("get /metrics HTTP/1.1", 405),
        ("GET metrics HTTP/1.1", 400),
        ("GET /metrics", 400),
        ("GET  /metrics HTTP/1.1", 400),
        ("GET /metrics SMTP/1.1", 400),
        ("EHLO mail.example.org", 400),
        ("PRI * HTTP/2.0", 505),
        ("", 400),
    ],
)
def test_each_request_has_its_answer(where: tuple[str, int], request_line: str, status: int) -> None:
    """What is no page and what is no request; a bug of ours tells nothing of what it met."""
    reply = get(where, f"{request_line}\r\nHost: localhost\r\n\r\n")

    assert reply.status == status
    assert b"secret" not in reply.body
    assert reply.fields.get("Allow") == ("GET, HEAD" if status == 405 else None)


def test_head_is_told_without_a_body(where: tuple[str, int]) -> None:
    """RFC 9110 section 9.3.2: the length is that of the page."""
    reply = get(where, "HEAD /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")

    assert (reply.status, reply.body, reply.fields["Content-Length"]) == (200, b"", str(len(BODY)))


def test_a_head_without_end_is_cut(where: tuple[str, int]) -> None:
    """It is not kept, whoever sends it; the client reads why."""
    assert get(where, "GET /metrics HTTP/1.1\r\n" + "X: y\r\n" * MAX_HEAD_OCTETS).status == 431


def test_a_request_that_ends_early_is_none(where: tuple[str, int]) -> None:
    """A client that is done before its empty line."""
    assert take_apart(ask(where, b"GET /metrics HTTP/1.1\r\n", ends=True)).status == 400


def test_a_request_that_drips_in_is_given_up() -> None:
    """Its time is for the whole, not for each octet."""
    with serving(0.1) as where:
        with socket.create_connection(where, TIMEOUT_SECONDS) as client:
            client.sendall(b"GET /metrics HT")
            assert take_apart(read(client)).status == 408
        assert get(where, "GET /metrics HTTP/1.1\r\n\r\n").status == 200


def _connect(stack: ExitStack, where: tuple[str, int]) -> socket.socket:
    return stack.enter_context(socket.create_connection(where, TIMEOUT_SECONDS))


def test_more_connections_than_places_are_hung_up_on() -> None:
    """Those that have a place keep it, and when they are gone others are served as ever."""
    with serving() as where:
        with ExitStack() as stack:
            connect = partial(_connect, stack, where)
            held = [connect() for _ in range(MAX_CONNECTIONS)]
            assert connect().recv(1) == b""
            held[0].sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
            assert take_apart(read(held[0])).body == BODY
        for _ in range(MAX_CONNECTIONS):  # those above end at their own time
            with socket.create_connection(where, TIMEOUT_SECONDS) as client:
                client.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
                if client.recv(1):
                    return
        raise AssertionError("nobody is served any more")


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=300))
def test_any_octets_have_an_answer(where: tuple[str, int], octets: bytes) -> None:
    """A status of ours, or nothing from a client that hung up: never a page that was not asked for."""
    head = octets.split(b"\n")[0]
    reply = take_apart(ask(where, octets + b"\r\n\r\n", ends=True))

    assert reply.status in (200, 400, 404, 405, 505)
    assert reply.status != 200 or head.startswith((b"GET /metrics", b"HEAD /metrics"))
