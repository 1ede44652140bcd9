"""Files that the operator names are opened without waiting, whatever stands in their place."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from mailreeve_policyd.config import Configuration, load_configuration, parse_configuration
from mailreeve_policyd.errors import ConfigError
from mailreeve_policyd.geography import open_countries
from mailreeve_policyd.notices_open import check_notices
from mailreeve_policyd.notices_text import read_templates
from mailreeve_policyd.redis_open import read_way
from mailreeve_policyd.regular_file import open_regular
from mailreeve_policyd.rules.source import read_text


def test_a_regular_file_is_opened(tmp_path: Path) -> None:
    """Also where a link leads to it, as in a container's mounted configuration."""
    (tmp_path / "file").write_bytes(b"octets")
    (tmp_path / "link").symlink_to("file")

    with open_regular(tmp_path / "link") as stream:
        assert stream.read() == b"octets"


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: path.symlink_to("/dev/zero")])
def test_what_is_no_regular_file_is_refused_at_once(tmp_path: Path, make: Callable[[Path], None]) -> None:
    """Nobody writes into the pipe: a plain open() would wait for ever."""
    make(tmp_path / "place")

    with pytest.raises(OSError, match=r"it is no regular file|Is a directory"):
        open_regular(tmp_path / "place")


def test_a_socket_is_refused(tmp_path: Path) -> None:
    """The system says so itself."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as made:
        made.bind(str(tmp_path / "place"))

        with pytest.raises(OSError, match="No such device"):
            open_regular(tmp_path / "place")


def read_password(path: Path) -> object:
    text = f'[limits]\nstore = "redis"\nredis_url = "redis://localhost"\nredis_password_file = "{path}"'
    return read_way(configured(path, text))


def read_webhook_secret(path: Path) -> None:
    text = f'[notices]\nwebhook_url = "https://example.org/"\nwebhook_secret_file = "{path}"'
    check_notices(configured(path, text))


def read_template(path: Path) -> object:
    path.rename(path.parent / "notice.en.txt")
    return read_templates(path.parent, ("mailreeve.toml", "notices.templates"))


def read_countries(path: Path) -> object:
    return open_countries(configured(path, f'[geoip]\ncountry = "{path}"'))


def configured(path: Path, text: str) -> Configuration:
    return parse_configuration(text.encode(), path.parent / "mailreeve.toml")


@pytest.mark.parametrize(
    "read",
    [
        load_configuration,
        lambda path: read_text(path, "rules", 100),
        read_password,
        read_webhook_secret,
        read_template,
        read_countries,
    ],
    ids=["configuration", "rules", "password", "webhook secret", "template", "countries"],
)
def test_a_pipe_in_the_place_of_a_file_is_a_mistake_and_is_told(
    tmp_path: Path, read: Callable[[Path], object]
) -> None:
    """A reload would otherwise wait for it, deaf to SIGTERM and blind to dying workers."""
    path = tmp_path / "place"
    os.mkfifo(path, 0o600)

    with pytest.raises(ConfigError, match="cannot be read: it is no regular file"):
        read(path)
