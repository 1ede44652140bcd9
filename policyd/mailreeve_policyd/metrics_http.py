"""The endpoint: /metrics, /healthz and /readyz over HTTP/1.1 (RFC 9112), one request a connection.

It is for a scraper on this machine, and bounded for whoever else finds it: GET and HEAD alone, few
connections, a short head, little time. Knows nothing of what it serves.
"""

from __future__ import annotations

import select
import socket
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

MAX_CONNECTIONS = 16
"""At once. A scraper needs one; who comes when all are taken is hung up on."""

MAX_HEAD_OCTETS = 8192
"""A scraper's request has some hundred octets."""

LINGER_SECONDS = 1.0
"""For the client to read an answer that came before its request had ended: closing at once would undo it."""

LINGER_OCTETS = 65_536


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds for a whole request, however it drips in, and for the whole answer to be taken."""

    request_seconds: float = 5.0
    answer_seconds: float = 10.0


TEXT = "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Page:
    """What is answered to a path."""

    status: int
    body: bytes
    content_type: str = TEXT


REASONS = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    408: "Request Timeout",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    503: "Service Unavailable",
    505: "HTTP Version Not Supported",
}

Pages = Callable[[str], Page | None]
"""The page at a path; None where there is none."""


class _RefusedError(Exception):
    """No request that is answered with a page: `status` says why."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class MetricsServer:
    """Serves pages on listening, non-blocking sockets; a thread for each connection."""

    def __init__(
        self, sockets: Sequence[socket.socket], pages: Pages, patience: Patience = Patience()
    ) -> None:
        self._sockets = tuple(sockets)
        self._pages = pages
        self._patience = patience
        self._places = threading.BoundedSemaphore(MAX_CONNECTIONS)
        self._bell, self._hearing = socket.socketpair()

    def retire(self) -> None:
        """End soon. From any thread."""
        with suppress(OSError):
            self._bell.send(b"!")

    def serve(self) -> None:
        """Answer until told to retire; once."""
        with self._bell, self._hearing:
            self._serve()

    def _serve(self) -> None:
        poller = select.poll()
        for one in (*self._sockets, self._hearing):
            poller.register(one, select.POLLIN)
        listening = {one.fileno(): one for one in self._sockets}
        while True:
            ready = [descriptor for descriptor, _ in poller.poll()]
            if self._hearing.fileno() in ready:
                return
            for descriptor in ready:
                self._accept(listening[descriptor])

    def _accept(self, listener: socket.socket) -> None:
        try:
            connection, _ = listener.accept()
        except OSError:  # another worker took it, or no descriptor is left: it is tried again
            time.sleep(0.01)
            return
        if not self._places.acquire(blocking=False):
            connection.close()
            return
        try:
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()
        except RuntimeError:  # the system gives no thread now
            connection.close()
            self._places.release()

    def _answer(self, connection: socket.socket) -> None:
        try:
            with connection, suppress(OSError):
                self._converse(connection)
        finally:
            self._places.release()

    def _converse(self, connection: socket.socket) -> None:
        wants_body = True
        try:
            method, path = _parse_head(_read_head(connection, self._patience.request_seconds))
            wants_body = method == "GET"
            page = self._pages(path) or Page(404, b"not found\n")
        except _RefusedError as refused:
            page = Page(refused.status, REASONS[refused.status].lower().encode() + b"\n")
        except Exception:  # noqa: BLE001 -- a bug: the scraper sees 500, and the next scrape is tried as ever
            page = Page(500, b"internal server error\n")
        connection.settimeout(self._patience.answer_seconds)
        connection.sendall(_format_head(page) + (page.body if wants_body else b""))
        _hang_up(connection)


def _read_head(connection: socket.socket, seconds: float) -> bytes:
    """The request as far as its empty line. Raises _RefusedError: it is too long or comes too slowly."""
    deadline = time.monotonic() + seconds
    head = b""
    while b"\r\n\r\n" not in head and b"\n\n" not in head:
        if len(head) > MAX_HEAD_OCTETS:
            raise _RefusedError(431)
        connection.settimeout(max(0.001, deadline - time.monotonic()))
        try:
            octets = connection.recv(4096)
        except TimeoutError:
            raise _RefusedError(408) from None
        if time.monotonic() > deadline:
            raise _RefusedError(408)
        if not octets:
            raise _RefusedError(400)
        head += octets
    return head


def _parse_head(head: bytes) -> tuple[str, str]:
    """Method and path of a request (RFC 9112 section 3). Raises _RefusedError."""
    line = head.split(b"\n", 1)[0].rstrip(b"\r")
    match line.decode("latin-1").split(" "):
        case [method, target, version]:
            pass
        case _:
            raise _RefusedError(400)
    if not version.startswith("HTTP/"):
        raise _RefusedError(400)
    if version not in ("HTTP/1.0", "HTTP/1.1"):
        raise _RefusedError(505)
    if method not in ("GET", "HEAD"):
        raise _RefusedError(405)
    return method, _path_of(target)


def _path_of(target: str) -> str:
    """Of origin-form or absolute-form (RFC 9112 section 3.2), without the query."""
    if target.lower().startswith("http://"):
        target = "/" + target[len("http://") :].partition("/")[2]
    if not target.startswith("/"):
        raise _RefusedError(400)
    return target.partition("?")[0]


def _format_head(page: Page) -> bytes:
    fields = {
        "Content-Type": page.content_type,
        "Content-Length": str(len(page.body)),
        "Cache-Control": "no-store",
        "X-Content-Type-Options": "nosniff",
        "Connection": "close",
    }
    if page.status == 405:
        fields["Allow"] = "GET, HEAD"
    lines = [
        f"HTTP/1.1 {page.status} {REASONS[page.status]}",
        *(f"{name}: {fields[name]}" for name in fields),
    ]
    return "\r\n".join([*lines, "", ""]).encode("ascii")


def _hang_up(connection: socket.socket) -> None:
    """Say that nothing more comes, and let the client read what came (RFC 9112 section 9.6)."""
    connection.shutdown(socket.SHUT_WR)
    deadline, left = time.monotonic() + LINGER_SECONDS, LINGER_OCTETS
    while left > 0 and (seconds := deadline - time.monotonic()) > 0:
        connection.settimeout(seconds)
        octets = connection.recv(4096)
        if not octets:
            return
        left -= len(octets)
