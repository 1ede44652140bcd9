"""Key files, and the keys that a configuration names."""

import logging
import os
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from mailreeve_milter.dkim.crypto import format_private_key, generate_ed25519_key
from mailreeve_milter.dkim.sign import SigningKey
from mailreeve_milter.keys import load_signing_keys, signing_options
from mailreeve_milter.signing_table import SigningKeys
from mailreeve_policyd.config import Configuration
from mailreeve_policyd.errors import ConfigError
from mailreeve_policyd.settings import Settings
from mailreeve_policyd.smtp import parse_mailbox
from mailreeve_policyd.transaction import Session
from tests.milterd.test_dkim_crypto import VECTOR_KEYS


def configuration(folder: Path, *keys: dict[str, str], **settings: object) -> Configuration:
    table = {"signing": {"keys": keys} | settings}
    return Configuration(folder / "mailreeve.toml", msgspec.convert(table, Settings))


def a_key(file: str = "key.pem", domain: str = "example.org", selector: str = "s1") -> dict[str, str]:
    return {"domain": domain, "selector": selector, "file": file}


def keys_of(keys: SigningKeys, domain: str = "example.org") -> tuple[SigningKey, ...]:
    return keys.choose(parse_mailbox(f"alice@{domain}"), Session()).keys


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

    assert [(key.selector, key.algorithm.value) for key in keys_of(keys)] == [
        ("s1", "rsa-sha256"),
        ("e1", "ed25519-sha256"),
    ]
    assert len(keys_of(keys, "sub.example.org")) == 1
    assert keys_of(keys, "other.example.org") == ()
    assert keys.domains == ("example.org", "sub.example.org")


def test_a_file_is_read_once(tmp_path: Path) -> None:
    """Two domains with one file share the key, which takes 40 ms to load."""
    write_key(tmp_path)

    keys = load_signing_keys(configuration(tmp_path, a_key(), a_key(domain="example.net")))

    (ours,), (theirs,) = keys_of(keys), keys_of(keys, "example.net")
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

    assert keys_of(load_signing_keys(configuration(tmp_path, a_key())))


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
    assert "mailreeve keys new DOMAIN" in (error.hint or "")


def test_a_key_under_2048_bits_is_taken_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """1024 bits still verify everywhere; the log says what is recommended."""
    write_key(tmp_path, "rfc6376")

    with caplog.at_level(logging.WARNING):
        assert keys_of(load_signing_keys(configuration(tmp_path, a_key())))

    assert "1024 bits" in caplog.text


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
