"""`mailreeve keys new`: files for their owner alone, records to publish, lines to paste."""

from __future__ import annotations

import stat
import tomllib
from pathlib import Path

from tests.admin.command import Ran, mailreeve, write_site


def new(folder: Path, *more: str, domain: str = "example.org") -> Ran:
    return mailreeve("keys", "new", domain, "--config", write_site(folder), *more)


def test_two_keys_are_made_that_their_owner_alone_can_read(tmp_path: Path) -> None:
    """RSA for everybody, Ed25519 for who knows it; beside the configuration unless told otherwise."""
    ran = new(tmp_path)

    files = sorted((tmp_path / "keys").iterdir())
    assert (ran.status, len(files)) == (0, 2)
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    assert all(str(file) in ran.out for file in files)


def test_what_is_printed_can_be_pasted(tmp_path: Path) -> None:
    """The settings are TOML with which the configuration is right; each selector has its record."""
    ran = new(tmp_path, "--selector", "2026b")
    settings = ran.out[ran.out.index("[[signing.keys]]") :]
    config = tmp_path / "mailreeve.toml"
    config.write_text(config.read_text() + settings)

    keys = tomllib.loads(settings)["signing"]["keys"]
    assert [key["selector"] for key in keys] == ["2026b-r", "2026b-e"]
    for key in keys:
        assert f"{key['selector']}._domainkey.example.org. IN TXT (" in ran.out
    assert mailreeve("config", "check", "--config", config).status == 0


def test_a_second_set_of_one_day_needs_a_name(tmp_path: Path) -> None:
    """Keys are never overwritten; where one was stolen the next has a name of its own."""
    assert [new(tmp_path).status, new(tmp_path).status] == [0, 78]
    assert "--selector NAME" in new(tmp_path).err
    assert new(tmp_path, "--selector", "after").status == 0


def test_what_is_no_name_is_refused(tmp_path: Path) -> None:
    """Of a domain, or of a selector; nothing is made."""
    assert "DOMAIN: not a domain name" in new(tmp_path, domain="a b").err
    assert "--selector: not a selector" in new(tmp_path, "--selector", "a b").err
    assert not (tmp_path / "keys").exists()
