"""Each engine as a process: what it negotiates, how it drains, what messages and sessions cost it."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.lab.daemons import ENGINES, Daemon, Engine
from tests.lab.dns import DnsServer
from tests.lab.ports import accepts
from tests.lab.process import wait_until
from tests.lab.record_schema import check_file
from tests.lab.work import work_folder
from tests.milterd.miltertalk import Actions, MacroStage, MilterTalk, MilterTalkError, Packet, Steps
from tests.milterd.setups import read_zone, write_setup

pytestmark = pytest.mark.system

MEGABYTE = 1024 * 1024


@dataclass(slots=True)
class Running:
    """A milter that runs beside Postfix."""

    daemon: Daemon
    address: str
    work: Path

    def begin(self, helo: str = "mail.example.net") -> MilterTalk:
        """A connection on which a stranger's message has come as far as its header."""
        talk = MilterTalk(self.address)
        talk.connect("mail.example.net", "192.0.2.1")
        talk.helo(helo)
        talk.mail("<bob@example.net>")
        talk.rcpt("<alice@example.org>")
        talk.data()
        talk.header(b"From", b" bob@example.net")
        return talk

    def highest_memory(self) -> int:
        """Octets that its workers have ever had resident, together."""
        status = (Path(f"/proc/{pid}/status").read_text() for pid in self.daemon.workers)
        lines = (line for text in status for line in text.splitlines() if line.startswith("VmHWM:"))
        return sum(int(line.split()[1]) for line in lines) * 1024


@contextmanager
def run_milter(engine: Engine, rules: str = "", settings: str = "") -> Iterator[Running]:
    with work_folder() as work, DnsServer(read_zone()) as dns:
        config = write_setup("postfix", work, dns, engine)
        config.write_text(config.read_text() + settings)
        (work / "rules").write_text(rules or (work / "rules").read_text())
        with Daemon("milter", config, work) as daemon:
            yield Running(daemon, f"unix:{work}/milter.sock", work)


@pytest.fixture(scope="module", params=ENGINES)
def running(request: pytest.FixtureRequest) -> Iterator[Running]:
    """One of each engine, for the tests that leave it running."""
    with run_milter(request.param) as running:
        yield running


def finish(talk: MilterTalk) -> list[Packet]:
    """The rest of the message that `begin` began."""
    talk.end_of_headers()
    talk.body(b"hello\r\n")
    return talk.end_of_message()


def test_it_asks_only_for_what_it_uses(running: Running) -> None:
    """Changes to header and recipients, no answer where nothing is decided, exact values, its macros."""
    with MilterTalk(running.address) as talk:
        picked = talk.negotiated

    changes = Actions.ADD_HEADERS | Actions.CHANGE_HEADERS | Actions.QUARANTINE | Actions.SET_MACROS
    changes |= Actions.ADD_RECIPIENTS | Actions.DELETE_RECIPIENTS
    silent = Steps.SILENT_CONNECT | Steps.SILENT_HELO | Steps.SILENT_MAIL | Steps.SILENT_RCPT
    silent |= Steps.SILENT_HEADER | Steps.SILENT_END_OF_HEADERS | Steps.SILENT_BODY
    assert picked.actions == changes
    assert picked.steps & silent == silent
    assert Steps.LEADING_SPACE in picked.steps
    assert Steps.NO_DATA | Steps.NO_UNKNOWN in picked.steps
    assert picked.macros[MacroStage.END_OF_MESSAGE] == ("i",)
    assert "{auth_authen}" in picked.macros[MacroStage.MAIL]


def test_an_mta_that_lets_nobody_change_the_header_is_refused(running: Running) -> None:
    """Without that nothing could be marked or cleaned: better no filter than one that only seems to work."""
    with pytest.raises(MilterTalkError, match="closed"):
        MilterTalk(running.address, actions=Actions.CHANGE_BODY)
    running.daemon.wait_for_text("the MTA does not let filters add and remove header fields")


@pytest.mark.parametrize("engine", ENGINES)
def test_messages_under_way_are_finished_before_it_stops(engine: Engine) -> None:
    """After SIGTERM nothing new is taken; what is open goes on to its end, and the exit code is 0."""
    with run_milter(engine) as running, running.begin() as talk, running.begin() as another:
        running.daemon.send(signal.SIGTERM)
        running.daemon.wait_for_text("stopping")
        assert [packet.command for packet in finish(talk)] == ["i", "c"]
        assert not accepts(running.address)
        assert [packet.command for packet in finish(another)] == ["i", "c"]
        talk.quit()
        another.quit()
        assert running.daemon.wait_ended() == 0


def test_messages_under_way_are_finished_by_the_old_worker(running: Running) -> None:
    """After SIGHUP a new worker takes what is new; the old one ends when it has finished."""
    before = running.daemon.workers
    with running.begin() as talk:
        running.daemon.hup()
        wait_until(lambda: len(running.daemon.workers) == 2, "a new worker")
        with running.begin() as another:
            assert [packet.command for packet in finish(another)] == ["i", "c"]
        assert set(before) <= set(running.daemon.workers)
        assert [packet.command for packet in finish(talk)] == ["i", "c"]
        talk.quit()
        wait_until(lambda: not set(before) & set(running.daemon.workers), "the old worker ends")


def test_a_worker_that_dies_is_replaced(running: Running) -> None:
    """Its connections end, so that the MTA defers their mail; the next one is served."""
    (worker,) = running.daemon.workers
    with running.begin() as talk:
        os.kill(worker, signal.SIGKILL)
        with pytest.raises((MilterTalkError, OSError)):
            finish(talk)
    wait_until(lambda: running.daemon.workers not in ([], [worker]), "another worker")
    with running.begin() as talk:
        assert [packet.command for packet in finish(talk)] == ["i", "c"]


def test_a_large_message_costs_no_memory(running: Running) -> None:
    """20 MB, signed so that all of it is hashed: less than 1 MB more than a small message."""
    with running.begin() as talk:
        assert b"dkim=fail" in signed(talk, b"small\r\n")
        before = running.highest_memory()
        talk.mail("<bob@example.net>")
        talk.rcpt("<alice@example.org>")
        talk.data()
        talk.header(b"From", b" bob@example.net")
        assert b"dkim=fail" in signed(talk, b"0123456789 12345 789\r\n" * (20 * MEGABYTE // 22))

    assert running.highest_memory() - before < MEGABYTE


def signed(talk: MilterTalk, body: bytes) -> bytes:
    """The results for a message with a signature that needs its whole body."""
    talk.header(b"DKIM-Signature", SIGNATURE)
    talk.end_of_headers()
    talk.body(body)
    return talk.end_of_message()[0].data


SIGNATURE = (
    b" v=1; a=ed25519-sha256; c=relaxed/simple; d=example.net; s=ed; h=from;"
    b" bh=4HVt8Ok4OiDJQiiGbdAZeEUndbzIMPwiu5P+tVTpVs0=;"
    b" b=ojUti1TOpUgWQEaNZ8GlPXVvT3KTkebaa6WaaeVtgGtvi/jZb5AVbHhh6AJ4ZrU5GW5Y2KGBoiTFaJviIU5jCQ=="
)


def test_a_header_field_longer_than_libmilter_likes(running: Running) -> None:
    """Postfix sends fields up to header_size_limit, 100 KB; libmilter alone would hang up at 64 KB."""
    with running.begin() as talk:
        talk.header(b"To", b" " + b"alice@example.org,\r\n " * 5000 + b"bob@example.org")
        packets = finish(talk)
    assert packets[-1].command == "c"


@pytest.mark.parametrize("engine", ENGINES)
def test_a_message_on_which_the_rules_work_for_too_long_is_deferred_alone(engine: Engine) -> None:
    """Under a setting; the record tells the decision and the bound, and the next message is answered."""
    patterns = (
        f"r{number}: warn if helo_name matches /(a?){{300}}(a){{300}}b{number}/" for number in range(40)
    )
    rules = "at end-of-message {\n" + "\n".join(patterns) + "\n}\n"
    with run_milter(engine, rules, "\n[deciding]\nmax_rules_seconds = 0.01\n") as running:
        with running.begin("a" * 8000) as talk:
            assert finish(talk)[-1].data.startswith(b"451 4.3.0 ")
        with running.begin() as talk:
            assert finish(talk)[-1].command == "c"
        lines = (running.work / "audit.jsonl").read_text().splitlines()
    bound, deferred, answered = [json.loads(line) for line in lines]
    assert (bound["bound"], bound["consequence"]) == ("deciding.max_rules_seconds", "refused")
    assert (deferred["verdict"]["action"], deferred["unknown"]) == ("defer", ["rules"])
    assert answered["verdict"]["action"] == "continue"


@pytest.mark.parametrize("engine", ENGINES)
def test_connections_beyond_the_bound_harm_nobody(engine: Engine) -> None:
    """A further one waits, or with libmilter is closed; those that are there are answered; a record tells."""
    with work_folder() as work, DnsServer(read_zone()) as dns:
        config = write_setup("postfix", work, dns, engine)
        config.write_text(config.read_text().replace("[milter]", "[milter]\nmax_connections = 2"))
        with Daemon("milter", config, work) as daemon:
            running = Running(daemon, f"unix:{work}/milter.sock", work)
            with running.begin() as first, running.begin() as second:
                if engine == "libmilter":
                    with pytest.raises(MilterTalkError, match="closed"):
                        MilterTalk(running.address)
                daemon.wait_for_text("all 2 connections (milter.max_connections) are taken")
                for talk in (first, second):
                    assert [packet.command for packet in finish(talk)] == ["i", "c"]
                    talk.quit()
            wait_until(lambda: passes(running), "a message passes")
        check_file(work / "audit.jsonl")
        lines = [json.loads(line) for line in (work / "audit.jsonl").read_bytes().splitlines()]
    told = [line for line in lines if line["event"] == "bound"]
    assert told
    assert {(line["bound"], line["maximum"]) for line in told} == {("milter.max_connections", 2)}
    assert {line["consequence"] for line in told} == {"waiting" if engine == "native" else "closed"}


def passes(running: Running) -> bool:
    """Is a message answered as ever? Not while the places that were taken are not free yet."""
    try:
        with running.begin() as talk:
            return [packet.command for packet in finish(talk)] == ["i", "c"]
    except (MilterTalkError, OSError):
        return False
