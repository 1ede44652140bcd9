"""New keys: their files, and what is printed to be pasted."""

import os
import re
import stat
from datetime import date
from pathlib import Path

import dns.zonefile
import msgspec
import pytest

from mailreeve_milter.dkim.crypto import key_type, load_private_key
from mailreeve_milter.dkim.key_record import format_key_record, parse_key_record
from mailreeve_milter.keys import load_signing_keys
from mailreeve_milter.new_keys import new_keys, selectors_of
from mailreeve_policyd.config import Configuration
from mailreeve_policyd.errors import ConfigError
from mailreeve_policyd.settings import Settings
from mailreeve_policyd.smtp import parse_domain, parse_mailbox
from mailreeve_policyd.transaction import Session

ORG = parse_domain("example.org")
TODAY = selectors_of(date(2026, 11, 23))


def test_new_keys_are_complete(tmp_path: Path) -> None:
    """RSA with 2048 bits and Ed25519, files that only their owner can read, selectors of the day."""
    folder = tmp_path / "keys"

    rsa, ed25519 = new_keys(ORG, folder, None, TODAY)

    assert (rsa.selector, ed25519.selector) == ("r20261123", "e20261123")
    assert (rsa.algorithm, ed25519.algorithm) == ("rsa-sha256", "ed25519-sha256")
    assert rsa.path == folder / "example.org.r20261123.pem"
    assert rsa.dns_name == "r20261123._domainkey.example.org"
    for made in (rsa, ed25519):
        assert stat.S_IMODE(made.path.stat().st_mode) == 0o600
        key = load_private_key(made.path.read_bytes())
        assert made.dns_value == format_key_record(key)
        assert parse_key_record(made.dns_value.encode()).key_type == key_type(key)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_the_record_can_be_pasted_into_a_zone(tmp_path: Path) -> None:
    """The zone line has strings of at most 255 octets, which DNS joins to the record."""
    for made in new_keys(ORG, tmp_path, None, TODAY):
        strings = re.findall(r'"([^"]*)"', made.dns_txt)
        assert max(map(len, strings)) <= 255
        (published,) = dns.zonefile.read_rrsets(made.zone_line, rdclass=None, default_ttl=60)
        assert published.name.to_text(omit_final_dot=True) == made.dns_name
        assert b"".join(published[0].strings) == made.dns_value.encode()


def test_the_settings_can_be_pasted(tmp_path: Path) -> None:
    """The lines for mailreeve.toml load the keys that they were printed with."""
    made = new_keys(ORG, tmp_path, None, TODAY)
    table = msgspec.toml.decode("".join(key.settings for key in made))

    keys = load_signing_keys(Configuration(tmp_path / "mailreeve.toml", msgspec.convert(table, Settings)))

    assert [key.selector for key in keys.choose(parse_mailbox("a@example.org"), Session()).keys] == [
        "r20261123",
        "e20261123",
    ]


def test_nothing_is_ever_overwritten(tmp_path: Path) -> None:
    """A second set of the day, or a file in the way of one of them, leaves all as it was."""
    made = new_keys(ORG, tmp_path, None, TODAY)
    before = [key.path.read_bytes() for key in made]

    with pytest.raises(ConfigError, match="is there already"):
        new_keys(ORG, tmp_path, None, TODAY)
    assert [key.path.read_bytes() for key in made] == before

    made[0].path.unlink()
    with pytest.raises(ConfigError, match="is there already"):
        new_keys(ORG, tmp_path, None, TODAY)
    assert not made[0].path.exists()


def test_a_folder_that_cannot_be_made_is_the_operators(tmp_path: Path) -> None:
    """A file where the folder should be is a mistake with a name, not a traceback."""
    (tmp_path / "keys").touch()

    with pytest.raises(ConfigError, match="keys"):
        new_keys(ORG, tmp_path / "keys", None, TODAY)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: files of another user")
def test_new_keys_belong_to_the_daemons_user(tmp_path: Path) -> None:
    """Made by root, they belong to the account that is to read them, and so does a new folder."""
    made = new_keys(ORG, tmp_path / "keys", (65534, 65534), TODAY)

    assert {key.path.stat().st_uid for key in made} == {65534}
    assert (tmp_path / "keys").stat().st_gid == 65534
