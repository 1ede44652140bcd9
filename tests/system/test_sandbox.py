"""The daemons under the system calls and address families that their units allow, without systemd."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.lab import sandbox
from tests.lab.daemons import Engine
from tests.lab.keys import SigningKeys
from tests.lab.outside import OutsideDomain
from tests.lab.policy import PolicyClient
from tests.lab.process import wait_until
from tests.lab.site import Site
from tests.lab.tree import REPOSITORY
from tests.milterd.miltertalk import MilterTalk, MilterTalkError

UNITS = REPOSITORY / "contrib" / "systemd"
BANK = OutsideDomain("bank.example", "192.0.2.25")
RULES = """
at rcpt {
    forged: reject "5.7.1 Forged" if spf is fail
    hour:   limit 1000 recipients/hour per client_address
}
at end-of-message {
    day:    limit 1000 messages/day per client_address
}
"""


def test_the_filter_forbids_what_the_unit_does_not_allow() -> None:
    """A socket to the kernel, and a change of the clock: refused, and nothing else comes of it."""
    tried = (
        "import errno, os, socket, sys, time\n"
        "for attempt in (lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW),\n"
        "                lambda: time.clock_settime(time.CLOCK_REALTIME, time.time())):\n"
        "    try: attempt()\n"
        "    except PermissionError: continue\n"
        "    sys.exit(1)\n"
        "socket.socket(socket.AF_INET6)\n"
    )
    unit = UNITS / "mailreeve-milter.service"
    command = [sys.executable, sandbox.__file__, str(unit), sys.executable, "-c", tried]
    subprocess.run(command, check=True)


@pytest.mark.parametrize("store", ["sqlite", "redis"])
def test_both_daemons_do_all_that_they_do_in_the_sandbox_of_their_units(
    work: Path, our_keys: SigningKeys, engine: Engine, store: str
) -> None:
    """Serve, sign, count, ask DNS, reload, replace a killed worker, reopen the record, tell metrics, end."""
    site = Site(
        work,
        rules=RULES,
        engine=engine,
        store="redis" if store == "redis" else "sqlite",
        keys=our_keys,
        settings={
            "milter": {"workers": 2, "decides": ["end-of-message"]},
            "metrics": {"policyd_listen": f"unix:{work}/p", "milter_listen": f"unix:{work}/m"},
        },
        zone=BANK.zone,
    )
    for daemon in (site.milter, site.policyd):
        unit = UNITS / f"mailreeve-{daemon.kind}.service"
        daemon.command = [sys.executable, sandbox.__file__, str(unit), *daemon.command]
    with site.without_postfix():
        assert is_served(site)
        for daemon in (site.milter, site.policyd):
            daemon.reload()
        before = site.milter.workers
        os.kill(before[0], signal.SIGKILL)
        wait_until(lambda: len({*site.milter.workers} - {before[0]}) == len(before), "it is replaced")
        wait_until(lambda: is_served(site), "it serves again")
        site.audit.rename(site.audit.with_suffix(".1"))
        for daemon in (site.milter, site.policyd):
            daemon.send(signal.SIGUSR1)
        wait_until(site.audit.exists, "the record is opened anew")
        assert is_served(site)
        assert {record["daemon"] for record in site.records()} == {"milter", "policyd"}
        assert b"mailreeve_" in scraped(work / "p")
        assert b"mailreeve_" in scraped(work / "m")
        for daemon in (site.milter, site.policyd):
            daemon.send(signal.SIGTERM)
            assert daemon.wait_ended() == 0
            assert "Traceback" not in daemon.text()


def is_served(site: Site) -> bool:
    """Is a message of the bank marked, and a recipient of it counted?"""
    with PolicyClient(site.policy_address) as client:
        answer = client.ask(
            sender=f"alerts@{BANK.name}",
            recipient="bob@example.org",
            client_address=BANK.address,
            helo_name=f"mail.{BANK.name}",
        )
    try:
        with MilterTalk(site.milter_address) as talk:
            talk.connect(f"mail.{BANK.name}", BANK.address)
            talk.helo(f"mail.{BANK.name}")
            talk.mail(f"<alerts@{BANK.name}>")
            talk.rcpt("<bob@example.org>")
            talk.data()
            talk.header(b"From", f" alerts@{BANK.name}".encode())
            talk.end_of_headers()
            talk.body(b"Dear Bob\r\n")
            return answer == "DUNNO" and b"spf=pass" in talk.end_of_message()[0].data
    except (OSError, MilterTalkError):
        return False


def scraped(path: Path) -> bytes:
    """What Prometheus would get."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(10.0)
        client.connect(str(path))
        client.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        return b"".join(iter(lambda: client.recv(65536), b""))
