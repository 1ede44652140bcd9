"""How Redis is reached: the URL, the files for TLS, the timeouts, and the clients that redis-py makes of it.

Knows redis-py's connections. Knows nothing of limits, nor which of several servers is to be asked.
"""

from __future__ import annotations

import ssl
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

import redis
from redis.backoff import NoBackoff
from redis.connection import AbstractConnection, DefaultParser
from redis.retry import Retry

MAX_CONNECTIONS = 32
"""Connections of one process to one server: more than one interpreter can keep busy; further threads wait."""

DEFAULT_PORT = 6379
SENTINEL_PORT = 26379

TROUBLE = (redis.RedisError, OSError, ValueError, TypeError)
"""What redis-py raises where a server is away or wrong. The last two: it takes what is no answer for one."""

Address = tuple[str, int]


@dataclass(frozen=True, slots=True)
class RedisUrl:
    """A server and who asks it. `socket` is set for a unix socket, `host` and `port` are for all others."""

    host: str
    port: int = DEFAULT_PORT
    socket: str | None = None
    tls: bool = False
    database: int = 0
    username: str | None = None
    password: str | None = field(default=None, repr=False)

    def at(self, address: Address) -> RedisUrl:
        """The same for another server."""
        return replace(self, host=address[0], port=address[1])


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files. Without `authorities` those of the system are trusted."""

    authorities: Path | None = None
    certificate: Path | None = None
    key: Path | None = None

    def check(self) -> None:
        """Read them.

        Raises:
            OSError: one cannot be read, or (ssl.SSLError) is not what it should be.
        """
        context = ssl.create_default_context(cafile=self.authorities)
        if self.certificate:
            context.load_cert_chain(self.certificate, self.key)


@dataclass(frozen=True, slots=True)
class RedisAccess:
    """All that a connection needs.

    `timeout_seconds` bounds each of: waiting for a connection of the pool, connecting, an answer.
    """

    url: RedisUrl
    timeout_seconds: float = 1.0
    tls: TlsFiles = TlsFiles()

    def open(self) -> redis.Redis:
        """A client with connections of its own, which sends nothing twice. Connects when it is first used."""
        pool = redis.BlockingConnectionPool(  # type: ignore[no-untyped-call]  # its __init__ has no types
            connection_class=self._connection_class(),
            max_connections=MAX_CONNECTIONS,
            timeout=self.timeout_seconds,
            db=self.url.database,
            username=self.url.username,
            password=self.url.password,
            socket_timeout=self.timeout_seconds,
            parser_class=_TimedParser,
            retry=Retry(NoBackoff(), 0),
            protocol=2,  # integers are all that comes back
            driver_info=None,  # else two more commands a connection, which a user for limits may not give
            **self._way(),
        )
        return redis.Redis(connection_pool=pool)

    def at(self, address: Address) -> RedisAccess:
        """The same for another server."""
        return replace(self, url=self.url.at(address))

    def _connection_class(self) -> type[AbstractConnection]:
        if self.url.socket is not None:
            return redis.UnixDomainSocketConnection
        return redis.SSLConnection if self.url.tls else redis.Connection

    def _way(self) -> dict[str, Any]:
        if self.url.socket is not None:
            return {"path": self.url.socket}
        way: dict[str, Any] = {
            "host": self.url.host,
            "port": self.url.port,
            "socket_connect_timeout": self.timeout_seconds,
        }
        if self.url.tls:
            way |= self._tls_options()
            if self.url.password is None and not self.url.database:
                way["redis_connect_func"] = _greet
        return way

    def _tls_options(self) -> dict[str, Any]:
        files = {
            "ssl_ca_certs": self.tls.authorities,
            "ssl_certfile": self.tls.certificate,
            "ssl_keyfile": self.tls.key,
        }
        return {name: str(path) for name, path in files.items() if path is not None}


class _TimedParser(DefaultParser):  # type: ignore[valid-type, misc]  # it is chosen when it is imported
    """Bounds the time of a whole answer. redis-py bounds each piece: octets one by one would never end.

    redis-py's hiredis parser, which it takes wherever hiredis is, asks `read_from_socket` for each piece.
    """

    def read_response(self, *arguments: Any, **options: Any) -> Any:
        """One answer. Raises redis.TimeoutError, and all that redis-py does."""
        self._until = time.monotonic() + self._socket_timeout
        return super().read_response(*arguments, **options)

    def read_from_socket(self, *arguments: Any, **options: Any) -> Any:
        """One piece."""
        if time.monotonic() > self._until:
            raise redis.TimeoutError("Timeout: the answer does not end")
        return super().read_from_socket(*arguments, **options)


def _greet(connection: AbstractConnection) -> None:
    """Begin with a question where neither AUTH nor SELECT is one.

    A server sends the tickets of TLS 1.3 after the handshake (RFC 8446 section 4.6.1); redis-py would take
    them for the rest of an answer, and the connection for one that cannot be used.
    """
    connection.on_connect()  # type: ignore[no-untyped-call]  # has no types
    connection.send_command("PING")  # type: ignore[no-untyped-call]  # has no types
    connection.read_response()


def parse_redis_url(text: str, default_port: int = DEFAULT_PORT) -> RedisUrl:
    """Read the URL of a server.

    `redis://[user[:password]@]host[:port][/database]`, `rediss://` with TLS, or
    `unix://[user[:password]@]/path[?db=database]`; what stands before @ is percent-encoded.

    Raises:
        ValueError: it is none of these; the text says why and holds nothing of the URL, which may hold a
            password.
    """
    try:
        parts = urlsplit(text)
        port = parts.port or default_port
    except ValueError:
        raise ValueError("is not a URL: the port is no number, or something in it is not encoded") from None
    if parts.scheme not in ("redis", "rediss", "unix") or parts.fragment:
        raise ValueError("is not a URL of Redis")
    url = RedisUrl(
        host=_host(parts) or "localhost",
        port=port,
        tls=parts.scheme == "rediss",
        username=_decoded(parts.username),
        password=_decoded(parts.password),
    )
    if parts.scheme == "unix":
        return _on_socket(url, parts)
    if parts.query:
        raise ValueError("has options after `?`: those of TLS are settings of their own")
    return replace(url, database=_database(parts.path.removeprefix("/")))


def parse_server(text: str, default_port: int) -> RedisUrl:
    """Read `host`, `host:port`, `[IPv6]:port`, or a URL as `parse_redis_url` does.

    Raises:
        ValueError: as `parse_redis_url`.
    """
    return parse_redis_url(text if "://" in text else f"redis://{text}", default_port)


def _host(parts: SplitResult) -> str:
    """As it is written: a name that Sentinels know is told apart by case, and `hostname` is lower case."""
    if parts.hostname and ":" in parts.hostname:
        return parts.hostname
    return parts.netloc.rpartition("@")[2].partition(":")[0]


def _on_socket(url: RedisUrl, parts: SplitResult) -> RedisUrl:
    options = parse_qs(parts.query, keep_blank_values=True)
    if _host(parts) or not parts.path or set(options) - {"db"}:
        raise ValueError("is not the URL of a socket")
    return replace(url, socket=unquote(parts.path), database=_database(options.get("db", [""])[-1]))


def _database(text: str) -> int:
    if text and not (text.isascii() and text.isdigit()):
        raise ValueError("does not end with the number of a database")
    return int(text or 0)


def _decoded(text: str | None) -> str | None:
    return unquote(text) if text else None
