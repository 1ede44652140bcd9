"""The first lines of the program."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mailreeve_admin.entry import config_path
from tests.admin.command import write_site

pytestmark = pytest.mark.system

EARLY = """\
import os, signal, sys

class SignalAtTheFirstImport:
    def find_spec(self, name, path=None, target=None):
        if name.startswith("mailreeve_") and name != "mailreeve_admin.entry":
            sys.meta_path.remove(self)
            os.kill(os.getpid(), {number})

signal.signal(signal.SIGHUP, signal.SIG_DFL)
import mailreeve_admin.entry
sys.meta_path.insert(0, SignalAtTheFirstImport())
mailreeve_admin.entry.main()
"""


def start_early(arguments: list[str | Path], number: signal.Signals) -> subprocess.Popen[str]:
    """The program, which is signalled before it has loaded anything."""
    command = [sys.executable, "-c", EARLY.format(number=number.value), *map(str, arguments)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("daemon", ["policyd", "milter", "run"])
def test_a_reload_that_comes_before_anything_is_loaded_is_done(tmp_path: Path, daemon: str) -> None:
    """SIGHUP would end a process that has not said what it does then: somebody is quick, or a script."""
    process = start_early([daemon, "--config", write_site(tmp_path)], signal.SIGHUP)
    assert process.stderr is not None
    with process.stderr:
        assert any("reading the configuration anew" in line for line in process.stderr)
        process.terminate()
        process.stderr.read()
    assert process.wait(20.0) == 0


def test_who_still_loads_can_be_ended(tmp_path: Path) -> None:
    """At once, and by the signal itself."""
    process = start_early(["milter", "--config", write_site(tmp_path)], signal.SIGTERM)
    _, said = process.communicate(timeout=20.0)

    assert process.returncode == -signal.SIGTERM
    assert said == ""


def test_a_command_of_a_person_ends_with_its_terminal(tmp_path: Path) -> None:
    """Only daemons live on."""
    process = start_early(["rules", "check", "--config", write_site(tmp_path)], signal.SIGHUP)
    process.communicate(timeout=20.0)

    assert process.returncode == -signal.SIGHUP


def test_a_daemon_loads_no_code_of_the_command_line(tmp_path: Path) -> None:
    """Each worker would have it in its memory."""
    program = "import sys, mailreeve_admin.entry as e\ntry: e.main()\nfinally: print(sorted(sys.modules))"
    command = [sys.executable, "-c", program, "policyd", "-c", str(tmp_path / "absent.toml")]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60.0, check=False)

    assert ran.returncode == os.EX_CONFIG
    assert "'typer'" not in ran.stdout
    assert "'rich'" not in ran.stdout
    assert "'mailreeve_milter.daemon'" not in ran.stdout


def test_what_is_not_usual_is_left_to_the_command_line() -> None:
    """It has the options, their help, and what is wrong with them."""
    assert config_path([]) == ""
    assert config_path(["-c", "a.toml"]) == "a.toml"
    assert config_path(["--config", "a.toml"]) == "a.toml"
    for arguments in (["--help"], ["--config"], ["--config", ""], ["--config=a.toml"], ["-c", "a", "b"]):
        assert config_path(arguments) is None
