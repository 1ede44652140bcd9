from __future__ import annotations

import errno
import os
import resource
import socket
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from mailreeve_policyd.audit_bound import Overrun
from mailreeve_policyd.errors import ProtocolError
from mailreeve_policyd.listen import Address, InetAddress, UnixAddress, bind
from mailreeve_policyd.peer import Bounds, Complaints
from mailreeve_policyd.postfix import RequestBounds
from mailreeve_policyd.question import Question
from mailreeve_policyd.server import PolicyServer
from tests.lab.process import wait_until

REQUEST = b"request=smtpd_access_policy\nprotocol_state=RCPT\nrecipient=%d\n\n"
TIMEOUT_SECONDS = 10.0
"""How long a test waits for what must come; nothing waits for what must not."""


class Echo:
    """Answers with the recipient; fails where the recipient says so."""

    def connection(self) -> None:
        """It remembers nothing."""

    def answer_each(self, questions: Sequence[Question[None]]) -> None:
        for question in questions:
            try:
                question.answer = self.answer(question.attributes)
            except Exception as error:  # noqa: BLE001 -- as Answerer says
                question.error = error

    def answer(self, attributes: Mapping[str, str]) -> bytes:
        recipient = attributes["recipient"]
        if recipient == "666":
            raise ProtocolError("not to this one")
        if recipient == "500":
            raise ZeroDivisionError("a bug")
        return f"action=DUNNO {recipient}\n\n".encode()


class Unrecorded(Echo):
    """Has answers, and then fails to record them."""

    def answer_each(self, questions: Sequence[Question[None]]) -> None:
        super().answer_each(questions)
        raise ZeroDivisionError("a bug")


class Gate(Echo):
    """Answers when the test opens the gate."""

    def __init__(self) -> None:
        self.asked = threading.Event()
        self.open = threading.Event()

    def answer(self, attributes: Mapping[str, str]) -> bytes:
        self.asked.set()
        self.open.wait(TIMEOUT_SECONDS)
        return super().answer(attributes)


class Lookups(Echo):
    """Needs something looked up for one recipient first, which takes until the test opens the gate."""

    def __init__(self) -> None:
        self.asked = threading.Event()
        self.open = threading.Event()

    def answer_each(self, questions: Sequence[Question[None]]) -> None:
        for question in questions:
            if question.attributes["recipient"] == "53" and not self.open.is_set():
                question.wait_for = self.look_up
        super().answer_each([question for question in questions if question.wait_for is None])

    def look_up(self) -> None:
        self.asked.set()
        assert self.open.wait(TIMEOUT_SECONDS)


class Running:
    """A server in a thread of this process, at one address."""

    def __init__(self, address: Address, answerer: Echo, max_connections: int, bounds: Bounds) -> None:
        self.listener = bind(address)
        self.overruns: list[Overrun] = []
        self.server = PolicyServer(
            [self.listener.socket],
            answerer,
            max_connections,
            bounds,
            pause_seconds=0.005,
            complaints=Complaints(self._overran),
        )
        self.thread = threading.Thread(target=self.server.serve)
        self.thread.start()

    def _overran(self, overrun: Overrun) -> bool:
        self.overruns.append(overrun)
        return True

    @property
    def told(self) -> list[tuple[str, float, str, str]]:
        """Of each overrun its bound, maximum, consequence and reason."""
        return [(one.bound, one.maximum, one.consequence, one.reason) for one in self.overruns]

    def connect(self) -> socket.socket:
        address = self.listener.address
        if isinstance(address, InetAddress):
            return socket.create_connection((address.host, address.port), TIMEOUT_SECONDS)
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(TIMEOUT_SECONDS)
        client.connect(str(address.path))
        return client

    def stop(self) -> None:
        self.server.retire()
        self.thread.join(TIMEOUT_SECONDS)
        assert not self.thread.is_alive()
        self.listener.close()


@contextmanager
def serving(
    address: Address,
    answerer: Echo | None = None,
    max_connections: int = 100,
    bounds: Bounds = Bounds(),  # noqa: B008 -- it is frozen
) -> Iterator[Running]:
    running = Running(address, answerer or Echo(), max_connections, bounds)
    try:
        yield running
    finally:
        running.stop()


@pytest.fixture(params=["unix", "inet"])
def running(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Running]:
    address: Address = InetAddress("127.0.0.1", 0)
    if request.param == "unix":
        address = UnixAddress(tmp_path / "s")
    with serving(address) as server:
        yield server


@pytest.fixture
def unix(tmp_path: Path) -> UnixAddress:
    return UnixAddress(tmp_path / "s")


def read_until(client: socket.socket, end: bytes) -> bytes:
    received = b""
    while not received.endswith(end):
        chunk = client.recv(65536)
        if not chunk:
            return received
        received += chunk
    return received


def ask(client: socket.socket, number: int) -> bytes:
    client.sendall(REQUEST % number)
    return read_until(client, b"\n\n")


def test_many_requests_are_answered_on_one_connection(running: Running) -> None:
    """Postfix keeps a connection for thousands of requests."""
    with running.connect() as client:
        for number in range(2000, 4000):
            assert ask(client, number) == b"action=DUNNO %d\n\n" % number


def test_pipelined_requests_are_answered_in_order(running: Running) -> None:
    """Several in one segment, the last one in two pieces."""
    octets = b"".join(REQUEST % number for number in range(100, 200))
    with running.connect() as client:
        client.sendall(octets[:-5])
        client.sendall(octets[-5:])

        expected = b"".join(b"action=DUNNO %d\n\n" % number for number in range(100, 200))
        assert read_until(client, b"199\n\n") == expected


def test_a_half_closed_connection_gets_its_answers(running: Running) -> None:
    """Exim's readsocket says at once that it will send no more."""
    with running.connect() as client:
        client.sendall(REQUEST % 1 + REQUEST % 2)
        client.shutdown(socket.SHUT_WR)

        assert read_until(client, b"never") == b"action=DUNNO 1\n\naction=DUNNO 2\n\n"


@pytest.mark.parametrize("octets", [b"GET / HTTP/1.0\n\n", b"request=other\n\n", REQUEST % 666])
def test_a_broken_request_is_logged_and_gets_no_answer(
    running: Running, octets: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """SMTPD_POLICY_README: in case of trouble log and disconnect; what was asked before is answered."""
    with running.connect() as client:
        client.sendall(REQUEST % 1 + octets)

        assert read_until(client, b"never") == b"action=DUNNO 1\n\n"
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_a_bug_is_logged_with_its_traceback_and_gets_no_answer(
    running: Running, caplog: pytest.LogCaptureFixture
) -> None:
    """Postfix then does its default_action; other connections do not notice."""
    with running.connect() as client, running.connect() as other:
        client.sendall(REQUEST % 500)

        assert read_until(client, b"never") == b""
        assert ask(other, 7) == b"action=DUNNO 7\n\n"
    assert "ZeroDivisionError" in caplog.text


def test_a_client_that_leaves_without_reading_harms_nobody(running: Running) -> None:
    """A reset or a closed pipe while answers are written is an ordinary end."""
    for _ in range(5):
        with running.connect() as rude:
            rude.sendall(b"".join(REQUEST % number for number in range(100, 400)))
    with running.connect() as client:
        assert ask(client, 7) == b"action=DUNNO 7\n\n"


def test_connections_beyond_the_bound_wait_for_their_turn(unix: UnixAddress) -> None:
    """They stay in the backlog and are served when another one ends."""
    with serving(unix, max_connections=1) as running, running.connect() as first:
        assert ask(first, 1) == b"action=DUNNO 1\n\n"
        second = running.connect()
        second.sendall(REQUEST % 2)
        second.setblocking(False)
        with pytest.raises(BlockingIOError):
            second.recv(100)
        second.settimeout(TIMEOUT_SECONDS)
        first.close()

        assert read_until(second, b"\n\n") == b"action=DUNNO 2\n\n"
        second.close()


def test_a_retiring_server_answers_what_it_has_received_and_closes(unix: UnixAddress) -> None:
    """The request under way and those behind it are answered, then the connection ends."""
    gate = Gate()
    with serving(unix, gate) as running, running.connect() as client:
        client.sendall(REQUEST % 1 + REQUEST % 2)
        assert gate.asked.wait(TIMEOUT_SECONDS)
        running.server.retire()
        gate.open.set()

        assert read_until(client, b"never") == b"action=DUNNO 1\n\naction=DUNNO 2\n\n"


def test_who_comes_to_a_retiring_server_is_refused_and_does_not_wait(unix: UnixAddress) -> None:
    """Where no other process listens: Postfix does its default_action at once."""
    gate = Gate()
    with serving(unix, gate) as running, running.connect() as client:
        client.sendall(REQUEST % 1)
        assert gate.asked.wait(TIMEOUT_SECONDS)
        running.server.retire()
        wait_until(lambda: is_refused(unix), "it refuses", TIMEOUT_SECONDS)
        gate.open.set()

        assert read_until(client, b"never") == b"action=DUNNO 1\n\n"


def is_refused(address: UnixAddress) -> bool:
    with socket.socket(socket.AF_UNIX) as late:
        return late.connect_ex(str(address.path)) == errno.ECONNREFUSED


def test_a_retiring_server_closes_idle_connections(running: Running) -> None:
    """Postfix keeps connections open for minutes; they must not keep an old worker alive."""
    clients = [running.connect() for _ in range(5)]
    for number, client in enumerate(clients):
        ask(client, number)
    running.server.retire()

    for client in clients:
        assert client.recv(100) == b""
        client.close()
    running.thread.join(TIMEOUT_SECONDS)
    assert not running.thread.is_alive()


def test_who_asks_without_pause_is_answered_in_order(unix: UnixAddress) -> None:
    """What comes while a request is under way waits in the socket: it is bounded there."""
    gate = Gate()
    with serving(unix, gate) as running, running.connect() as client:
        client.sendall(REQUEST % 1)
        assert gate.asked.wait(TIMEOUT_SECONDS)
        client.sendall(REQUEST % 2 + REQUEST % 3)
        gate.open.set()

        assert read_until(client, b"3\n\n") == b"".join(b"action=DUNNO %d\n\n" % n for n in (1, 2, 3))
        assert ask(client, 4) == b"action=DUNNO 4\n\n"


def test_a_request_that_must_wait_holds_up_no_other(unix: UnixAddress) -> None:
    """DNS is waited for in a thread; the same connection waits, all others go on."""
    lookups = Lookups()
    with serving(unix, lookups) as running, running.connect() as client, running.connect() as other:
        client.sendall(REQUEST % 53 + REQUEST % 54)
        assert lookups.asked.wait(TIMEOUT_SECONDS)
        assert ask(other, 7) == b"action=DUNNO 7\n\n"
        lookups.open.set()

        assert read_until(client, b"54\n\n") == b"action=DUNNO 53\n\naction=DUNNO 54\n\n"


def test_a_store_that_hangs_holds_up_only_who_asked_it(unix: UnixAddress) -> None:
    """Whatever blocks the answering itself: another thread goes on with the loop."""

    class Hanging(Gate):
        def answer(self, attributes: Mapping[str, str]) -> bytes:
            return super().answer(attributes) if attributes["recipient"] == "1" else Echo().answer(attributes)

    hanging = Hanging()
    with serving(unix, hanging) as running, running.connect() as client, running.connect() as other:
        client.sendall(REQUEST % 1)
        assert hanging.asked.wait(TIMEOUT_SECONDS)
        assert ask(other, 7) == b"action=DUNNO 7\n\n"
        hanging.open.set()

        assert read_until(client, b"\n\n") == b"action=DUNNO 1\n\n"


def test_a_retiring_server_answers_who_waits_for_dns(unix: UnixAddress) -> None:
    """What was read is answered, however long that takes."""
    lookups = Lookups()
    with serving(unix, lookups) as running, running.connect() as client:
        client.sendall(REQUEST % 53)
        assert lookups.asked.wait(TIMEOUT_SECONDS)
        running.server.retire()
        lookups.open.set()

        assert read_until(client, b"never") == b"action=DUNNO 53\n\n"


def test_who_asks_nothing_for_long_is_disconnected(unix: UnixAddress) -> None:
    """Its place is for others. A busy connection is none of these, however long its answer takes."""
    gate = Gate()
    with (
        serving(unix, gate, bounds=Bounds(idle_seconds=0.02)) as running,
        running.connect() as idle,
        running.connect() as busy,
    ):
        busy.sendall(REQUEST % 1)
        assert idle.recv(100) == b""
        gate.open.set()

        assert read_until(busy, b"\n\n") == b"action=DUNNO 1\n\n"
        assert busy.recv(100) == b""
    silent = ("policyd.idle_timeout_seconds", 0.02, "closed", "it asked nothing for 0.02 seconds")
    assert running.told == [silent, silent]


def test_who_takes_long_for_a_request_is_disconnected(
    unix: UnixAddress, caplog: pytest.LogCaptureFixture
) -> None:
    """A byte now and then keeps nobody connected; a request that came before is answered."""
    with serving(unix, bounds=Bounds(request_seconds=0.02)) as running, running.connect() as client:
        client.sendall(REQUEST % 1 + b"r")
        with suppress(BrokenPipeError, ConnectionResetError):
            for octet in REQUEST:
                client.sendall(bytes([octet]))
                client.settimeout(0.001)
                with suppress(TimeoutError):
                    assert client.recv(100) in (b"action=DUNNO 1\n\n", b"")
        client.settimeout(TIMEOUT_SECONDS)

        with suppress(ConnectionResetError):  # a byte came after it had closed
            assert client.recv(100) == b""
    assert "did not send a whole request" in caplog.text
    assert running.told == [
        ("policyd.request_timeout_seconds", 0.02, "closed", "it did not send a whole request in 0.02 seconds")
    ]


def test_who_asks_again_and_again_is_disconnected_at_last(unix: UnixAddress) -> None:
    """No place is kept for ever; what was sent before the end is answered."""
    with serving(unix, bounds=Bounds(total_seconds=0.02)) as running, running.connect() as client:
        answered = 0
        with suppress(BrokenPipeError, ConnectionResetError):
            while ask(client, 7) == b"action=DUNNO 7\n\n":
                answered += 1
    assert answered > 0
    assert running.told == [
        ("policyd.total_timeout_seconds", 0.02, "closed", "it stayed longer than 0.02 seconds")
    ]


def test_a_request_that_is_too_large_is_recorded_with_who_sent_it(
    running: Running, caplog: pytest.LogCaptureFixture
) -> None:
    """No answer; what was asked before is answered, and so is everybody else."""
    with running.connect() as client, running.connect() as other:
        client.sendall(REQUEST % 1 + b"a=" + b"b" * 70_000)
        with suppress(ConnectionResetError):  # not all was read
            assert read_until(client, b"never") == b"action=DUNNO 1\n\n"
        assert ask(other, 7) == b"action=DUNNO 7\n\n"
    [overrun] = running.overruns
    assert (overrun.bound, overrun.maximum, overrun.consequence) == (
        "policyd.max_request_bytes", 65_536, "closed",
    )  # fmt: skip
    assert overrun.peer is not None
    assert (overrun.peer.pid or overrun.peer.address) in (os.getpid(), "127.0.0.1")
    assert "it sent a request of more than 65536 octets" in caplog.text


def test_how_large_a_request_may_be_is_a_setting(unix: UnixAddress) -> None:
    """Here so small that none is taken."""
    bounds = Bounds(request=RequestBounds(octets=20))
    with serving(unix, bounds=bounds) as running, running.connect() as client, suppress(ConnectionResetError):
        assert ask(client, 1) == b""
    assert [overrun.maximum for overrun in running.overruns] == [20]


def test_who_breaks_the_protocol_again_and_again_does_not_fill_the_log(
    unix: UnixAddress, caplog: pytest.LogCaptureFixture
) -> None:
    """Ten times a minute, unless the settings say otherwise."""
    with serving(unix) as running:
        for _ in range(25):
            with running.connect() as client:
                client.sendall(b"nonsense\n\n")
                assert read_until(client, b"never") == b""
    assert len(caplog.records) == 10
    assert running.overruns == []


def test_the_log_says_once_that_all_connections_are_taken(
    unix: UnixAddress, caplog: pytest.LogCaptureFixture
) -> None:
    """The operator sees why Postfix waits."""
    with serving(unix, max_connections=1) as running:
        for number in range(3):
            with running.connect() as client:
                assert ask(client, number) == b"action=DUNNO %d\n\n" % number
    said = [record.message for record in caplog.records if "max_connections" in record.message]
    assert len(said) == 1
    reason = "all 1 connections of a worker are taken: further ones wait"
    assert running.told == [("policyd.max_connections", 1, "waiting", reason)]


def test_running_out_of_descriptors_is_logged_and_survived(
    unix: UnixAddress, caplog: pytest.LogCaptureFixture
) -> None:
    """The connection waits in the backlog until there is room; nothing dies."""
    with serving(unix) as running, socket.socket(socket.AF_UNIX) as client:
        client.settimeout(TIMEOUT_SECONDS)
        with no_descriptor_left():
            client.connect(str(unix.path))
            deadline = time.monotonic() + TIMEOUT_SECONDS
            while not caplog.records and time.monotonic() < deadline:
                running.thread.join(0.001)

        assert ask(client, 2) == b"action=DUNNO 2\n\n"
    assert "no further connection" in caplog.text


@contextmanager
def no_descriptor_left() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(entry.name) for entry in Path("/proc/self/fd").iterdir())
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 9, hard))
    taken: list[int] = []
    try:
        with suppress(OSError):
            while True:
                taken.append(os.dup(0))
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for descriptor in taken:
            os.close(descriptor)


def test_what_could_not_be_recorded_is_not_answered(
    unix: UnixAddress, caplog: pytest.LogCaptureFixture
) -> None:
    """A bug after an answer was found ends the connection, and is told."""
    with serving(unix, Unrecorded()) as running, running.connect() as client:
        assert ask(client, 1) == b""

    assert "this is a bug" in caplog.text
