"""What the daemons write to is looked at before they start."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mailreeve_policyd.config import parse_configuration
from mailreeve_policyd.errors import ConfigError
from mailreeve_policyd.listen import InetAddress, UnixAddress
from mailreeve_policyd.places import check_places, check_sockets

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: files of another user")


def check(folder: Path, text: str = "", *, counts: bool = True) -> None:
    raw = f'state_dir = "state"\n{text}'.encode()
    check_places(parse_configuration(raw, folder / "mailreeve.toml"), counts=counts)


def test_a_folder_that_is_there_is_right(tmp_path: Path) -> None:
    """Files that are there already can be written, too."""
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "limits.sqlite").touch()
    (tmp_path / "audit.jsonl").touch()

    check(tmp_path, '[audit]\nto = "file"\nfile = "audit.jsonl"')


def test_a_missing_state_directory_is_told_with_what_makes_it(tmp_path: Path) -> None:
    """The limits would otherwise count in each process for itself."""
    with pytest.raises(ConfigError, match="state_dir: there is no folder") as caught:
        check(tmp_path, 'user = "mailreeve"')

    assert f"install -d -o mailreeve {tmp_path}/state" in (caught.value.hint or "")


@pytest.mark.parametrize(
    "text",
    ['[limits]\nstore = "redis"\nredis_url = "redis://127.0.0.1"\non_unavailable = "closed"', ""],
    ids=["limits in Redis alone", "no limits"],
)
def test_a_state_directory_that_nobody_needs_may_be_missing(tmp_path: Path, text: str) -> None:
    """Who only verifies and signs has none."""
    check(tmp_path, text, counts=bool(text))


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    """Nothing can be made in it."""
    (tmp_path / "state").touch()

    with pytest.raises(ConfigError, match="is no folder"):
        check(tmp_path)


def test_the_folder_of_the_record_must_be_there(tmp_path: Path) -> None:
    """The record would be lost without a word to the client."""
    with pytest.raises(ConfigError, match=r"audit\.file: there is no folder .*/log"):
        check(tmp_path, '[audit]\nto = "file"\nfile = "log/audit.jsonl"', counts=False)


def test_the_folder_of_a_socket_must_be_there(tmp_path: Path) -> None:
    """Told by the address; a port needs no folder."""
    configuration = parse_configuration(b"", tmp_path / "mailreeve.toml")
    check_sockets(configuration, [InetAddress("127.0.0.1", 10040), UnixAddress(tmp_path / "s")])

    with pytest.raises(ConfigError, match=r"unix:.*/run/s: there is no folder"):
        check_sockets(configuration, [UnixAddress(tmp_path / "run" / "s")])
