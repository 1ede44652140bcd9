"""The sockets and threads of the policy daemon. Knows how requests are cut, and not what they mean.

A thread a connection: measured, as fast as an event loop here, and no step has to be written twice. A
connection ends without an answer where the peer breaks the protocol and where our own code fails: the
protocol knows no error answer, and Postfix then tries again and at last does its default_action.
"""

from __future__ import annotations

import logging
import select
import socket
import struct
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Protocol

from mailreeve_policyd.errors import ProtocolError
from mailreeve_policyd.postfix import RequestParser

log = logging.getLogger(__name__)

RECEIVE_OCTETS = 16_384
"""Eight requests of Postfix; more than that is read in turns."""

SEND_SECONDS = 30
"""A peer that does not take its answers for so long is gone; Postfix itself waits 100 seconds for one."""

PAUSE_MILLISECONDS = 1_000
"""Before accepting again when the system has no descriptor or memory for another connection."""


class Connection(Protocol):
    """What answers on one connection, one request after another, in one thread."""

    def answer(self, attributes: Mapping[str, str]) -> bytes:
        """The octets of the answer. ProtocolError, and anything else, closes without one."""


class PolicyServer:
    """Serves listening, non-blocking sockets until it is told to retire; then ends what is under way.

    `open_connection` is called for each connection. At most `max_connections` are served at once;
    further ones wait in the listening sockets' backlog.
    """

    def __init__(
        self,
        listeners: Sequence[socket.socket],
        open_connection: Callable[[], Connection],
        max_connections: int,
        pause_milliseconds: int = PAUSE_MILLISECONDS,
    ) -> None:
        self._listeners = tuple(listeners)
        self._open_connection = open_connection
        self._max_connections = max_connections
        self._pause_milliseconds = pause_milliseconds
        self._lock = threading.Lock()
        self._served: dict[socket.socket, threading.Thread] = {}
        self._retiring = False
        self._wake, self._wake_end = socket.socketpair()
        self._wake.setblocking(False)
        self._wake_end.setblocking(False)

    def serve(self) -> None:
        """Accept and answer, until `retire` was called and the last connection has ended."""
        while not self._retiring:
            self._accept_ready()
        self._drain()
        self._wake.close()
        self._wake_end.close()

    def retire(self) -> None:
        """Accept no more, answer what was received, close. Returns at once; from any thread."""
        self._retiring = True
        self._wake_up()

    # -- accepting -----------------------------------------------------------------------------------

    def _accept_ready(self) -> None:
        """Wait for the next connection, and for a place for it."""
        has_place = len(self._served) < self._max_connections
        for descriptor in _readable((self._wake, *(self._listeners if has_place else ()))):
            if descriptor == self._wake.fileno():
                with suppress(BlockingIOError):
                    self._wake.recv(4096)
        if not has_place:
            return
        for listener in self._listeners:
            if len(self._served) < self._max_connections and not self._accept(listener):
                _readable((self._wake,), self._pause_milliseconds)

    def _accept(self, listener: socket.socket) -> bool:
        """Serve the next one, if another worker has not taken it. False if the system has no room."""
        try:
            peer, _ = listener.accept()
        except (BlockingIOError, ConnectionError, InterruptedError):
            return True
        except OSError as error:
            log.error("no further connection can be accepted: %s", error.strerror)  # noqa: TRY400 -- no bug
            return False
        thread = threading.Thread(target=self._serve_connection, args=(peer,), name="policy", daemon=True)
        with self._lock:
            self._served[peer] = thread
        try:
            thread.start()
        except RuntimeError:  # "can't start new thread"
            log.error("no further thread can be started")  # noqa: TRY400 -- the system's trouble
            self._forget(peer)
            return False
        return True

    def _wake_up(self) -> None:
        with suppress(OSError):  # full: it is awake; closed: it has ended
            self._wake_end.send(b"!")

    # -- ending --------------------------------------------------------------------------------------

    def _drain(self) -> None:
        """Let each connection's thread find the end of what was received: it answers that, and ends."""
        with self._lock:
            served = dict(self._served)
            for peer in served:
                with suppress(OSError):
                    peer.shutdown(socket.SHUT_RD)
        for thread in served.values():
            thread.join()

    def _forget(self, peer: socket.socket) -> None:
        with self._lock:
            was_full = len(self._served) >= self._max_connections
            self._served.pop(peer, None)
            peer.close()
        if was_full:
            self._wake_up()

    # -- one connection ------------------------------------------------------------------------------

    def _serve_connection(self, peer: socket.socket) -> None:
        try:
            _prepare(peer)
            self._converse(peer)
        except ProtocolError as error:
            log.warning("a policy client was disconnected: %s", error)
        except OSError as error:
            log.info("a policy connection was lost: %s", error.strerror)
        except Exception:
            log.exception("a policy request was not answered: this is a bug")
        finally:
            self._forget(peer)

    def _converse(self, peer: socket.socket) -> None:
        connection = self._open_connection()
        parser = RequestParser()
        while octets := peer.recv(RECEIVE_OCTETS):
            for attributes in parser.feed(octets):
                peer.sendall(connection.answer(attributes))
        if not parser.is_between_requests:
            log.info("a policy client left in the middle of a request")


def _prepare(peer: socket.socket) -> None:
    peer.setblocking(True)
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", SEND_SECONDS, 0))
    if peer.family != socket.AF_UNIX:
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)  # a client's machine may vanish


def _readable(sockets: Sequence[socket.socket], milliseconds: int | None = None) -> list[int]:
    """The descriptors that can be read, or an empty list after that time. Not select(): it ends at 1024."""
    poller = select.poll()
    for one in sockets:
        poller.register(one, select.POLLIN)
    return [descriptor for descriptor, _ in poller.poll(milliseconds)]
