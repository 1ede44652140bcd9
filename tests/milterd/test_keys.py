"""Key files and new keys."""

import logging
import os
import re
import stat
from collections.abc import Callable
from datetime import date
from pathlib import Path

import dns.zonefile
import msgspec
import pytest

from mailreeve_milter.dkim.crypto import format_private_key, generate_ed25519_key, key_type, load_private_key
from mailreeve_milter.dkim.key_record import format_key_record, parse_key_record
from mailreeve_milter.keys import load_signing_keys, new_keys, signing_options
from mailreeve_policyd.config import Configuration
from mailreeve_policyd.errors import ConfigError
from mailreeve_policyd.settings import Settings
from mailreeve_policyd.smtp import parse_domain
from tests.milterd.test_dkim_crypto import VECTOR_KEYS

ORG = parse_domain("example.org")
TODAY = date(2026, 11, 23)


def configuration(folder: Path, *keys: dict[str, str], **settings: object) -> Configuration:
    table = {"signing": {"keys": keys} | settings}
    return Configuration(folder / "mailreeve.toml", msgspec.convert(table, Settings))


def a_key(file: str = "key.pem", domain: str = "example.org", selector: str = "s1") -> dict[str, str]:
    return {"domain": domain, "selector": selector, "file": file}


def write_key(folder: Path, name: str = "rsa4096", mode: int = 0o600) -> Path:
    file = folder / "key.pem"
    file.write_bytes((VECTOR_KEYS / f"{name}.pem").read_bytes())
    file.chmod(mode)
    return file


def problem_of(configuration: Configuration) -> ConfigError:
    with pytest.raises(ConfigError) as raised:
        load_signing_keys(configuration)
    return raised.value


def test_keys_sign_for_exactly_their_domain(tmp_path: Path) -> None:
    """A domain's keys come in their order; a subdomain has none unless it is named; files are relative."""
    write_key(tmp_path)
    (tmp_path / "ed.pem").write_bytes(format_private_key(generate_ed25519_key()))
    (tmp_path / "ed.pem").chmod(0o640)

    keys = load_signing_keys(
        configuration(tmp_path, a_key(), a_key("ed.pem", selector="e1"), a_key(domain="Sub.Example.ORG"))
    )

    assert [(key.selector, key.algorithm.value) for key in keys.for_author(ORG)] == [
        ("s1", "rsa-sha256"),
        ("e1", "ed25519-sha256"),
    ]
    assert len(keys.for_author(parse_domain("sub.example.org"))) == 1
    assert keys.for_author(parse_domain("other.example.org")) == ()
    assert keys.domains == ("example.org", "sub.example.org")


def test_a_file_is_read_once(tmp_path: Path) -> None:
    """Two domains with one file share the key, which takes 40 ms to load."""
    write_key(tmp_path)

    keys = load_signing_keys(configuration(tmp_path, a_key(), a_key(domain="example.net")))

    (ours,), (theirs,) = keys.for_author(ORG), keys.for_author(parse_domain("example.net"))
    assert ours.private_key is theirs.private_key


@pytest.mark.parametrize("mode", [0o604, 0o602, 0o601, 0o644, 0o620, 0o660])
def test_a_key_that_others_can_touch_is_refused(tmp_path: Path, mode: int) -> None:
    """A file that the world can read, or a group can change, is an error that says what to type."""
    file = write_key(tmp_path, mode=mode)

    error = problem_of(configuration(tmp_path, a_key()))

    assert error.file == str(tmp_path / "mailreeve.toml")
    assert error.place == "signing.keys[0].file"
    assert f"{mode:04o}" in error.problem
    assert f"chmod 0600 {file}" in (error.hint or "")


@pytest.mark.parametrize("mode", [0o400, 0o440, 0o600, 0o640])
def test_a_key_of_its_owner_and_a_reading_group_is_taken(tmp_path: Path, mode: int) -> None:
    """0600 and 0640 are what packages make."""
    write_key(tmp_path, mode=mode)

    assert load_signing_keys(configuration(tmp_path, a_key())).for_author(ORG)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda _: None, "No such file"),
        (lambda file: file.mkdir(mode=0o700), "directory"),
        (lambda file: os.mkfifo(file, 0o600), "no regular file"),
        (lambda file: file.touch(0o600), "not a private key in PEM form"),
    ],
)
def test_a_file_that_is_no_key_is_refused(tmp_path: Path, make: Callable[[Path], None], said: str) -> None:
    """A missing file, a folder, a pipe and an empty file each have their message."""
    make(tmp_path / "key.pem")

    error = problem_of(configuration(tmp_path, a_key()))

    assert said in error.problem
    assert error.hint


def test_a_key_that_is_too_short_is_refused(tmp_path: Path) -> None:
    """Under 1024 bits receivers ignore the signature (RFC 8301)."""
    write_key(tmp_path, "rsa1016")

    error = problem_of(configuration(tmp_path, a_key()))

    assert "1016 bits" in error.problem
    assert "mailreeve keys new example.org" in (error.hint or "")


def test_a_key_under_2048_bits_is_taken_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """1024 bits still verify everywhere; the log says what is recommended."""
    write_key(tmp_path, "rfc6376")

    with caplog.at_level(logging.WARNING):
        assert load_signing_keys(configuration(tmp_path, a_key())).for_author(ORG)

    assert "1024 bits" in caplog.text


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: files of another user")
def test_a_key_that_the_daemons_user_cannot_read_is_refused(tmp_path: Path) -> None:
    """Root loads it at the start, but the first reload would fail: it is said at once."""
    write_key(tmp_path)
    table = {"user": "nobody", "signing": {"keys": [a_key()]}}
    settings = Configuration(tmp_path / "mailreeve.toml", msgspec.convert(table, Settings))

    error = problem_of(settings)

    assert "nobody cannot read" in error.problem
    assert "chown nobody" in (error.hint or "")


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

    assert [key.selector for key in keys.for_author(ORG)] == ["r20261123", "e20261123"]


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


def test_oversigning_is_read_from_the_settings(tmp_path: Path) -> None:
    """Names are compared without case."""
    assert signing_options(configuration(tmp_path, oversign=["From", "Subject"])).oversign == (
        b"from",
        b"subject",
    )


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Received", "must not be signed"),
        ("a b", "no header field name"),
        ("ü", "no header"),
        ("", "no header"),
    ],
)
def test_oversigning_what_cannot_be_is_an_error(tmp_path: Path, name: str, said: str) -> None:
    """A field that changes on the way, or no field name, is named with what is wrong."""
    with pytest.raises(ConfigError, match=said):
        signing_options(configuration(tmp_path, oversign=[name]))
