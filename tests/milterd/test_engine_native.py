"""The native engine: sockets, time and threads. What both engines do is in test_engines.py."""

from __future__ import annotations

import errno
import os
import socket
import struct
import threading
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import uvloop

from mailreeve_milter.connection_bounds import ConnectionBounds
from mailreeve_milter.engine_native import MilterServer
from mailreeve_milter.protocol_words import Command
from mailreeve_milter.surroundings import Surroundings
from mailreeve_policyd.moderation import Moderation
from mailreeve_policyd.smtp import Stage
from mailreeve_policyd.transaction import Transaction
from mailreeve_policyd.verdict import Action, Verdict
from tests.lab.daemons import Daemon
from tests.lab.dns import DnsServer
from tests.lab.process import wait_until
from tests.lab.work import work_folder
from tests.milterd.milterpackets import packet
from tests.milterd.miltertalk import MilterTalk, MilterTalkError
from tests.milterd.setups import read_zone, write_setup
from tests.milterd.talking import AT_THE_END, Talk, make_talk
from tests.policyd.limit_stores import SECOND, HandClock

SECONDS = 10.0
IDLE_SESSIONS = 500
IDLE_OCTETS = 10_000


class Gate:
    """A policy that waits until it is let go, for senders named "slow"."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.waiting = threading.Semaphore(0)

    def decide(self, transaction: Transaction, stages: tuple[Stage, ...]) -> Verdict:
        envelope = transaction.envelope
        if (
            envelope is not None
            and envelope.reverse_path is not None
            and "slow" in str(envelope.reverse_path)
        ):
            self.waiting.release()
            self.open.wait(SECONDS)
        return Verdict(Action.CONTINUE, stages[0])


@dataclass(slots=True)
class Served:
    """A server in a thread of this process."""

    server: MilterServer
    loop: uvloop.Loop
    thread: threading.Thread
    address: str | tuple[str, int]

    def begin(self, sender: str = "<bob@example.net>") -> MilterTalk:
        """A connection on which a message has come as far as its end."""
        talk = MilterTalk(self.address)
        talk.connect("mail.example.net", "192.0.2.1")
        talk.mail(sender)
        talk.rcpt("<alice@example.org>")
        talk.header(b"From", b" bob@example.net")
        talk.end_of_headers()
        return talk

    def retire(self) -> None:
        self.loop.call_soon_threadsafe(self.server.retire)

    @property
    def is_serving(self) -> bool:
        return self.thread.is_alive()


@contextmanager
def serve(
    surroundings: Surroundings, family: int = socket.AF_UNIX, sweep: float = 3600.0
) -> Iterator[Served]:
    with ExitStack() as ends:
        listener = ends.enter_context(socket.socket(family))
        listener.bind("\0mailreeve-" + os.urandom(8).hex() if family == socket.AF_UNIX else ("127.0.0.1", 0))
        listener.listen()
        loop = uvloop.new_event_loop()
        server = MilterServer(loop, surroundings, sweep)
        server.listen(listener)
        thread = threading.Thread(target=loop.run_forever)
        thread.start()
        name = listener.getsockname()
        served = Served(server, loop, thread, name.decode() if isinstance(name, bytes) else name)
        try:
            yield served
        finally:
            served.retire() if served.is_serving else None
            thread.join(SECONDS)
            assert not served.is_serving
            loop.close()


@pytest.fixture
def talk(tmp_path: Path) -> Talk:
    return make_talk(tmp_path)


def with_gate(talk: Talk) -> tuple[Surroundings, Gate]:
    """Surroundings whose messages are decided in threads, and may be made to wait there."""
    gate = Gate()
    return replace(talk.surroundings, policy=gate, waiting=AT_THE_END), gate


def test_a_message_that_waits_holds_up_no_other(talk: Talk) -> None:
    """64 wait at their end, in threads; another one passes meanwhile, and at last they do."""
    surroundings, gate = with_gate(talk)
    with serve(surroundings) as served, ExitStack() as talks:
        slow = [talks.enter_context(served.begin("<slow@example.net>")) for _ in range(64)]
        for one in slow:
            one.send("E")
        for _ in slow:
            assert gate.waiting.acquire(timeout=SECONDS)
        with served.begin() as quick:
            assert [packet.command for packet in quick.end_of_message()] == ["i", "c"]
        gate.open.set()
        assert [[one.receive().command, one.receive().command] for one in slow] == [["i", "c"]] * 64


def test_the_mta_hears_that_its_message_is_still_looked_at(talk: Talk) -> None:
    """PROGRESS again and again while it waits, then the answer."""
    surroundings, gate = with_gate(talk)
    with serve(surroundings, sweep=0.01) as served, served.begin("<slow@example.net>") as one:
        one.send("E")
        assert [one.receive().command, one.receive().command] == ["p", "p"]
        gate.open.set()
        came = [one.receive().command for _ in range(2)]
        while came[-1] == "p" or came[-2] == "p":
            came.append(one.receive().command)
        assert came[-2:] == ["i", "c"]


def test_what_comes_while_a_step_waits_is_looked_at_after_it(talk: Talk) -> None:
    """An MTA that does not wait for its answer: the next message on the heels of the first."""
    surroundings, gate = with_gate(talk)
    with serve(surroundings) as served, served.begin("<slow@example.net>") as one:
        one.send("E")
        assert gate.waiting.acquire(timeout=SECONDS)
        one.abort()
        one.mail("<bob@example.net>")
        one.rcpt("<alice@example.org>")
        one.end_of_headers()
        large = b"".join(packet(Command.BODY, b"x" * 60_000) for _ in range(40))
        sender = threading.Thread(target=one.socket.sendall, args=(large + packet(Command.END_OF_MESSAGE),))
        sender.start()
        (link,) = served.server.links
        wait_until(lambda: link._is_paused, "no more is taken")
        gate.open.set()
        sender.join(SECONDS)
        assert [one.receive().command for _ in range(4)] == ["i", "c", "i", "c"]
    assert [record["size"] for record in talk.records][1] == 2 + 40 * 60_000


def test_messages_under_way_are_finished_before_it_ends(talk: Talk) -> None:
    """Retired: it takes no new connection, and ends when the last one has, even if its MTA has gone."""
    surroundings, gate = with_gate(talk)
    with serve(surroundings) as served:
        with served.begin() as open_one, served.begin("<slow@example.net>") as gone:
            gone.send("E")
            assert gate.waiting.acquire(timeout=SECONDS)
            gone.socket.close()
            served.retire()
            assert [packet.command for packet in open_one.end_of_message()] == ["i", "c"]
            open_one.quit()
        wait_until(lambda: len(served.server.links) == 1, "one connection is left")
        assert served.is_serving
        gate.open.set()
        served.thread.join(SECONDS)
        assert not served.is_serving
    assert len(talk.records) == 2


def test_who_comes_while_the_last_message_is_finished_is_refused_at_once(talk: Talk) -> None:
    """Where no other worker listens: the MTA does its default action without waiting."""
    with serve(talk.surroundings) as served:
        with served.begin() as open_one:
            served.retire()
            wait_until(lambda: is_refused(served.address), "it refuses")
            assert [packet.command for packet in open_one.end_of_message()] == ["i", "c"]
        served.thread.join(SECONDS)
        assert not served.is_serving


def is_refused(address: str | tuple[str, int]) -> bool:
    with socket.socket(socket.AF_UNIX) as late:
        return late.connect_ex(address) == errno.ECONNREFUSED


def test_an_mta_that_breaks_the_protocol_is_disconnected(
    talk: Talk, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged; others are served."""
    with serve(talk.surroundings) as served:
        with served.begin() as bad:
            bad.send("Z")
            with pytest.raises((MilterTalkError, ConnectionError)):
                bad.receive()
        with served.begin() as good:
            assert [packet.command for packet in good.end_of_message()] == ["i", "c"]
    assert "an MTA was disconnected" in caplog.text
    assert [record["event"] for record in talk.records] == ["message"]


def test_an_mta_that_sends_too_large_a_packet_is_disconnected_and_recorded(
    talk: Talk, caplog: pytest.LogCaptureFixture
) -> None:
    """With the setting, who it was, and whose message it was; others are served."""
    surroundings = replace(talk.surroundings, bounds=ConnectionBounds(packet_octets=70_000))
    with serve(surroundings) as served:
        with served.begin() as bad:
            bad.socket.sendall(struct.pack("!Ic", 70_002, b"B"))
            with pytest.raises((MilterTalkError, ConnectionError)):
                bad.receive()
        with served.begin() as good:
            good.send("B", b"x" * 70_000)
            assert [packet.command for packet in good.end_of_message()] == ["i", "c"]
    told = bounds_told(talk)
    assert told == [
        {
            "daemon": "milter",
            "event": "bound",
            "bound": "milter.max_packet_bytes",
            "maximum": 70_000,
            "consequence": "closed",
            "reason": "it sent a packet of command 0x42 and 70002 octets",
            "peer": {"pid": os.getpid(), "uid": os.getuid()},
            "client": {"address": "192.0.2.1"},
        }
    ]
    assert "an MTA was disconnected: it sent a packet" in caplog.text


def bounds_told(talk: Talk) -> list[dict[str, Any]]:
    """What the record tells of bounds, without the time."""
    told = [dict(record) for record in talk.records if record["event"] == "bound"]
    for record in told:
        del record["time"]
    return told


def test_who_breaks_the_protocol_again_and_again_fills_no_log(
    talk: Talk, caplog: pytest.LogCaptureFixture
) -> None:
    """Connections without number: so many lines a minute, and then how many there were not."""
    clock = HandClock()
    surroundings = replace(talk.surroundings, breaches=Moderation(3, clock))
    with serve(surroundings) as served:
        for _ in range(20):
            break_protocol(served)
        clock.advance(60 * SECOND)
        break_protocol(served)
    lines = [record.getMessage() for record in caplog.records]
    assert lines[:3] == ["an MTA was disconnected: a packet of command 0x5a and 1 octets"] * 3
    assert lines[3:] == ["MTAs broke the milter protocol 17 more times, not told here", lines[0]]


def break_protocol(served: Served) -> None:
    with MilterTalk(served.address) as bad:
        bad.send("Z")
        with pytest.raises((MilterTalkError, ConnectionError)):
            bad.receive()


def test_over_tcp_nothing_waits_for_an_acknowledgement(talk: Talk) -> None:
    """Small packets leave at once."""
    with serve(talk.surroundings, socket.AF_INET) as served, served.begin() as one:
        (link,) = served.server.links
        peer = link._transport.get_extra_info("socket") if link._transport else None
        assert peer is not None
        assert peer.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert peer.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert [packet.command for packet in one.end_of_message()] == ["i", "c"]


def test_an_mta_that_says_nothing_for_hours_is_disconnected(
    talk: Talk, caplog: pytest.LogCaptureFixture
) -> None:
    """It has been forgotten by whoever it spoke for."""
    with serve(talk.surroundings) as served, served.begin() as one:
        (link,) = served.server.links
        for _ in range(3):
            served.loop.call_soon_threadsafe(link.sweep)
        with pytest.raises((MilterTalkError, ConnectionError)):
            one.receive()
    assert "said nothing for 7210 seconds" in caplog.text
    (told,) = bounds_told(talk)
    assert (told["bound"], told["maximum"]) == ("milter.idle_timeout_seconds", 7210)
    assert (told["consequence"], told["reason"]) == ("closed", "it said nothing for 7210 seconds")


def test_an_mta_that_takes_long_for_a_packet_is_disconnected(
    talk: Talk, caplog: pytest.LogCaptureFixture
) -> None:
    """A byte now and then keeps nobody connected, be it the head of a packet or its rest."""
    surroundings = replace(talk.surroundings, bounds=ConnectionBounds(packet_seconds=0.02))
    with (
        serve(surroundings, sweep=0.005) as served,
        served.begin() as one,
        pytest.raises(ConnectionError),
    ):
        send_octet_by_octet(one.socket, packet(Command.BODY, b"x" * 5000))
    assert "did not send a whole packet in 0.02 seconds" in caplog.text
    assert [told["bound"] for told in bounds_told(talk)] == ["milter.packet_timeout_seconds"]


def send_octet_by_octet(slow: socket.socket, octets: bytes) -> None:
    slow.settimeout(0.001)
    for octet in octets:
        slow.sendall(bytes([octet]))
        with suppress(TimeoutError):
            slow.recv(1)  # empty at the end: the next octet meets a closed connection


def test_an_mta_that_sends_much_is_not_taken_for_one_that_is_slow(talk: Talk) -> None:
    """Whenever it is looked at, a packet is under way, and each time it is another one."""
    surroundings = replace(talk.surroundings, bounds=ConnectionBounds(packet_seconds=0.02))
    with serve(surroundings, sweep=0.005) as served, served.begin() as one:
        chunk = packet(Command.BODY, b"x" * 100)
        one.socket.sendall(chunk[:-1])
        for _ in range(100):
            turned = threading.Event()
            one.socket.sendall(chunk[-1:] + chunk[:-1])
            served.loop.call_soon_threadsafe(served.loop.call_later, 0.001, turned.set)
            assert turned.wait(SECONDS)
        one.socket.sendall(chunk[-1:])
        assert [packet.command for packet in one.end_of_message()] == ["i", "c"]


def test_an_mta_that_stays_for_ever_is_disconnected_when_no_message_is_judged(
    talk: Talk, caplog: pytest.LogCaptureFixture
) -> None:
    """What is being judged is answered first; asking now and then keeps no place for ever."""
    surroundings, gate = with_gate(talk)
    surroundings = replace(surroundings, bounds=ConnectionBounds(total_seconds=0.02))
    with serve(surroundings, sweep=0.005) as served, served.begin("<slow@example.net>") as one:
        one.send("E")
        assert [one.receive().command for _ in range(6)] == ["p"] * 6
        gate.open.set()
        while (command := one.receive().command) == "p":
            pass
        assert [command, one.receive().command] == ["i", "c"]
        with pytest.raises((MilterTalkError, ConnectionError)):
            one.receive()
    assert "stayed longer than 0.02 seconds" in caplog.text
    assert [told["bound"] for told in bounds_told(talk)] == ["milter.total_timeout_seconds"]


def test_sessions_that_wait_cost_little() -> None:
    """500 clients that are typing: less than 10 KB each, the message under way included."""
    with work_folder() as work, DnsServer(read_zone()) as dns, ExitStack() as talks:
        config = write_setup("postfix", work, dns, "native")
        daemon = talks.enter_context(Daemon("milter", config, work))

        def open_sessions(count: int) -> int:
            for _ in range(count):
                talk = talks.enter_context(MilterTalk(f"unix:{work}/milter.sock"))
                talk.connect("mail.example.net", "192.0.2.1")
                talk.helo("mail.example.net")
                talk.mail("<bob@example.net>")
                talk.rcpt("<alice@example.org>")
            talk.end_of_message()  # all before it was heard
            return resident(daemon.workers)

        before = open_sessions(20)
        assert open_sessions(IDLE_SESSIONS) - before < IDLE_SESSIONS * IDLE_OCTETS


def resident(processes: Iterable[int]) -> int:
    """Octets of memory that processes have to themselves."""
    lines = (line for pid in processes for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines())
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_Dirty:")) * 1024


def test_one_connection_is_taken_in_each_turn_of_the_loop(talk: Talk) -> None:
    """So that of those which come at once other workers get their part: the loop's turns count with them."""
    with socket.socket(socket.AF_UNIX) as listener, ExitStack() as clients:
        listener.bind("\0mailreeve-" + os.urandom(8).hex())
        listener.listen()
        for _ in range(5):
            clients.enter_context(socket.socket(socket.AF_UNIX)).connect(listener.getsockname())
        loop = uvloop.new_event_loop()
        server = MilterServer(loop, talk.surroundings)
        server.listen(listener)
        seen: list[int] = []

        def look() -> None:
            seen.append(len(server.links))
            loop.stop() if len(server.links) == 5 else loop.call_soon(look)

        loop.call_soon(look)
        loop.run_forever()
        server.retire()
        clients.close()
        loop.run_forever()
        loop.close()
    assert {later - earlier for earlier, later in pairwise(seen)} == {0, 1}


def test_connections_beyond_the_bound_wait_for_one_to_end(
    talk: Talk, caplog: pytest.LogCaptureFixture
) -> None:
    """The second MTA gets no answer while the first is served, and its message is answered after that."""
    surroundings = replace(talk.surroundings, bounds=ConnectionBounds(most=1))
    with serve(surroundings) as served:
        first = served.begin()
        with socket.socket(socket.AF_UNIX) as second:
            second.connect(served.address)
            second.sendall(packet(Command.NEGOTIATE, struct.pack("!III", 6, 0x1FF, 0x1FFFFF)))
            assert [one.command for one in first.end_of_message()][-1] == "c"
            second.setblocking(False)
            with pytest.raises(BlockingIOError):
                second.recv(1)
            second.settimeout(SECONDS)
            first.socket.close()
            assert second.recv(1)
    assert "all 1 connections (milter.max_connections) are taken" in caplog.text
    assert bounds_told(talk) == [
        {
            "daemon": "milter",
            "event": "bound",
            "bound": "milter.max_connections",
            "maximum": 1,
            "consequence": "waiting",
            "reason": "all 1 connections of a worker are taken: further ones wait",
        }
    ]


def test_more_messages_than_may_be_judged_at_once_wait_their_turn(talk: Talk) -> None:
    """Each waits in a thread; all are answered at last."""
    surroundings, gate = with_gate(talk)
    surroundings = replace(surroundings, bounds=ConnectionBounds(most_waiting=2))
    with serve(surroundings) as served, ExitStack() as talks:
        slow = [talks.enter_context(served.begin("<slow@example.net>")) for _ in range(3)]
        for one in slow:
            one.send("E")
        assert [gate.waiting.acquire(timeout=SECONDS) for _ in range(2)] == [True, True]
        assert not gate.waiting.acquire(timeout=0.05)
        gate.open.set()
        assert [[one.receive().command, one.receive().command] for one in slow] == [["i", "c"]] * 3
