"""Notices by webhook: an HTTP POST of `mailreeve.notice.v1` (RFC 9110). The only file with http.client.

Certificates are checked, redirects are not followed, and of the answer only the status is looked at. Only 2xx
takes a notice; 408, 429 and 5xx may later. Who receives tells a notice that was tried again by its `id`.
"""

from __future__ import annotations

import hmac
import http.client
import ssl
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from socket import socket
from urllib.parse import SplitResult

from mailreeve_policyd import __version__
from mailreeve_policyd.escape import escape
from mailreeve_policyd.notices_courier import Attempt, Fate
from mailreeve_policyd.notices_deadline import STEPS, bounded
from mailreeve_policyd.notices_event import NoticeEvent, format_json

SIGNATURE_FIELD = "Mailreeve-Signature"
"""`t=SECONDS,v1=HEX`: HMAC-SHA256 of the seconds, a dot and the body, by the secret that both know."""

PASSING = frozenset((408, 425, 429))
"""Of 4xx: the request was right, the moment was not (RFC 9110, RFC 8470, RFC 6585)."""


def sign(secret: bytes, seconds: int, body: bytes) -> str:
    """The value of SIGNATURE_FIELD."""
    digest = hmac.new(secret, b"%d." % seconds + body, "sha256").hexdigest()
    return f"t={seconds},v1={digest}"


@dataclass(frozen=True, slots=True)
class WebhookRoute:
    """Where notices are posted. `tls` is None for http:// on loopback, `secret` where nothing is signed."""

    url: SplitResult
    timeout_seconds: float
    tls: ssl.SSLContext | None = None
    secret: bytes | None = None


class WebhookTarget:
    """Notices by webhook: a Target. `clock` gives seconds since the epoch."""

    name = "webhook"

    def __init__(self, route: WebhookRoute, clock: Callable[[], float] = time.time) -> None:
        self._route = route
        self._clock = clock
        self._host = route.url.hostname or ""  # all that the log has of the URL, whose path may be a secret

    def addressees(self, event: NoticeEvent) -> Sequence[str]:  # noqa: ARG002 -- every notice goes there
        """See Target: the one host."""
        return (self._host,)

    def deliver(self, event: NoticeEvent, addressee: str) -> Attempt:  # noqa: ARG002 -- the one host
        """See Target."""
        body = format_json(event)
        connection = self._connection()
        try:
            with bounded(lambda: _socket_of(connection), STEPS * self._route.timeout_seconds):
                connection.request("POST", _path(self._route.url), body, self._fields(body))
                return _judge(connection.getresponse().status)
        except ssl.SSLCertVerificationError as error:
            return Attempt(Fate.LATER, f"its certificate is not right: {escape(error.verify_message)}")
        except (OSError, http.client.HTTPException) as error:
            return Attempt(Fate.LATER, _reason(error))
        finally:
            connection.close()

    def _connection(self) -> http.client.HTTPConnection:
        url, seconds = self._route.url, self._route.timeout_seconds
        if self._route.tls is None:
            return http.client.HTTPConnection(self._host, url.port, timeout=seconds)
        return http.client.HTTPSConnection(self._host, url.port, timeout=seconds, context=self._route.tls)

    def _fields(self, body: bytes) -> dict[str, str]:
        fields = {
            "Content-Type": "application/json",
            "User-Agent": f"mailreeve/{__version__}",
            "Connection": "close",
        }
        if self._route.secret is not None:
            fields[SIGNATURE_FIELD] = sign(self._route.secret, int(self._clock()), body)
        return fields


def _path(url: SplitResult) -> str:
    return (url.path or "/") + (f"?{url.query}" if url.query else "")


def _judge(status: int) -> Attempt:
    if 200 <= status < 300:
        return Attempt(Fate.TAKEN, f"HTTP {status}")
    if status >= 500 or status in PASSING:
        return Attempt(Fate.LATER, f"HTTP {status}")
    hint = (
        ", and redirects are not followed: write the address that it leads to" if 300 <= status < 400 else ""
    )
    return Attempt(Fate.NEVER, f"HTTP {status}{hint}")


def _reason(error: OSError | http.client.HTTPException) -> str:
    told = error.strerror if isinstance(error, OSError) else None
    return escape(told or str(error) or type(error).__name__, 200)


def _socket_of(connection: http.client.HTTPConnection) -> socket | None:
    found = connection.sock
    return found if isinstance(found, socket) else None
