"""From `[limits]` to how its Redis is reached: one server, a master that Sentinels name, or a Cluster.

Knows the settings and what is wrong with them. Connects to nothing; redis_access.py does.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from mailreeve_policyd.config import Configuration
from mailreeve_policyd.errors import ConfigError
from mailreeve_policyd.redis_access import (
    DEFAULT_PORT,
    SENTINEL_PORT,
    Address,
    RedisAccess,
    RedisUrl,
    TlsFiles,
    parse_redis_url,
    parse_server,
)
from mailreeve_policyd.regular_file import open_regular
from mailreeve_policyd.settings import Limits

MAX_PASSWORD_OCTETS = 4096
"""A password file is one line: far more than anybody's, and far less than a file named by mistake."""

URL_HINT = (
    'for instance "redis://:password@redis.example.org:6379/0", "rediss://..." with TLS, or '
    '"unix:///run/redis/redis.sock?db=0"; a password\'s special characters as %40, %2F and so on'
)
SERVER_HINT = 'for instance "192.0.2.1:26379"; "rediss://:password@192.0.2.1:26379" where it wants that'


@dataclass(frozen=True, slots=True)
class RedisWay:
    """Where Redis is. With `sentinels` the host of `access` is a master's name; `nodes` are a Cluster's."""

    access: RedisAccess
    sentinels: tuple[RedisAccess, ...] = ()
    nodes: tuple[Address, ...] = ()


def read_way(configuration: Configuration) -> RedisWay:
    """How the settings reach Redis. Reads the files that they name, asks no network.

    Raises:
        ConfigError: they cannot be used; no URL is repeated, since it may hold a password.
    """
    limits, file = configuration.settings.limits, str(configuration.path)
    url = _url(file, "limits.redis_url", limits.redis_url)
    for place, problem, hint in _conflicts(limits, url):
        raise ConfigError(file, place, problem, hint)
    if limits.redis_password_file:
        path = configuration.resolve(limits.redis_password_file)
        url = replace(url, password=_read_password(file, path))
    access = RedisAccess(url, limits.redis_timeout_seconds, _tls_files(configuration, limits))
    nodes = tuple(_servers(file, "limits.redis_cluster", limits.redis_cluster, DEFAULT_PORT))
    return RedisWay(
        access,
        tuple(_sentinels(file, limits, access)),
        ((url.host, url.port), *((node.host, node.port) for node in nodes)) if nodes else (),
    )


def _sentinels(file: str, limits: Limits, access: RedisAccess) -> Iterator[RedisAccess]:
    """Each gets its share of the time, so that all together take no longer than one server may."""
    share = access.timeout_seconds / max(1, len(limits.redis_sentinels))
    for url in _servers(file, "limits.redis_sentinels", limits.redis_sentinels, SENTINEL_PORT):
        yield RedisAccess(url, share, access.tls)


def _servers(file: str, place: str, texts: tuple[str, ...], port: int) -> Iterator[RedisUrl]:
    for position, text in enumerate(texts):
        try:
            url = parse_server(text, port)
        except ValueError as error:
            raise ConfigError(file, f"{place}[{position}]", str(error), SERVER_HINT) from None
        if url.socket is not None or url.database:
            raise ConfigError(file, f"{place}[{position}]", "is no host and port", SERVER_HINT)
        yield url


def _url(file: str, place: str, text: str) -> RedisUrl:
    try:
        return parse_redis_url(text)
    except ValueError as error:
        raise ConfigError(file, place, str(error), URL_HINT) from None


def _conflicts(limits: Limits, url: RedisUrl) -> Iterator[tuple[str, str, str]]:
    if limits.redis_sentinels and limits.redis_cluster:
        yield "limits.redis_cluster", "stands beside redis_sentinels", "a Cluster does without Sentinels"
    if url.socket is not None and (limits.redis_sentinels or limits.redis_cluster):
        yield "limits.redis_url", "is a unix socket", 'with Sentinels and in a Cluster: "redis://..."'
    if url.database and limits.redis_cluster:
        yield "limits.redis_url", "names a database", "a Cluster has only database 0: leave it out"
    if limits.redis_password_file and url.password:
        yield "limits.redis_password_file", "stands beside a password in redis_url", "remove one of them"
    if bool(limits.redis_certificate_file) != bool(limits.redis_key_file):
        yield "limits.redis_key_file", "belongs to redis_certificate_file", "set both or none"
    uses_tls = url.tls or any(text.startswith("rediss:") for text in limits.redis_sentinels)
    if not uses_tls and (limits.redis_ca_file or limits.redis_certificate_file):
        yield "limits.redis_ca_file", "has no effect without TLS", 'redis_url = "rediss://..."'


def _tls_files(configuration: Configuration, limits: Limits) -> TlsFiles:
    places = ("redis_ca_file", "redis_certificate_file", "redis_key_file")
    paths = [configuration.resolve(name) if (name := getattr(limits, place)) else None for place in places]
    files = TlsFiles(*paths)
    for place, path in zip(places, paths, strict=True):
        if path is not None and not path.is_file():
            raise ConfigError(
                str(configuration.path), f"limits.{place}", f"{path} is not there", "a file in PEM form"
            )
    try:
        files.check()
    except OSError as error:  # ssl.SSLError is one
        place = places[1] if paths[1] and not _are_authorities(files) else places[0]
        what = error.strerror or str(error)
        raise ConfigError(
            str(configuration.path), f"limits.{place}", f"cannot be used: {what}", "a file in PEM form"
        ) from None
    return files


def _are_authorities(files: TlsFiles) -> bool:
    try:
        replace(files, certificate=None, key=None).check()
    except OSError:
        return False
    return True


def _read_password(file: str, path: Path) -> str:
    place = "limits.redis_password_file"
    try:
        with open_regular(path) as stream:
            found = os.fstat(stream.fileno())
            if found.st_mode & stat.S_IRWXO:
                mode = f"{stat.S_IMODE(found.st_mode):04o}"
                raise ConfigError(file, place, f"others can read {path} (mode {mode})", f"chmod 0600 {path}")
            first = stream.read(MAX_PASSWORD_OCTETS).split(b"\n", 1)[0].rstrip(b"\r").decode()
    except (OSError, UnicodeDecodeError) as error:
        what = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        hint = "a file with the password in its first line, which the daemon's user can read"
        raise ConfigError(file, place, f"{path} cannot be read: {what}", hint) from None
    if not first:
        raise ConfigError(file, place, f"{path} is empty", "the password in its first line")
    return first
