"""The record and the log of real daemons, in places that are no files: syslog, journal, pipes that hang."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.lab.daemons import Engine
from tests.lab.policy import PolicyClient
from tests.lab.ports import accepts
from tests.lab.process import wait_until
from tests.lab.record_schema import check_record
from tests.lab.site import Site, format_toml
from tests.milterd.miltertalk import MilterTalk
from tests.policyd.log_services import unix_service

RULES = """\
at rcpt {
    tell: warn "look at {sasl_username}"  if sasl_username is "bob"
}
"""
ENOUGH = 600
"""Records that are more than a pipe takes (65536 octets)."""


@contextmanager
def policyd(work: Path, settings: dict[str, object], output: int | None = None) -> Iterator[str]:
    """The daemon, with its standard output and standard error in `output`; its address."""
    address = f"unix:{work}/policy.sock"
    (work / "rules").write_text(RULES)
    (work / "mailreeve.toml").write_text(
        format_toml({"state_dir": str(work), "policyd": {"listen": [address]}, **settings})
    )
    program = Path(sys.executable).parent / "mailreeve"
    daemon = subprocess.Popen(
        [program, "policyd", "--config", work / "mailreeve.toml"],
        stdout=output,
        stderr=output,
        start_new_session=True,
    )
    try:
        wait_until(lambda: accepts(address), "the policy daemon listens")
        yield address
    finally:
        daemon.terminate()
        try:
            status = daemon.wait(30)
        finally:
            if daemon.poll() is None:
                os.killpg(daemon.pid, signal.SIGKILL)
                daemon.wait(30)
    assert status == 0


def parent_of(address: str) -> int:
    """The process that listens there: who answers a connection with its own name."""
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(address.removeprefix("unix:"))
        credentials = client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    return int.from_bytes(credentials[:4], sys.byteorder)


def ask(client: PolicyClient, login: str = "bob") -> str:
    return client.ask(sasl_username=login, recipient="alice@example.net", queue_id="4B1C2D")


def test_the_record_and_the_log_go_to_syslog(work: Path) -> None:
    """Each line of the record is a message of its own, and each event of the log."""
    settings: dict[str, object] = {
        "audit": {"to": "syslog"},
        "log": {"to": "syslog", "format": "json"},
        "syslog": {"address": f"unix:{work}/log"},
    }
    with unix_service(work / "log") as service:
        with policyd(work, settings) as address, PolicyClient(address) as client:
            assert ask(client) == "DUNNO"
        sent = [json.loads(datagram.decode().partition("]: ")[2]) for datagram in service.drain()]
    found = {one["event"]: one for one in sent}

    assert {"stopping: finishing what is under way", "%s stopped"} <= found.keys()
    warned, decision = found["%s: warned by %s"], found["decision"]
    assert warned["queue_id"] == decision["queue_id"] == "4B1C2D"
    assert warned["message"] == "4B1C2D: warned by tell: look at bob"
    check_record(decision)


def test_a_reader_of_record_and_log_that_hangs_stops_no_mail(work: Path) -> None:
    """A container's log driver that stands still: every request is answered, and the daemon ends in order."""
    reading, writing = os.pipe()
    try:
        with policyd(work, {"audit": {"to": "stdout"}}, writing) as address, PolicyClient(address) as client:
            assert {ask(client) for _ in range(ENOUGH)} == {"DUNNO"}
            held = os.read(reading, 1 << 20).decode().splitlines()
            assert ask(client, "alice") == "DUNNO"
            after = os.read(reading, 1 << 20).decode().splitlines()
    finally:
        os.close(reading)
        os.close(writing)

    assert len([line for line in held if line.startswith("{")]) < ENOUGH
    assert [json.loads(line)["login"] for line in after if line.startswith("{")] == ["alice"]
    assert any("the record is written again" in line for line in after)
    assert all(line.startswith(("{", "20")) for line in (*held, *after)), "lines are whole"


def test_no_line_is_lost_when_the_file_of_a_working_daemon_is_rotated(work: Path) -> None:
    """Renamed again and again, with SIGUSR1 or without: each record is in one of the files, and whole."""
    path = work / "audit.jsonl"
    asked = 0
    with (
        policyd(work, {"audit": {"to": "file", "file": str(path)}}) as address,
        PolicyClient(address) as client,
    ):
        for number in range(4):
            asked += [ask(client) for _ in range(20)].count("DUNNO")
            path.rename(work / f"audit.jsonl.{number}")
            if number % 2:
                os.kill(parent_of(address), signal.SIGUSR1)
            asked += [ask(client) for _ in range(20)].count("DUNNO")
            wait_until(lambda: ask(client, "alice") == "DUNNO" and path.exists(), "there is a new file")
    lines = [line for file in work.glob("audit.jsonl*") for line in file.read_bytes().splitlines()]

    assert [json.loads(line)["login"] for line in lines].count("bob") == asked == 160


@pytest.mark.parametrize("trouble", ["full", "gone"])
def test_syslog_that_fails_keeps_nobody_waiting_and_is_back_by_itself(work: Path, trouble: str) -> None:
    """Under load: no answer takes a second, the log says how many records were lost, and it is that many."""
    path, log = work / "log", work / "stderr"
    settings: dict[str, object] = {
        "audit": {"to": "syslog"},
        "syslog": {"address": f"unix:{path}"},
        "policyd": {"listen": [f"unix:{work}/policy.sock"], "workers": 1},
    }
    with log.open("wb") as output, policyd(work, settings, output.fileno()) as address, ExitStack() as stack:
        clients = [stack.enter_context(PolicyClient(address)) for _ in range(4)]
        with unix_service(path) as service:
            asked = ask_all(clients[:1], 1)
            kept = len(service.drain())
            if trouble == "full":  # nobody reads: the kernel takes some datagrams
                asked += ask_all(clients)
                kept += len(service.drain())
                assert 1 < kept < asked
                asked += ask_all(clients[:1], 1)
                kept += len(service.drain())
        if trouble == "gone":
            asked += ask_all(clients)
            with unix_service(path) as service:
                asked += ask_all(clients[:1], 1)
                kept += len(service.drain())
    told = re.findall(r"written again, (\d+) lines were lost", log.read_text())

    assert sum(map(int, told)) == asked - kept
    assert log.read_text().count("the record cannot be written") == 1


def ask_all(clients: list[PolicyClient], requests: int = 500) -> int:
    """Each of them so often, all at the same time; no answer may take a second. How many there were."""

    def ask_often(client: PolicyClient) -> None:
        for _ in range(requests):
            before = time.monotonic()
            assert ask(client, "alice") == "DUNNO"
            assert time.monotonic() - before < 1

    with ThreadPoolExecutor(len(clients)) as pool:
        list(pool.map(ask_often, clients))
    return requests * len(clients)


JOURNAL = """\
set -e
mount -t tmpfs none /run
mkdir -p /run/systemd/journal
mount --bind "$0" /run/systemd/journal
exec "$@"
"""
"""A file system of its own, in which the journal's socket is one of the test's."""


@pytest.mark.parametrize("place", ["stdout", "syslog", "journal"])
def test_both_daemons_record_in_every_place(work: Path, engine: Engine, place: str) -> None:
    """One line a decision, as the schema has it, wherever it goes."""
    folder = work / "places"
    folder.mkdir(mode=0o755)
    audit = {"to": place}
    site = Site(
        work,
        rules=RULES + 'at end-of-message {\n    told: warn "a message"\n}\n',
        engine=engine,
        settings={"audit": audit, "syslog": {"address": f"unix:{folder}/log"}},
    )
    if place == "journal":
        for daemon in (site.milter, site.policyd):
            daemon.command = ["unshare", "--mount", "sh", "-c", JOURNAL, str(folder), *daemon.command]
        if subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode:
            pytest.skip("the system gives this user no mounts of its own (unshare)")
    with unix_service(folder / ("socket" if place == "journal" else "log")) as service:
        with site.without_postfix():
            with PolicyClient(site.policy_address) as client:
                assert ask(client) == "DUNNO"
            with MilterTalk(site.milter_address) as talk:
                talk.connect("mail.bank.example", "192.0.2.25")
                talk.mail("<ann@bank.example>")
                talk.rcpt("<bob@example.org>")
                talk.header(b"From", b" ann@bank.example")
                talk.end_of_headers()
                assert talk.end_of_message()[-1].command == "c"
        told = service.drain()
    if place == "stdout":
        written = (site.milter.text() + site.policyd.text()).splitlines()
        lines = [line for line in written if line.startswith("{")]
    elif place == "syslog":
        lines = [datagram.decode().partition("]: ")[2] for datagram in told]
    else:
        lines = [field[8:] for one in told for field in one.decode().split("\n") if field[:8] == "MESSAGE="]
    records = [json.loads(line) for line in lines]
    for record in records:
        check_record(record)
    assert sorted((record["daemon"], record["event"]) for record in records) == [
        ("milter", "message"),
        ("policyd", "decision"),
    ]
