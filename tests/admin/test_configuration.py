"""`mailreeve config`: right is said only where the daemons would start."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from mailreeve_milter.new_keys import new_keys, selectors_of
from mailreeve_policyd.config import parse_configuration
from mailreeve_policyd.smtp import parse_domain
from tests.admin.command import mailreeve, write_site

LIMIT = "at rcpt {\n    burst: limit 2 recipients/hour per client_address\n}\n"


def test_a_right_configuration_is_said_to_be_right(tmp_path: Path) -> None:
    """With what it comes to: the rules, the name of the results, who is signed for."""
    ran = mailreeve("config", "check", "--config", write_site(tmp_path, LIMIT))

    assert (ran.status, ran.err) == (0, "")
    assert f"{tmp_path}/mailreeve.toml: right" in ran.out
    assert f"{tmp_path}/rules: right, 1 rule\n" in ran.out
    assert "mx.example.org (authserv_id)" in ran.out
    assert "no signing keys" in ran.out


def test_domains_with_keys_are_named(tmp_path: Path) -> None:
    """What is signed stands in the answer."""
    keys = new_keys(parse_domain("example.org"), tmp_path / "keys", None, selectors_of(date(2026, 1, 1)))
    config = write_site(tmp_path, configuration="".join(key.settings for key in keys))

    assert "our own mail is signed for example.org" in mailreeve("config", "check", "-c", config).out


@pytest.mark.parametrize(
    ("rules", "configuration", "said"),
    [
        ("", "[nonsense]\n", "mailreeve.toml:nonsense: unknown option"),
        ("at rcpt {", "", "rules:1:10: "),
        ("", '[dns]\nservers = ["nonsense"]\n', "dns.servers: 'nonsense'"),
        ("", '[audit]\nto = "file"\nfile = "log/audit.jsonl"\n', "audit.file: there is no folder"),
        ("", '[limits]\nstore = "redis"\nredis_url = "nonsense"\n', "limits.redis_url: "),
        (
            "",
            '[[signing.keys]]\ndomain = "example.org"\nselector = "s"\nfile = "absent.pem"\n',
            "absent.pem cannot be read",
        ),
    ],
    ids=["option", "rules", "dns", "audit", "redis", "key"],
)
def test_what_would_stop_a_daemon_is_a_mistake(
    tmp_path: Path, rules: str, configuration: str, said: str
) -> None:
    """Status 78, the place on standard error, and not a word of right."""
    ran = mailreeve("config", "check", "--config", write_site(tmp_path, rules, configuration))

    assert (ran.status, ran.out) == (78, "")
    assert said in ran.err


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ('state_dir = "state"', 'state_dir = "missing"', "state_dir: there is no folder"),
        ("milter.sock", "policy.sock", "is that of policyd.listen[0] too"),
        ("milter.sock", "run/milter.sock", "there is no folder"),
        ('state_dir = "state"', 'user = "no-such-user-here"', "user: there is no user"),
    ],
    ids=["state", "one address", "socket", "user"],
)
def test_places_that_do_not_fit_are_mistakes(tmp_path: Path, before: str, after: str, said: str) -> None:
    """Folders that are missing, an address for two, a user who is not there."""
    config = write_site(tmp_path, LIMIT)
    config.write_text(config.read_text().replace(before, after))

    ran = mailreeve("config", "check", "--config", config)

    assert ran.status == 78
    assert said in ran.err


def test_the_example_is_a_configuration() -> None:
    """Commented out, it says nothing; uncommented by hand it is what the page describes."""
    ran = mailreeve("config", "example")

    assert ran.status == 0
    parse_configuration(ran.out.encode(), Path("mailreeve.toml"))
    assert "# [limits]" in ran.out or "[limits]" in ran.out
