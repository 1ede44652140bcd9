"""Both daemons under one parent, in real processes."""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.lab.process import Process, wait_until
from tests.milterd.miltertalk import MilterTalk

pytestmark = pytest.mark.system

REQUEST = b"request=smtpd_access_policy\nprotocol_state=RCPT\nsender=%s\nrecipient=b@example.org\n\n"
CONFIGURATION = """\
state_dir = "{folder}"
{more}
[policyd]
listen = ["unix:{folder}/policy"]
[milter]
listen = "unix:{folder}/milter"
{milter}
[authentication]
authserv_id = "mx.example.org"
[dns]
servers = ["127.0.0.1:9"]
timeout_seconds = 0.1
"""
NEGOTIATION = b"\0\0\0\rO" + b"\0\0\0\x06" + b"\0\0\x01\xff" + b"\0\x1f\xff\xff"
"""SMFIC_OPTNEG: version 6, all actions, all steps."""


class Both(Process):
    """`mailreeve run`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = folder / "mailreeve.toml"
        command = [sys.executable, "-m", "mailreeve_admin", "run", "--config", str(self.config)]
        super().__init__(command, folder / "log", os.environ)

    def ready(self) -> bool:
        return "milter listens at" in self.text()

    def write(self, word: str = "one", more: str = "", milter: str = "") -> None:
        """Its files; the rules reject the sender WORD@example.net."""
        self.config.write_text(CONFIGURATION.format(folder=self.folder, more=more, milter=milter))
        rule = f'one: reject "5.7.1 no" if sender is "{word}@example.net"'
        (self.folder / "rules").write_text(f"at rcpt {{ {rule} }}\n")

    def rejects(self, word: str) -> bool:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(20.0)
            client.connect(str(self.folder / "policy"))
            client.sendall(REQUEST % f"{word}@example.net".encode())
            return client.recv(1000).startswith(b"action=REJECT")

    def negotiates(self) -> bool:
        """Does the milter answer?"""
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(20.0)
            client.connect(str(self.folder / "milter"))
            client.sendall(NEGOTIATION)
            return client.recv(1000)[4:5] == b"O"

    def workers(self) -> list[str]:
        """Those of both daemons, the ones that are ending included."""
        return Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()

    def says(self, text: str) -> None:
        wait_until(lambda: text in self.text(), f"it writes {text!r}")


@pytest.fixture
def both(tmp_path: Path) -> Iterator[Both]:
    daemons = Both(tmp_path)
    daemons.write()
    yield daemons
    daemons.stop()


@pytest.mark.parametrize("engine", ["native", "libmilter"])
def test_both_serve_reload_and_end_together(both: Both, engine: str) -> None:
    """One parent, one SIGHUP for both, one SIGTERM; the log says which daemon speaks."""
    both.write(milter=f'engine = "{engine}"')
    both.start()
    assert both.rejects("one")
    assert both.negotiates()

    both.write("two", milter=f'engine = "{engine}"')
    both.send(signal.SIGHUP)
    both.says("the last worker with the old configuration has ended")
    assert both.rejects("two")
    assert both.negotiates()
    assert both.text().count("serves with the new configuration at") == 2

    both.send(signal.SIGTERM)
    assert both.wait_ended() == 0
    assert "policyd and milter stopped" in both.text()
    assert not (both.folder / "policy").exists()
    assert not (both.folder / "milter").exists()


def test_a_mistake_that_only_the_milter_finds_leaves_both_as_they_are(both: Both) -> None:
    """No daemon serves with one configuration beside the other with another."""
    both.start()
    both.write("two", more='[[signing.keys]]\ndomain = "example.org"\nselector = "s"\nfile = "absent.pem"\n')
    both.send(signal.SIGHUP)
    both.says("the old configuration stays in force")

    assert both.rejects("one")
    assert both.negotiates()


def test_a_daemon_that_cannot_start_starts_neither(both: Both) -> None:
    """78, its message, and no socket left behind."""
    (both.folder / "milter").write_text("no socket")
    ended = subprocess.run(both.command, capture_output=True, text=True, timeout=60.0, check=False)

    assert ended.returncode == os.EX_CONFIG
    assert "milter" in ended.stderr
    assert "is there and is no socket" in ended.stderr
    assert not (both.folder / "policy").exists()


def test_a_worker_signs_its_log_with_the_name_of_its_daemon(both: Both) -> None:
    """The parent says "run"; who looks for trouble looks for a daemon."""
    both.write(more="hung_after_seconds = 1.0")
    both.start()
    both.send(signal.SIGKILL)
    both.says("mailreeve policyd[")
    both.says("mailreeve milter[")


@pytest.mark.parametrize("engine", ["native", "libmilter"])
def test_a_worker_that_has_answered_enough_is_replaced_and_loses_no_message(both: Both, engine: str) -> None:
    """A session that is open finishes its message with the old worker, while a new one serves others."""
    both.write(milter=f'engine = "{engine}"\nrecycle_after_messages = 2')
    both.start()
    with MilterTalk(f"unix:{both.folder}/milter") as early:
        early.connect("client.example.net", "192.0.2.1")
        early.helo("client.example.net")
        send(early)
        send(early)
        both.says("answered 2 times: another takes its place")
        wait_until(lambda: len(both.workers()) == 3, "another worker serves beside the old one")
        assert both.negotiates()
        send(early)
    both.says("another took its place")

    assert both.negotiates()
    assert "died" not in both.text()


def test_who_comes_while_the_last_message_is_finished_is_refused_at_once(both: Both) -> None:
    """Nobody holds a socket that he does not serve: the milter's last session stops no policy client."""
    both.start()
    with MilterTalk(f"unix:{both.folder}/milter") as last:
        last.connect("client.example.net", "192.0.2.1")
        both.send(signal.SIGKILL)
        for name in ("policy", "milter"):
            wait_until(partial(is_refused, both.folder / name), f"nobody listens at {name}")
        last.helo("client.example.net")
        send(last)


def is_refused(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as late:
        return late.connect_ex(str(path)) == errno.ECONNREFUSED


def send(talk: MilterTalk) -> None:
    """One message, which is accepted."""
    talk.mail("<a@example.net>")
    talk.rcpt("<b@example.org>")
    talk.data()
    packets = talk.message([(b"From", b" a@example.net")], b"Hello.\r\n")
    assert packets[-1].command in ("a", "c")
    talk.abort()


def test_as_process_1_of_a_container_they_reload_replace_and_end(both: Both) -> None:
    """A signal without a handler is no signal to process 1, and orphans of the namespace are its children."""
    both.command = ["unshare", "--pid", "--fork", "--kill-child", *both.command]
    if subprocess.run([*both.command[:4], "true"], capture_output=True, check=False).returncode:
        pytest.skip("the system makes no PID namespace for this user (unshare)")
    both.start()
    (first,) = both.workers()
    status = Path(f"/proc/{first}/status")
    assert status.read_text().partition("NSpid:")[2].split("\n")[0].split()[-1] == "1"

    def workers() -> list[str]:
        return Path(f"/proc/{first}/task/{first}/children").read_text().split()

    before = workers()
    os.kill(int(before[0]), signal.SIGKILL)
    wait_until(lambda: len(workers()) == len(before) and before[0] not in workers(), "it is replaced")
    assert both.rejects("one")

    both.write("two")
    os.kill(int(first), signal.SIGHUP)
    both.says("the last worker with the old configuration has ended")
    assert both.rejects("two")
    assert both.negotiates()
    os.kill(int(first), signal.SIGTERM)
    assert both.wait_ended() == 0
    assert "policyd and milter stopped" in both.text()
