"""Where an address is, by files in MaxMind's format."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path

import pytest

from mailreeve_policyd.config import Configuration, load_configuration
from mailreeve_policyd.errors import ConfigError
from mailreeve_policyd.facts import Door
from mailreeve_policyd.geography import open_asns, open_countries
from mailreeve_policyd.launch import load_rules, open_outside
from mailreeve_policyd.rules.followed import FollowedRules
from mailreeve_policyd.rules.nodes import Subject
from mailreeve_policyd.rules.outside import Outside, client_network
from mailreeve_policyd.rules.scope import Scope
from mailreeve_policyd.rules.source import Place
from mailreeve_policyd.smtp import Stage
from tests.policyd.mmdb import Value, make_mmdb
from tests.policyd.rules_text import IGNORE, at_rcpt, moment

COUNTRIES: dict[str, Value] = {
    "192.0.2.0/24": {"country": {"iso_code": "DE"}, "registered_country": {"iso_code": "FR"}},
    "198.51.100.0/24": {"registered_country": {"iso_code": "fr"}},
    "203.0.113.0/25": {"continent": {"code": "EU"}},
    "203.0.113.128/25": {"country": {"iso_code": "not a code"}},
    "2001:db8::/32": {"country": {"iso_code": "NL"}},
}
ASNS: dict[str, Value] = {
    "192.0.2.0/24": {"autonomous_system_number": 64496, "autonomous_system_organization": "Example"},
    "2001:db8::/33": {"autonomous_system_number": 64511},
    "203.0.113.0/24": {"autonomous_system_organization": "nameless"},
}


@pytest.fixture
def configuration(tmp_path: Path) -> Configuration:
    """With both files."""
    (tmp_path / "country.mmdb").write_bytes(make_mmdb(COUNTRIES))
    (tmp_path / "asn.mmdb").write_bytes(make_mmdb(ASNS))
    return configured(tmp_path, 'country = "country.mmdb"\nasn = "asn.mmdb"')


def configured(folder: Path, geoip: str, rules: str = "") -> Configuration:
    """A configuration with these files, and these rules."""
    (folder / "mailreeve.toml").write_text(f"[geoip]\n{geoip}\n")
    (folder / "rules").write_text(rules)
    return load_configuration(folder / "mailreeve.toml")


@pytest.mark.parametrize(
    ("address", "country", "asn"),
    [
        ("192.0.2.1", "DE", 64496),
        ("198.51.100.7", "FR", None),
        ("203.0.113.7", None, None),
        ("203.0.113.200", None, None),
        ("2001:db8::1", "NL", 64511),
        ("2001:db8:8000::1", "NL", None),
        ("2001:db9::1", None, None),
        ("127.0.0.1", None, None),
    ],
)
def test_an_address_is_where_the_files_say(
    configuration: Configuration, address: str, country: str | None, asn: int | None
) -> None:
    """Where it is rather than where it is registered; what is no code of a country is nothing."""
    countries, asns = open_countries(configuration), open_asns(configuration)
    assert countries is not None
    assert asns is not None

    assert countries.find(ip_address(address)) == country
    assert asns.find(ip_address(address)) == asn
    assert countries.find(None) is None


def test_rules_ask_where_a_client_is(tmp_path: Path) -> None:
    """In conditions, as what a limit counts, and in texts; at both doors."""
    (tmp_path / "country.mmdb").write_bytes(make_mmdb(COUNTRIES))
    (tmp_path / "asn.mmdb").write_bytes(make_mmdb(ASNS))
    rules = load_rules(
        configured(
            tmp_path,
            'country = "country.mmdb"\nasn = "asn.mmdb"',
            "at connect { a: reject if client_asn in (64496, 64497) }\n"
            + at_rcpt(
                'b: reject "5.7.1 {client_country} is far" if client_country is "nl"',
                "c: limit 2 distinct client_country/day per sasl_username",
            )
            + 'at end-of-message { d: hold if client_country and not client_country in ("DE", "AT") }\n'
            + 'expect reject at rcpt with client_country = "NL", sasl_username = "bob"\n'
            + "expect reject at connect with client_asn = 64497\n"
            + "expect continue at connect with client_address = 192.0.2.1\n"
            + 'expect hold at end-of-message with client_country = "FR"\n',
        )
    )

    def decided(stage: Stage, client: str) -> str | None:
        (block,) = rules.judge(moment(stage, client=client, login="bob"), [stage], IGNORE).blocks
        return block.decision.rule if block.decision else None

    assert decided(Stage.CONNECT, "192.0.2.1") == "a"
    assert decided(Stage.RCPT, "2001:db8::1") == "b"
    assert decided(Stage.RCPT, "192.0.2.1") is None
    assert decided(Stage.END_OF_MESSAGE, "198.51.100.1") == "d"
    assert decided(Stage.END_OF_MESSAGE, "127.0.0.1") is None
    (block,) = rules.judge(moment(client="192.0.2.1", login="bob"), [Stage.RCPT], IGNORE).blocks
    (other,) = rules.judge(moment(client="198.51.100.1", login="bob"), [Stage.RCPT], IGNORE).blocks
    (unknown,) = rules.judge(moment(client="127.0.0.1", login="bob"), [Stage.RCPT], IGNORE).blocks
    assert block.pending[0].charge.member != other.pending[0].charge.member
    assert unknown.pending == ()


def test_a_file_is_read_again_when_it_changes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """In place or put in its place; a broken one leaves the old one and is told."""
    path = tmp_path / "country.mmdb"
    path.write_bytes(make_mmdb(COUNTRIES))
    rules = FollowedRules(
        load_rules(
            configured(tmp_path, 'country = "country.mmdb"', at_rcpt('a: accept if client_country is "DE"'))
        )
    )

    def accepts(client: str) -> bool:
        for _ in range(2):
            for files in rules.files:
                files.look()
        (block,) = rules.judge(moment(client=client), [Stage.RCPT], IGNORE).blocks
        return block.decision is not None

    assert not accepts("198.51.100.1")
    path.write_bytes(b"half a file")
    assert accepts("192.0.2.1")
    assert "is no file in MaxMind's format" in caplog.text
    path.write_bytes(make_mmdb({"198.51.100.0/24": {"country": {"iso_code": "DE"}}}))
    assert accepts("198.51.100.1")
    assert not accepts("192.0.2.1")


@pytest.mark.parametrize("option", ["country", "asn"])
@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "cannot be read: No such file"), (b"network,geoname_id\n", "is no file in MaxMind's format")],
)
def test_a_file_that_is_none_is_a_mistake_of_its_option(
    tmp_path: Path, option: str, content: bytes | None, message: str
) -> None:
    """Whether a rule asks it or not: the administrator wanted it."""
    if content is not None:
        (tmp_path / "places.mmdb").write_bytes(content)
    with pytest.raises(ConfigError, match=message) as caught:
        open_outside(configured(tmp_path, f'{option} = "places.mmdb"'))
    assert caught.value.place == f"geoip.{option}"


@pytest.mark.parametrize("cut", [1, 20, 60, 200])
def test_a_damaged_file_is_a_mistake_or_says_nothing(tmp_path: Path, cut: int) -> None:
    """Never an exception while mail comes."""
    whole = make_mmdb(COUNTRIES)
    (tmp_path / "places.mmdb").write_bytes(whole[cut:])
    try:
        outside = open_outside(configured(tmp_path, 'country = "places.mmdb"'))
    except ConfigError:
        return
    assert outside.country_of is not None
    for address in ("192.0.2.1", "2001:db8::1", "255.255.255.255", "::"):
        assert outside.country_of(ip_address(address)) in {None, "DE", "FR", "NL"}


def test_a_fact_without_its_file_is_a_mistake_of_the_rules(tmp_path: Path) -> None:
    """With the option that would help."""
    (tmp_path / "country.mmdb").write_bytes(make_mmdb(COUNTRIES))
    configuration = configured(tmp_path, 'country = "country.mmdb"', at_rcpt("a: accept if client_asn is 1"))
    with pytest.raises(ConfigError, match="`client_asn` needs a file") as caught:
        load_rules(configuration)
    assert "asn = " in (caught.value.hint or "")


# client_network


@pytest.mark.parametrize(
    ("address", "ipv4_prefix", "ipv6_prefix", "network"),
    [
        ("192.0.2.77", 32, 64, "192.0.2.77/32"),
        ("192.0.2.77", 24, 64, "192.0.2.0/24"),
        ("2001:db8:1:2:3::4", 32, 64, "2001:db8:1:2::/64"),
        ("2001:db8:1:2:3::4", 32, 48, "2001:db8:1::/48"),
        ("2001:db8::1", 32, 128, "2001:db8::1/128"),
    ],
)
def test_a_network_is_as_long_as_the_settings_say(
    address: str, ipv4_prefix: int, ipv6_prefix: int, network: str
) -> None:
    """In CIDR form, with no bit to the right of its prefix."""
    assert client_network(ip_address(address), ipv4_prefix, ipv6_prefix) == network


def test_the_settings_reach_the_fact_and_the_limits(tmp_path: Path) -> None:
    """`per client_address` counts IPv6 by the same prefix, and IPv4 whole."""
    (tmp_path / "mailreeve.toml").write_text("[limits]\nipv4_prefix = 24\nipv6_prefix = 48\n")
    (tmp_path / "rules").write_text(
        at_rcpt("a: limit 1 message/day per client_network", "b: limit 1 message/day per client_address")
    )
    rules = load_rules(load_configuration(tmp_path / "mailreeve.toml"))

    def keys(client: str) -> list[bytes]:
        (block,) = rules.judge(moment(client=client), [Stage.RCPT], IGNORE).blocks
        return [pending.charge.key for pending in block.pending]

    assert keys("2001:db8:1:2::1") == keys("2001:db8:1:ffff::1")
    assert keys("2001:db8:1::1") != keys("2001:db8:2::1")
    one, other = keys("192.0.2.1"), keys("192.0.2.2")
    assert (one[0] == other[0], one[1] == other[1]) == (True, False)


def test_a_client_without_an_address_has_no_network() -> None:
    """Absent, as the address itself."""
    scope = Scope(Stage.RCPT, Door.POLICY, {}, {}, Outside())
    fact = scope.fact(Subject(Place(1, 1), "client_network"))

    assert fact.read(moment(client=None)) is None
    assert fact.read(moment(client="2001:db8::1")) == "2001:db8::/64"
