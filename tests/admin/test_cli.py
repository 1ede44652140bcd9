"""The command itself: its version, and what it loads."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from mailreeve_policyd import __version__
from tests.admin.command import mailreeve, write_site

PROGRAM = "import sys; from mailreeve_admin.cli import main; main(sys.argv[1:])"
WITHOUT_LIBMILTER = """\
import sys
sys.modules["milter"] = sys.modules["Milter"] = None  # whoever imports them fails
from mailreeve_admin.cli import main
main(sys.argv[1:])
"""


def test_it_says_its_version() -> None:
    """For reports of bugs, and for packages."""
    assert mailreeve("--version").out == f"mailreeve {__version__}\n"


def test_a_command_that_does_not_exist_is_refused() -> None:
    """With the status of a wrong usage."""
    assert mailreeve("sing").status == 2


def test_a_missing_configuration_ends_a_daemon_with_78(tmp_path: Path) -> None:
    """EX_CONFIG: systemd need not try again."""
    for daemon in ("policyd", "milter", "run"):
        command = [sys.executable, "-c", PROGRAM, daemon, f"--config={tmp_path / 'absent.toml'}"]
        assert subprocess.run(command, check=False, capture_output=True).returncode == 78


def test_who_asks_needs_no_libmilter(tmp_path: Path) -> None:
    """Configuration, keys and messages can be looked at where the milter itself cannot run."""
    config = write_site(tmp_path, configuration='[dns]\nservers = ["127.0.0.1:9"]\n')
    (tmp_path / "mail.eml").write_bytes(b"From: bob@example.org\r\n\r\nhello\r\n")

    for arguments in (["config", "check"], ["rules", "check"], ["check", str(tmp_path / "mail.eml")]):
        command = [sys.executable, "-c", WITHOUT_LIBMILTER, *arguments, "--config", str(config)]
        assert subprocess.run(command, check=False, capture_output=True).returncode == 0, arguments
