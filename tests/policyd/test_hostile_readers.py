"""Who can read a file with secrets: other users of the machine are strangers, too."""

from __future__ import annotations

from pathlib import Path

import pytest

from mailreeve_policyd.config import load_configuration
from mailreeve_policyd.errors import ConfigError

SECRET = "hunter2"
WITH_PASSWORD = {
    "limits.redis_url": f'[limits]\nstore = "redis"\nredis_url = "redis://:{SECRET}@127.0.0.1/0"\n',
    "live.redis_url": f'[live]\nredis_url = "rediss://bob:{SECRET}@redis.example.org"\n',
    "limits.redis_sentinels[1]": (
        '[limits]\nstore = "redis"\nredis_url = "redis://mymaster"\n'
        f'redis_sentinels = ["192.0.2.1:26379", "bob:{SECRET}@192.0.2.2:26379"]\n'
    ),
    "limits.redis_cluster[0]": (
        f'[limits]\nstore = "redis"\nredis_url = "redis://127.0.0.1"\nredis_cluster = ["redis://:{SECRET}@192.0.2.1"]\n'
    ),
}
WITHOUT = '[limits]\nstore = "redis"\nredis_url = "redis://bob@127.0.0.1:6379/0"\n'


def write(folder: Path, text: str, mode: int) -> Path:
    file = folder / "mailreeve.toml"
    file.write_text(text)
    file.chmod(mode)
    return file


@pytest.mark.parametrize("place", WITH_PASSWORD)
@pytest.mark.parametrize("mode", [0o644, 0o604, 0o602])
def test_a_configuration_with_a_password_is_not_for_everybody(place: str, mode: int, tmp_path: Path) -> None:
    """It is refused with the place and what to do, and the message does not tell the password."""
    file = write(tmp_path, WITH_PASSWORD[place], mode)
    with pytest.raises(ConfigError) as caught:
        load_configuration(file)

    told = str(caught.value)
    assert told.startswith(
        f"{file}:{place}: holds a password, and others can read or change this file (mode {mode:04o})"
    )
    assert "chmod 0640" in told
    assert SECRET not in told


@pytest.mark.parametrize(
    "lines",
    [
        f'webhook_url = "https://hooks.example.org/post?key={SECRET}"\nwebhook_secret_file = "secret"\n',
        f'webhook_url = "https://hooks.example.org/T0AD/{SECRET}"\n',
        f'webhook_url = "http://localhost:8080/?key={SECRET}"\n',
    ],
)
def test_a_webhook_that_whoever_knows_it_may_post_to_is_not_for_everybody(lines: str, tmp_path: Path) -> None:
    """The URL is the secret: where it has a query, or a path and posts are not signed."""
    with pytest.raises(ConfigError) as caught:
        load_configuration(write(tmp_path, f"[notices]\n{lines}", 0o644))

    told = str(caught.value)
    assert ":notices.webhook_url: holds what may be a secret, and others can read" in told
    assert "webhook_secret_file" in told
    assert SECRET not in told
    assert load_configuration(write(tmp_path, f"[notices]\n{lines}", 0o640)).settings.notices.webhook_url


@pytest.mark.parametrize(
    "lines",
    [
        'webhook_url = "https://hooks.example.org/mailreeve"\nwebhook_secret_file = "secret"\n',
        'webhook_url = "https://hooks.example.org/"\n',
        'webhook_url = "http://127.0.0.1:8080/notices"\n',
    ],
)
def test_a_webhook_that_is_no_secret_may_be_read_by_all(lines: str, tmp_path: Path) -> None:
    """It is signed with a secret elsewhere, has no path, or is this machine's own."""
    assert load_configuration(write(tmp_path, f"[notices]\n{lines}", 0o644)).settings.notices.webhook_url


@pytest.mark.parametrize("place", WITH_PASSWORD)
@pytest.mark.parametrize("mode", [0o600, 0o640])
def test_its_owner_and_group_may_read_it(place: str, mode: int, tmp_path: Path) -> None:
    """As the packages install it."""
    assert load_configuration(write(tmp_path, WITH_PASSWORD[place], mode)).path.name == "mailreeve.toml"


def test_one_without_a_password_may_be_read_by_all(tmp_path: Path) -> None:
    """A user's name is no secret."""
    assert load_configuration(write(tmp_path, WITHOUT, 0o644)).settings.limits.redis_url
