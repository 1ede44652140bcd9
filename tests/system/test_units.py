"""The files in contrib/ that an operator copies into systemd's folders, as systemd's programs see them."""

from __future__ import annotations

import configparser
import re
import stat
import subprocess
import tomllib
from pathlib import Path

import pytest

CONTRIB = Path(__file__).parents[2] / "contrib"
UNITS = CONTRIB / "systemd"
SERVICES = sorted(UNITS.glob("*.service"))
SOCKETS = sorted(UNITS.glob("*.socket"))
MOST_EXPOSED = 15
"""Tenths: systemd-analyze's 1.5 of 10, of which 0.5 is that a daemon for mail needs a network."""


def ran(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=60.0, check=False)


def names(paths: list[Path]) -> list[str]:
    return [path.name for path in paths]


class Unit(configparser.RawConfigParser):
    """A unit's settings; of those that stand there twice the last."""

    def __init__(self, path: Path) -> None:
        super().__init__(strict=False)
        self.read_string(path.read_text())

    def optionxform(self, optionstr: str) -> str:
        return optionstr  # names of options keep their capitals


@pytest.mark.parametrize("unit", SERVICES, ids=names(SERVICES))
def test_a_service_is_little_exposed(unit: Path) -> None:
    """As the program that measures it says, whose exit status is the verdict."""
    threshold = f"--threshold={MOST_EXPOSED}"
    judged = ran("systemd-analyze", "security", "--offline=yes", threshold, unit)

    assert judged.returncode == 0, judged.stdout + judged.stderr


@pytest.mark.parametrize("unit", [*SERVICES, *SOCKETS], ids=names([*SERVICES, *SOCKETS]))
def test_systemd_understands_all_that_stands_in_a_unit(tmp_path: Path, unit: Path) -> None:
    """An option that is misspelt would be one that does not hold. (The program is not installed here.)"""
    for path in (*SERVICES, *SOCKETS):
        text = path.read_text().replace("/opt/mailreeve/bin/mailreeve", "/bin/true")
        (tmp_path / path.name).write_text(text)
    said = ran("systemd-analyze", "verify", "--man=no", tmp_path / unit.name)

    ours = [line for line in said.stderr.splitlines() if "mailreeve" in line]
    assert ours == []


@pytest.mark.parametrize("unit", SERVICES, ids=names(SERVICES))
def test_a_service_is_ready_when_it_serves_and_drains_by_its_parent(unit: Path) -> None:
    """What the daemons do for systemd is asked for, and a mistake of the operator is not tried again."""
    service = Unit(unit)["Service"]

    assert (service["Type"], service["KillMode"]) == ("notify", "mixed")
    assert int(service["WatchdogSec"]) > 60, "more than START_SECONDS: workers may be replaced meanwhile"
    assert service["RestartPreventExitStatus"] == "78"


@pytest.mark.parametrize("unit", SERVICES, ids=names(SERVICES))
def test_all_services_are_sandboxed_alike(unit: Path) -> None:
    """What one of them needs not, none does: below the blank line they have the same lines."""
    sandbox = unit.read_text().partition("\nStateDirectory=")[2]

    assert sandbox
    assert sandbox == SERVICES[0].read_text().partition("\nStateDirectory=")[2]


def test_sockets_lie_where_the_configuration_and_postfix_look_for_them() -> None:
    """Each .socket unit names the daemon that serves it, or has the paths of `listen`."""
    settings = tomllib.loads((CONTRIB / "postfix/mailreeve.toml").read_text())
    listen = {"milter": settings["milter"]["listen"], "policyd": settings["policyd"]["listen"][0]}
    for daemon, address in listen.items():
        socket = Unit(UNITS / f"mailreeve-{daemon}.socket")["Socket"]
        assert f"unix:{socket['ListenStream']}" == address
        assert socket["FileDescriptorName"] == daemon

    both = re.findall(r"^ListenStream=(.*)$", (UNITS / "mailreeve.socket").read_text(), re.MULTILINE)
    assert {f"unix:{path}" for path in both} == set(listen.values())


def test_account_and_folders_are_made_as_the_page_says(tmp_path: Path) -> None:
    """systemd-sysusers and systemd-tmpfiles, in a system of their own, make what the daemons need."""
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text("postfix:x:105:105::/var/spool/postfix:/usr/sbin/nologin\n")
    (tmp_path / "etc/group").write_text("postfix:x:105:\n")
    made = ran("systemd-sysusers", f"--root={tmp_path}", CONTRIB / "sysusers.d/mailreeve.conf")
    assert made.returncode == 0, made.stderr

    assert re.search(r"^mailreeve:.*:/nonexistent:", (tmp_path / "etc/passwd").read_text(), re.MULTILINE)
    assert re.search(r"^mailreeve:x:\d+:postfix$", (tmp_path / "etc/group").read_text(), re.MULTILINE)

    listed = CONTRIB / "tmpfiles.d/mailreeve.conf"
    (tmp_path / "var/spool/postfix").mkdir(parents=True)
    made = ran("systemd-tmpfiles", f"--root={tmp_path}", "--create", listed)
    assert made.returncode == 0, made.stderr
    uid = int(re.findall(r"^mailreeve:.*?:(\d+):", (tmp_path / "etc/passwd").read_text(), re.MULTILINE)[0])
    for _, path, mode, owner, _ in (
        line.split() for line in listed.read_text().splitlines() if line[0] == "d"
    ):
        status = (tmp_path / path[1:]).stat()
        assert stat.S_IMODE(status.st_mode) == int(mode, 8)
        assert status.st_uid == (0 if owner == "root" else uid)


def test_the_page_has_the_folders_that_are_made() -> None:
    """docs/install.md gives them for those without systemd, with the same modes and owners."""
    page = (CONTRIB.parent / "docs/install.md").read_text()
    lines = (CONTRIB / "tmpfiles.d/mailreeve.conf").read_text().splitlines()
    folders = [line.split() for line in lines if line.startswith("d ")]

    assert len(folders) == 4
    for _, path, mode, owner, group in folders:
        pattern = rf"install -d -o {owner} -g {group} -m {mode} .*{re.escape(path)}\b"
        assert re.search(pattern, page), path
