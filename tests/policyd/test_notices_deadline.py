"""A conversation ends in time, however slowly the peer speaks."""

from __future__ import annotations

import socket
import threading

from mailreeve_policyd.notices_deadline import bounded


def test_who_reads_sees_the_end_when_the_time_is_over() -> None:
    """A peer that says nothing, and would never, is left."""
    ours, theirs = socket.socketpair()
    with ours, theirs, bounded(lambda: ours, 0.01):
        assert ours.recv(1) == b""


def test_nothing_is_shut_that_ended_in_time() -> None:
    """The socket is its reader's again, and no thread is left."""
    ours, theirs = socket.socketpair()
    before = threading.active_count()
    with ours, theirs:
        with bounded(lambda: ours, 3600.0):
            theirs.send(b"!")
            assert ours.recv(1) == b"!"
        theirs.send(b"?")
        assert ours.recv(1) == b"?"
    for thread in threading.enumerate():
        if isinstance(thread, threading.Timer):
            thread.join()
    assert threading.active_count() <= before


def test_without_a_socket_there_is_nothing_to_shut() -> None:
    """The connection was not made in time: whoever makes it has a bound of its own."""
    asked = threading.Event()

    def find() -> None:
        asked.set()

    with bounded(find, 0.0):
        assert asked.wait(30)
