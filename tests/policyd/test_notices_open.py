"""From `[notices]` to whoever is told, and what is wrong with it before a worker finds out."""

from __future__ import annotations

from pathlib import Path

import pytest

from mailreeve_policyd.config import Configuration, load_configuration
from mailreeve_policyd.errors import ConfigError
from mailreeve_policyd.facts import Door
from mailreeve_policyd.limits_memory import MemoryStore
from mailreeve_policyd.notices import NoticingPolicy
from mailreeve_policyd.notices_mark import SECRET_FILE
from mailreeve_policyd.notices_open import check_notices, noticing, open_office, open_targets
from mailreeve_policyd.policy import Policy
from tests.policyd.limit_stores import HandClock
from tests.policyd.notice_services import event, notice
from tests.policyd.rules_text import ruleset_of


def configured(folder: Path, notices: str) -> Configuration:
    (folder / "state").mkdir(exist_ok=True)
    (folder / "mailreeve.toml").write_text(f'state_dir = "state"\n[notices]\n{notices}\n')
    (folder / "mailreeve.toml").chmod(0o640)
    return load_configuration(folder / "mailreeve.toml")


def test_nobody_to_tell_is_nothing_to_do(tmp_path: Path) -> None:
    """The policy is left as it is, and no secret is made."""
    configuration = configured(tmp_path, "")
    store = MemoryStore(HandClock())
    policy = Policy(ruleset_of("at rcpt { a: accept }"), store, Door.POLICY)
    office = open_office(configuration, "policyd")

    check_notices(configuration)

    assert noticing(configuration, policy, office, store, Door.POLICY) is policy
    assert office.counters() == ()
    assert not (tmp_path / "state" / SECRET_FILE).exists()


def test_mail_and_webhook_are_targets(tmp_path: Path) -> None:
    """Both daemons mark by one secret, which the first of them makes."""
    text = 'mail_to = ["root@example.org"]\nwebhook_url = "https://hooks.example.org/x"'
    configuration = configured(tmp_path, text)

    check_notices(configuration)
    assert not (tmp_path / "state" / SECRET_FILE).exists()
    targets = open_targets(configuration)
    secret = (tmp_path / "state" / SECRET_FILE).read_bytes()
    open_targets(configuration)

    assert [target.name for target in targets] == ["mail", "webhook"]
    assert [list(target.addressees(event())) for target in targets] == [
        ["root@example.org"],
        ["hooks.example.org"],
    ]
    assert (tmp_path / "state" / SECRET_FILE).read_bytes() == secret
    store = MemoryStore(HandClock())
    policy = Policy(ruleset_of("at rcpt { a: accept }"), store, Door.POLICY)
    office = open_office(configuration, "policyd")
    assert isinstance(noticing(configuration, policy, office, store, Door.POLICY), NoticingPolicy)


@pytest.mark.parametrize(
    ("login", "addresses"),
    [
        ("ann", ["ann.smith@example.com"]),
        ("ANN", ["ann.smith@example.com"]),
        ("bob", ["bob@example.org"]),
        ("carol@example.net", ["carol@example.net"]),
        ("b ob", []),
    ],
)
def test_a_user_is_found_by_table_domain_or_login(tmp_path: Path, login: str, addresses: list[str]) -> None:
    """In this order; what makes no address is told nothing."""
    (tmp_path / "users.csv").write_text("# login,address\nAnn, ann.smith@example.com\n")
    text = 'mail_user = true\nuser_addresses = "users.csv"\nuser_domain = "example.org"'

    (mail,) = open_targets(configured(tmp_path, text))

    assert list(mail.addressees(event(notice(login=login)))) == addresses


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('mail_to = ["root"]', r"notices\.mail_to\[0\]: not an address"),
        ('mail_to = ["a@example.org\\r\\nBcc: b@example.net"]', "not an address"),
        ('user_domain = "example.org"', "has no effect with mail_user = false"),
        ('mail_user = true\nuser_domain = "a b"', "not a domain"),
        ('mail_from = "Mailreeve <m@example.org>"', "not an address"),
        ('smtp_server = "unix:/run/smtp"', "is no TCP address"),
        ('smtp_server = "localhost"', "not an address"),
        ('webhook_url = "http://hooks.example.org/hunter2"', "everybody on the way can read"),
        ('webhook_url = "https://bob:hunter2@hooks.example.org/"', "holds a user or a password"),
        ('webhook_url = "ftp://hooks.example.org/hunter2"', "is no https"),
        ('webhook_url = "https://hooks.example.org/hunter2 x"', "what a URL does not"),
        ('webhook_url = "https://hooks.example.org:hunter2/"', "is no URL"),
        ('webhook_url = ["hunter2"]', r"notices\.webhook_url"),
        ('webhook_secret_file = "x"', "has no effect without webhook_url"),
        ('webhook_url = "http://127.0.0.1/"\nwebhook_ca_file = "x"', "no effect without TLS"),
        ('language = "english please"', "not a language"),
        ('mail_to = ["a@example.org"]\ntemplates = "missing"', "cannot be read"),
        ('mail_user = true\nuser_addresses = "missing"', "cannot be read"),
        ('webhook_url = "https://hooks.example.org/"\nwebhook_secret_file = "missing"', "cannot be read"),
        ('webhook_url = "https://hooks.example.org/"\nwebhook_ca_file = "mailreeve.toml"', "cannot be used"),
        ("tries = 0", "notices.tries"),
    ],
)
def test_a_mistake_is_told(tmp_path: Path, text: str, problem: str) -> None:
    """With its place; of a URL nothing is repeated, as it may hold a secret."""
    with pytest.raises(ConfigError, match=problem) as caught:
        check_notices(configured(tmp_path, text))

    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("line", ["bob", "bob,", "bob,bob", ",bob@example.org", "bob,b@example.org,c"])
def test_a_wrong_line_of_users_is_told(tmp_path: Path, line: str) -> None:
    """With its number."""
    (tmp_path / "users.csv").write_text(f"ann,ann@example.org\n{line}\n")

    with pytest.raises(ConfigError, match=r"users\.csv:2: .* is no login and address"):
        check_notices(configured(tmp_path, 'mail_user = true\nuser_addresses = "users.csv"'))


@pytest.mark.parametrize(
    ("content", "mode", "problem"),
    [("0123456789abcdef\n", 0o644, "others can read"), ("short\n", 0o600, "less than 16 characters")],
)
def test_a_secret_for_signatures_is_one(tmp_path: Path, content: str, mode: int, problem: str) -> None:
    """Nobody else reads it, and nobody guesses it."""
    (tmp_path / "hook").write_text(content)
    (tmp_path / "hook").chmod(mode)

    with pytest.raises(ConfigError, match=problem):
        check_notices(
            configured(tmp_path, 'webhook_url = "https://h.example.org/"\nwebhook_secret_file = "hook"')
        )


def test_mail_needs_the_state_directory(tmp_path: Path) -> None:
    """The secret of marks is kept there."""
    configuration = configured(tmp_path, 'mail_to = ["root@example.org"]')
    (tmp_path / "state").rmdir()

    with pytest.raises(ConfigError, match="keep a secret there"):
        check_notices(configuration)
