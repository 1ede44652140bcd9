"""Connections that come in hundreds, idle or send a byte a second; descriptors and threads that run out."""

from __future__ import annotations

import pwd
import socket
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from tests.lab.daemons import ENGINES, Daemon, Engine
from tests.lab.dns import SILENT
from tests.lab.outside import OutsideDomain
from tests.lab.policy import PolicyClient
from tests.lab.ports import parse_address
from tests.lab.process import wait_until
from tests.lab.site import Settings, Site
from tests.milterd.miltertalk import MilterTalk, MilterTalkError

RULES = "at rcpt {\n    hour: limit 100000 recipients/hour per sasl_username\n}\n"
AT_END = 'at end-of-message {\n    fails: reject "5.7.26 SPF fails" if spf is fail\n}\n'
ASKING = 'at rcpt {\n    forged: reject "5.7.1 Forged" if spf is fail\n}\n'
BANK = OutsideDomain("bank.example", "192.0.2.25")
CROWD = 500
FEW_DESCRIPTORS = 80
OTHER_USER = "games"
SECONDS = 10.0
IMPATIENT = {"dns": {"timeout_seconds": 0.3, "message_budget_seconds": 0.6}}


@contextmanager
def running(work: Path, engine: Engine, settings: Settings) -> Iterator[Site]:
    """Both daemons, without Postfix: the tests speak as it does."""
    site = Site(work, rules=RULES, engine=engine, settings={**IMPATIENT, **settings}, zone=BANK.zone)
    with site.without_postfix():
        yield site


def connect(address: str) -> socket.socket:
    family, where = parse_address(address)
    opened = socket.socket(family, socket.SOCK_STREAM)
    opened.settimeout(SECONDS)
    opened.connect(where)
    return opened


def begin(talk: MilterTalk) -> None:
    """A message of the bank, as far as its end."""
    talk.connect(f"mail.{BANK.name}", BANK.address)
    talk.helo(f"mail.{BANK.name}")
    talk.mail(f"<alerts@{BANK.name}>")
    talk.rcpt("<bob@example.org>")
    talk.data()
    talk.header(b"From", f" alerts@{BANK.name}".encode())
    talk.end_of_headers()
    talk.body(b"Dear Bob\r\n")


def results(site: Site) -> bytes:
    """What a message of the bank is marked with; ConnectionError or MilterTalkError if it has to wait."""
    with MilterTalk(site.milter_address) as talk:
        begin(talk)
        packets = talk.end_of_message()
        if packets[-1].command == "y":
            raise MilterTalkError(f"deferred: {packets[-1].data!r}")
        return packets[0].data


def decision(site: Site) -> str:
    """What the policy daemon answers."""
    with PolicyClient(site.policy_address) as client:
        return ask(client)


def ask(client: PolicyClient) -> str:
    """About a recipient of the bank's mail."""
    return client.ask(
        sasl_username="alice",
        recipient="bob@example.net",
        sender=f"alerts@{BANK.name}",
        client_address=BANK.address,
        helo_name=f"mail.{BANK.name}",
    )


def serve_well(site: Site) -> bool:
    """Are both answered as on any other day?"""
    with suppress(OSError, MilterTalkError):
        return b"spf=pass" in results(site) and decision(site) == "DUNNO"
    return False


def is_closed(opened: socket.socket) -> bool:
    """Has the other side hung up, within some seconds?"""
    try:
        return opened.recv(1) == b""
    except ConnectionError:
        return True


@pytest.mark.parametrize("engine", ENGINES)
def test_five_hundred_idle_connections_keep_nobody_from_being_served(work: Path, engine: Engine) -> None:
    """Opened and left, at both daemons: a message and a request between them are answered as ever."""
    with running(work, engine, {}) as site, ExitStack() as crowd:
        workers = site.milter.workers + site.policyd.workers
        for _ in range(CROWD):
            crowd.enter_context(connect(site.milter_address))
            crowd.enter_context(connect(site.policy_address))
        assert serve_well(site)
        assert site.milter.workers + site.policyd.workers == workers


def test_places_that_idle_connections_take_are_free_again_after_their_time(work: Path) -> None:
    """With all of them taken others wait, and are served when those that say nothing are disconnected."""
    bounds = {"max_connections": 3, "idle_timeout_seconds": 1.0}
    with running(work, "native", {"milter": bounds, "policyd": bounds}) as site, ExitStack() as crowd:
        for address in (site.milter_address, site.policy_address):
            idle = [crowd.enter_context(connect(address)) for _ in range(3)]
            assert serve_well(site)
            assert all(is_closed(one) for one in idle)
        for daemon in (site.milter, site.policyd):
            daemon.wait_for_text(f"all 3 connections ({daemon.kind}.max_connections) are taken")
        told = bounds_told(site, "milter")
        assert ("milter.max_connections", "waiting") in told
        assert told.count(("milter.idle_timeout_seconds", "closed")) == 3


def test_libmilter_disconnects_who_falls_silent_in_a_packet(work: Path) -> None:
    """Of the bounds of time it has this one (`idle_timeout_seconds`): smfi_settimeout."""
    with running(work, "libmilter", {"milter": {"idle_timeout_seconds": 1.0}}) as site:
        with MilterTalk(site.milter_address) as talk:
            begin(talk)
            talk.socket.sendall(b"\0\0\1\0Bhalf of a bo")
            assert is_closed(talk.socket)
        assert serve_well(site)


def bounds_told(site: Site, daemon: str) -> list[tuple[str, str]]:
    """What the record of a daemon says of its bounds: which, and what became of it."""
    return [
        (record["bound"], record["consequence"])
        for record in site.records()
        if record["event"] == "bound" and record["daemon"] == daemon
    ]


def test_a_client_that_sends_a_byte_a_second_is_disconnected(work: Path) -> None:
    """One packet and one request have a time of their own, however lively the connection is."""
    settings = {"milter": {"packet_timeout_seconds": 1.0}, "policyd": {"request_timeout_seconds": 1.0}}
    with running(work, "native", settings) as site:
        packet, request = b"\0\0\1\0B" + b"x" * 200, b"request" * 30
        for address, octets in ((site.milter_address, packet), (site.policy_address, request)):
            with connect(address) as slow:
                assert feed_slowly(slow, octets)
                assert serve_well(site)
        site.milter.wait_for_text("did not send a whole packet in 1 seconds")
        assert bounds_told(site, "milter") == [("milter.packet_timeout_seconds", "closed")]
        site.policyd.wait_for_text("did not send a whole request in")


def feed_slowly(slow: socket.socket, octets: bytes) -> bool:
    """Send octets that make nothing whole, some a second, until hung up on."""
    slow.settimeout(0.1)
    for octet in octets:
        try:
            slow.sendall(bytes([octet]))
            if slow.recv(1) == b"":
                return True
        except TimeoutError:
            continue
        except ConnectionError:
            return True
    return False


@pytest.mark.parametrize("engine", ENGINES)
def test_an_mta_that_vanishes_in_a_body_leaves_nothing_behind(work: Path, engine: Engine) -> None:
    """Connections that end in the middle of a packet, of a body and of a judgement: nobody else notices."""
    with running(work, engine, {}) as site:
        workers = site.milter.workers
        for _ in range(20):
            with MilterTalk(site.milter_address) as talk:
                begin(talk)
                talk.socket.sendall(b"\0\0\1\0Bhalf of a bo")
        site.dns.fail(f"mail.{BANK.name}", SILENT)
        with MilterTalk(site.milter_address) as talk:
            begin(talk)
            talk.send("E")
        site.dns.heal()
        wait_until(lambda: serve_well(site), "the next message passes")
        assert site.milter.workers == workers
        if engine == "native":  # libmilter cannot change the message then, and pymilter raises that
            assert " error: " not in site.milter.text()
        wait_until(lambda: open_sockets(workers[0]) <= 5, "their sockets are closed")


def open_sockets(pid: int) -> int:
    """How many unix sockets that were accepted a process has."""
    links = [entry for entry in Path(f"/proc/{pid}/fd").iterdir() if is_socket(entry)]
    return len(links) - 3  # to the parent, the listening one, the loop's own


def is_socket(entry: Path) -> bool:
    try:
        return entry.readlink().name.startswith("socket:")
    except FileNotFoundError:
        return False


def limited(daemon: Daemon, *limits: str) -> None:
    """Have it run under limits of the system, as prlimit(1) takes them."""
    daemon.command = ["prlimit", *limits, "--", *daemon.command]


@pytest.mark.parametrize("engine", ENGINES)
def test_descriptors_that_run_out_are_survived(work: Path, engine: Engine) -> None:
    """More connections than files may be open: who is in is deferred and recorded; then all is as before."""
    site = Site(work, rules=ASKING + AT_END, engine=engine, settings=IMPATIENT, zone=BANK.zone)
    for daemon in (site.milter, site.policyd):
        limited(daemon, f"--nofile={FEW_DESCRIPTORS}:{FEW_DESCRIPTORS}")
    with site.without_postfix():
        with (
            MilterTalk(site.milter_address) as talk,
            PolicyClient(site.policy_address) as client,
            ExitStack() as crowd,
        ):
            begin(talk)
            for _ in range(FEW_DESCRIPTORS + 20):
                for address in (site.milter_address, site.policy_address):
                    with suppress(BlockingIOError):
                        crowd.enter_context(connect(address))
            site.policyd.wait_for_text("no further connection can be accepted: Too many open files")
            if engine == "native":
                site.milter.wait_for_text("no further connection can be accepted: Too many open files")
            assert [packet.data[:9] for packet in talk.end_of_message()] == [b"451 4.4.3"]
            assert ask(client).startswith("DEFER_IF_PERMIT 4.4.3")
            assert [record["verdict"]["action"] for record in site.records()] == ["defer", "defer"]
        wait_until(lambda: serve_well(site), "they serve again")
        for kind in ("policyd", "milter"):
            assert f"only {FEW_DESCRIPTORS} open files are allowed, {kind}.max_connections" in "".join(
                daemon.text() for daemon in (site.milter, site.policyd)
            )


def allow_threads(workers: Iterable[int], count: int) -> None:
    """Let each of these processes of the user games have so many (RLIMIT_NPROC), if it still runs."""
    account = pwd.getpwnam(OTHER_USER)  # only the same user and group may do it
    for pid in workers:
        command = ["prlimit", f"--nproc={count}:", "--pid", str(pid)]
        subprocess.run(command, user=account.pw_uid, group=account.pw_gid, check=count == 1)


@pytest.mark.parametrize("engine", ENGINES)
def test_threads_that_run_out_defer_mail_until_there_are_some(work: Path, engine: Engine) -> None:
    """An unprivileged worker that may start none: its mail waits or is deferred, never unmarked."""
    site = Site(work, rules=ASKING, engine=engine, settings={**IMPATIENT, "user": OTHER_USER}, zone=BANK.zone)
    with site.without_postfix():
        workers = site.milter.workers + site.policyd.workers
        allow_threads(workers, 1)
        for _ in range(3):
            with suppress(OSError, MilterTalkError):
                assert b"spf=" in results(site)
            with suppress(OSError):
                assert decision(site) == "DUNNO"
        allow_threads(workers, 1000)
        wait_until(lambda: serve_well(site), "they serve again")
        assert site.milter.workers + site.policyd.workers == workers
        for daemon in (site.milter, site.policyd):
            daemon.reload()
            assert "not finished after" not in daemon.text(), "something was left behind"
            assert "Traceback" not in daemon.text()
