"""Notices by mail (RFC 5321, RFC 5322; RFC 3834 section 5 for Auto-Submitted). The only file with smtplib.

One message, one recipient, one connection, whose EHLO name is the mark of that message (notices_mark.py). The
null sender keeps bounces away. When the end of the message was sent and no answer came, nobody knows whether
it was taken: it is not tried again, so that nobody is told twice.
"""

from __future__ import annotations

import smtplib
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from hashlib import blake2b
from socket import socket

from mailreeve_policyd.config_notices import is_plain_address
from mailreeve_policyd.escape import escape, escape_ascii
from mailreeve_policyd.notices_courier import Attempt, Fate
from mailreeve_policyd.notices_deadline import STEPS, bounded
from mailreeve_policyd.notices_event import NoticeEvent
from mailreeve_policyd.notices_mark import PREFIX, make_mark
from mailreeve_policyd.notices_text import Templates

MAX_SAID = 200
"""Characters of a server's answer in the log."""


@dataclass(frozen=True, slots=True)
class MailRoute:
    """How mail leaves. `author` is the From address, `timeout_seconds` for each answer of the server."""

    host: str
    port: int
    author: str
    local_name: str
    timeout_seconds: float


@dataclass(frozen=True, slots=True)
class Readers:
    """Who reads mail: the administrators, and the users that `user_address` knows (None: nobody is told)."""

    administrators: Sequence[str]
    user_address: Callable[[str], str | None] | None = None

    def of(self, event: NoticeEvent) -> Sequence[str]:
        """Each once, whatever its case."""
        user = self._user(event)
        found = [*self.administrators, *([user] if user else [])]
        return list({address.lower(): address for address in reversed(found)}.values())[::-1]

    def _user(self, event: NoticeEvent) -> str | None:
        if self.user_address is None or not event.about_user or event.login_raw is None:
            return None
        address = self.user_address(event.login_raw)
        return address if address is not None and is_plain_address(address) else None

    def is_administrator(self, address: str) -> bool:
        """Is it one of them?"""
        return address.lower() in (one.lower() for one in self.administrators)


class MailTarget:
    """Notices by mail: a Target. `secret` makes marks, `clock` gives seconds since the epoch."""

    name = "mail"

    def __init__(
        self,
        route: MailRoute,
        readers: Readers,
        templates: Templates,
        language: str,
        secret: bytes,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._route = route
        self._readers = readers
        self._templates = templates
        self._language = language
        self._secret = secret
        self._clock = clock

    def addressees(self, event: NoticeEvent) -> Sequence[str]:
        """See Target: mailboxes."""
        return self._readers.of(event)

    def deliver(self, event: NoticeEvent, addressee: str) -> Attempt:
        """See Target."""
        message = self.compose(event, addressee)
        mark = make_mark(self._secret, addressee, self._clock())
        return send(self._route, f"{PREFIX}{mark}.{self._route.local_name}", addressee, message)

    def compose(self, event: NoticeEvent, addressee: str) -> bytes:
        """The message for one of its readers, in ASCII, its lines ended by CRLF."""
        language = self._language
        if event.language and not self._readers.is_administrator(addressee):
            language = event.language
        written = self._templates.write(event, language)
        message = EmailMessage(policy=SMTP)
        message["From"] = Address("Mailreeve", addr_spec=self._route.author)
        message["To"] = Address(addr_spec=addressee)
        message["Subject"] = written.subject
        message["Date"] = format_datetime(event.time)
        message["Message-ID"] = _message_id(event, addressee, self._route.author)
        message["Auto-Submitted"] = "auto-generated"
        message["Mailreeve-Notice"] = f"{event.kind}; rule={escape_ascii(event.rule)}"
        message.set_content(written.body, charset="utf-8", cte="quoted-printable")
        return bytes(message)


def _message_id(event: NoticeEvent, addressee: str, author: str) -> str:
    """The same at every try, and another for each reader."""
    reader = blake2b(addressee.encode("ascii"), digest_size=4).hexdigest()
    return f"<{event.id}.{reader}@{author.rpartition('@')[2]}>"


def send(route: MailRoute, local_name: str, recipient: str, message: bytes) -> Attempt:
    """Hand one message to the server, from the null sender. Raises nothing that is not a bug."""
    where = f"{route.host}:{route.port}"
    client = smtplib.SMTP(local_hostname=local_name, timeout=route.timeout_seconds)
    try:
        with bounded(lambda: _socket_of(client), STEPS * route.timeout_seconds):
            return _converse(client, route, recipient, message)
    except smtplib.SMTPResponseException as error:
        return _refused(where, error.smtp_code, error.smtp_error)
    except (
        OSError,
        smtplib.SMTPException,
    ) as error:  # SMTPException is an OSError; it is said for the reader
        return Attempt(Fate.LATER, f"{where}: {_reason(error)}")
    finally:
        client.close()


def _converse(client: smtplib.SMTP, route: MailRoute, recipient: str, message: bytes) -> Attempt:
    where = f"{route.host}:{route.port}"
    code, said = client.connect(route.host, route.port)
    if code == 220:
        code, said = client.ehlo()
    if code == 250:
        code, said = client.mail("")
    if code == 250:
        code, said = client.rcpt(recipient)
    if code not in (250, 251):
        return _refused(where, code, said)
    try:
        code, said = client.data(message)
    except smtplib.SMTPDataError:
        raise
    except (OSError, smtplib.SMTPException) as error:
        return Attempt(Fate.NEVER, f"{where}: it may have been taken, no answer came: {_reason(error)}")
    if code != 250:
        return _refused(where, code, said)
    with suppress(OSError, smtplib.SMTPException):  # it is taken, whatever the server says of the end
        client.quit()
    return Attempt(Fate.TAKEN, f"{where}: {_shown(code, said)}")


def _refused(where: str, code: int, said: bytes | str) -> Attempt:
    fate = Fate.NEVER if 500 <= code < 600 else Fate.LATER
    return Attempt(fate, f"{where}: {_shown(code, said)}")


def _shown(code: int, said: bytes | str) -> str:
    text = said.decode("utf-8", "surrogateescape") if isinstance(said, bytes) else said
    return escape(f"{code} {text}", MAX_SAID)


def _reason(error: OSError) -> str:
    return escape(error.strerror or str(error) or type(error).__name__, MAX_SAID)


def _socket_of(client: smtplib.SMTP) -> socket | None:
    found = client.sock
    return found if isinstance(found, socket) else None
