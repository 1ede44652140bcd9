"""A policy connection by a clock in our hands: what it is closed for, and what is told of it."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

from mailreeve_policyd.audit_bound import Connected, Overrun
from mailreeve_policyd.peer import Bounds, Complaints, Peer
from mailreeve_policyd.poller import WRITE

REQUEST = b"request=smtpd_access_policy\nprotocol_state=RCPT\n\n"
BEGAN = 1000.0


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Ours, and the client's."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


class Told(list[Overrun]):
    """What the record was told; it has enough of nothing."""

    def __call__(self, overrun: Overrun) -> bool:
        self.append(overrun)
        return True


def peer_of(ours: socket.socket, told: Told) -> Peer[None]:
    return Peer(ours, None, Bounds(3600.0, 100.0, 86_400.0), Complaints(told), BEGAN)


def answer(peer: Peer[None], octets: bytes, now: float) -> bool:
    """Have the question that was sent answered."""
    assert peer.hear(now)
    assert peer.ask()
    assert peer.question is not None
    peer.question.answer = octets
    return peer.answered(now)


def test_who_does_not_take_an_answer_is_closed_as_who_does_not_send_a_request(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    """The socket is full, and the client reads nothing."""
    ours, theirs = ends
    told = Told()
    peer = peer_of(ours, told)
    theirs.sendall(REQUEST)

    assert answer(peer, b"x" * 10_000_000, BEGAN + 5)
    assert peer.wants == WRITE
    assert not peer.is_overdue(BEGAN + 105)
    assert peer.is_overdue(BEGAN + 105.1)

    bound, reason = "policyd.request_timeout_seconds", "it did not take its answer in 100 seconds"
    who = Connected(pid=os.getpid(), uid=os.getuid())
    assert told == [Overrun(bound, 100.0, "closed", reason, who)]


def test_half_a_request_has_a_time_from_its_first_octet(ends: tuple[socket.socket, socket.socket]) -> None:
    """However long the client was silent before."""
    ours, theirs = ends
    told = Told()
    peer = peer_of(ours, told)
    theirs.sendall(REQUEST[:10])
    assert peer.hear(BEGAN + 3000)
    theirs.sendall(REQUEST[10:20])
    assert peer.hear(BEGAN + 3050)

    assert not peer.is_overdue(BEGAN + 3100)
    assert peer.is_overdue(BEGAN + 3100.1)
    assert [overrun.reason for overrun in told] == ["it did not send a whole request in 100 seconds"]


def test_an_old_connection_is_told_of_once(ends: tuple[socket.socket, socket.socket]) -> None:
    """It takes its time to end: what it sent is answered first."""
    ours, theirs = ends
    told = Told()
    peer = peer_of(ours, told)
    theirs.sendall(REQUEST)

    peer.leave_if_old(BEGAN + 86_400)
    for seconds in range(1, 4):
        peer.leave_if_old(BEGAN + 86_400 + seconds)

    assert [overrun.bound for overrun in told] == ["policyd.total_timeout_seconds"]
    assert answer(peer, b"action=DUNNO\n\n", BEGAN + 86_405)
    assert theirs.recv(100) == b"action=DUNNO\n\n"
    assert peer.hear(BEGAN + 86_406)
    assert not peer.ask()


def test_a_log_that_has_enough_is_told_nothing(
    ends: tuple[socket.socket, socket.socket], caplog: pytest.LogCaptureFixture
) -> None:
    """The record says when."""
    peer = Peer(ends[0], None, Bounds(), Complaints(lambda _overrun: False), BEGAN)

    assert peer.is_overdue(BEGAN + 3601)
    assert caplog.records == []
