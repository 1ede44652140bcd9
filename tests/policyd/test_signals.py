"""When signals are remembered, when they end the process, and when they are ignored."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

PROGRAM = """
import os, signal
from mailreeve_policyd.signals import Signals

for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
    signal.signal(number, signal.SIG_DFL)  # a shell has background jobs ignore SIGINT

def send(*numbers):
    for number in numbers:
        os.kill(os.getpid(), number)

with Signals() as signals:
    {before}
    if {loads}:
        signals.handle_all()
    {within}
    print(sorted(signals.read()), signals.read())
{after}
"""


def run(
    before: str = "pass", within: str = "pass", after: str = "pass", loads: bool = True
) -> subprocess.CompletedProcess[str]:
    """A process that signals itself at these moments; `loads` if it comes to have something to drain."""
    program = PROGRAM.format(before=before, within=within, after=after, loads=loads)
    command = [sys.executable, "-c", program]
    return subprocess.run(command, capture_output=True, text=True, timeout=20.0, check=False)


def test_a_reload_that_is_asked_for_too_early_is_remembered() -> None:
    """SIGHUP and SIGUSR1 would end a process that has no handler for them."""
    ran = run(before="send(signal.SIGHUP, signal.SIGUSR1)")

    assert (ran.returncode, ran.stdout) == (0, f"{[signal.SIGHUP.value, signal.SIGUSR1.value]} set()\n")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_who_still_loads_ends_at_once(number: signal.Signals) -> None:
    """There is nothing to drain; nobody waits for rules to be tested."""
    ran = run(before=f"send({number.value})")

    assert ran.returncode == -number
    assert ran.stdout == ""


def test_afterwards_all_are_read_as_numbers() -> None:
    """Each once, and nothing when nothing came."""
    ran = run(within="send(signal.SIGTERM, signal.SIGINT, signal.SIGTERM)")

    assert (ran.returncode, ran.stdout) == (0, f"{[signal.SIGINT.value, signal.SIGTERM.value]} set()\n")


def test_what_comes_after_the_end_changes_nothing() -> None:
    """The exit status is that of a daemon that has drained, however often it is told to."""
    ran = run(after="send(signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)")

    assert ran.returncode == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_where_nothing_was_begun_all_is_as_before(number: signal.Signals) -> None:
    """A daemon whose configuration is wrong leaves no trace in the process that called it."""
    assert run(after=f"send({number.value})", loads=False).returncode == -number
