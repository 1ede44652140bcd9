"""mailreeve.toml: what it gives, and what a mistake in it is told."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailreeve_policyd.config import load_configuration, options, parse_configuration
from mailreeve_policyd.errors import ConfigError
from mailreeve_policyd.smtp import Stage

CASES = sorted((Path(__file__).parent.parent / "bad_configs" / "config").iterdir())


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_mistake_is_told_with_its_place_and_what_would_be_right(case: Path) -> None:
    """Each bad configuration gives exactly the text that stands beside it."""
    with pytest.raises(ConfigError) as caught:
        parse_configuration((case / "mailreeve.toml").read_bytes(), Path("mailreeve.toml"))

    assert str(caught.value) + "\n" == (case / "expected.txt").read_text()


def test_an_empty_file_is_a_whole_configuration() -> None:
    """Every option has a default that a single Postfix host can run with."""
    configuration = parse_configuration(b"", Path("/etc/mailreeve/mailreeve.toml"))

    assert configuration.resolve(configuration.settings.rules) == Path("/etc/mailreeve/rules")
    assert configuration.stages("milter") == {Stage.END_OF_MESSAGE}
    assert Stage.RCPT in configuration.stages("policyd")


def test_the_two_daemons_share_the_stages_without_a_gap_by_default() -> None:
    """Each stage is decided by exactly one daemon."""
    configuration = parse_configuration(b"", Path("mailreeve.toml"))

    assert configuration.stages("milter") | configuration.stages("policyd") == set(Stage)
    assert not configuration.stages("milter") & configuration.stages("policyd")


def test_a_file_that_is_missing_is_named(tmp_path: Path) -> None:
    """The operator learns which file was looked for."""
    with pytest.raises(ConfigError, match=r"absent\.toml: cannot be read: No such file"):
        load_configuration(tmp_path / "absent.toml")


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    """A binary file is told by the place of its first wrong byte."""
    (tmp_path / "x.toml").write_bytes(b"a = \xff")

    with pytest.raises(ConfigError, match="byte 4: is not UTF-8"):
        load_configuration(tmp_path / "x.toml")


@pytest.mark.parametrize("raw", [b"a = " + b"[" * 100_000, b"a = " + b"{a = " * 50_000])
def test_values_nested_without_end_are_told(raw: bytes) -> None:
    """TOML sets no bound, the reader has one: that is a mistake in the file like any other."""
    with pytest.raises(ConfigError, match=r"mailreeve\.toml: is nested too deeply"):
        parse_configuration(raw, Path("mailreeve.toml"))


def test_a_secret_never_stands_in_an_error() -> None:
    """The Redis URL holds a password, so its value is not shown."""
    for case in CASES:
        assert "geheim" not in (case / "expected.txt").read_text()


def test_every_option_is_described() -> None:
    """The reference page and the example file are made from these texts."""
    for name, _, text in options():
        assert text.endswith("."), name


def test_the_authserv_id_is_compared_in_lower_case() -> None:
    """RFC 8601 section 2.2 compares the authserv-id without case."""
    raw = b'[authentication]\nauthserv_id = "MX.Example.Net"'

    assert parse_configuration(raw, Path("mailreeve.toml")).authserv_id == "mx.example.net"


def test_without_an_authserv_id_it_is_the_hosts_own_name_or_a_mistake() -> None:
    """No DNS is asked, and a name that many hosts have is never taken."""
    configuration = parse_configuration(b"", Path("mailreeve.toml"))
    host = socket.gethostname().lower()

    if "." in host:
        assert configuration.authserv_id == host
    else:
        with pytest.raises(ConfigError, match="authserv_id: is not set"):
            _ = configuration.authserv_id


@given(st.binary(max_size=200))
def test_any_octets_give_settings_or_a_config_error(raw: bytes) -> None:
    """Nothing else is ever raised."""
    try:
        parse_configuration(raw, Path("mailreeve.toml"))
    except ConfigError as error:
        assert str(error).startswith("mailreeve.toml")  # noqa: PT017 -- the error is one of two right answers
