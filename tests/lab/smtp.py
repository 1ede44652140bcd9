"""SMTP clients for the lab: the standard library's, and one that sends exactly the bytes it is given."""

import base64
import re
import smtplib
import socket
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from tests.lab.ports import LOOPBACK

TIMEOUT_SECONDS = 60.0
REPLY_LINES = 100


@dataclass(frozen=True, slots=True)
class Client:
    """Who a message seems to come from: what Postfix is told by XCLIENT, and the name in EHLO.

    `address` is an IPv4 or IPv6 address; `name` is the verified reverse name, None for unknown.
    """

    address: str
    helo: str
    name: str | None = None

    @property
    def xclient(self) -> str:
        """The arguments of XCLIENT (postfix.org/XCLIENT_README)."""
        address = f"IPV6:{self.address}" if ":" in self.address else self.address
        return f"NAME={self.name or '[UNAVAILABLE]'} ADDR={address} PORT=43210"


@dataclass(frozen=True, slots=True)
class Login:
    """A name and password for AUTH."""

    user: str
    password: str


@dataclass(frozen=True, slots=True)
class Reply:
    """An SMTP reply: its code and the text of its lines."""

    code: int
    lines: tuple[str, ...]

    @property
    def text(self) -> str:
        """All lines, joined by newlines."""
        return "\n".join(self.lines)

    @property
    def ok(self) -> bool:
        """Whether the code is 2xx or 3xx."""
        return 200 <= self.code < 400

    @property
    def enhanced(self) -> str | None:
        """The enhanced status code (RFC 3463), such as "5.7.1"; None without one."""
        found = re.match(r"[245]\.\d{1,3}\.\d{1,3}\b", self.lines[0])
        return found[0] if found else None

    def __str__(self) -> str:
        return f"{self.code} {self.text}"


class SmtpError(Exception):
    """The server closed the connection or said what is no reply."""


def connect(port: int, client: Client | None = None, login: Login | None = None) -> smtplib.SMTP:
    """A connection of the standard library's client after XCLIENT, EHLO and AUTH as given; a context manager.

    Raises smtplib's exceptions, such as SMTPAuthenticationError.
    """
    smtp = smtplib.SMTP(
        LOOPBACK,
        port,
        local_hostname=client.helo if client else "client.example.net",
        timeout=TIMEOUT_SECONDS,
    )
    try:
        smtp.ehlo()
        if client:
            _become(smtp, client)
        if login:
            smtp.login(login.user, login.password)
    except BaseException:
        smtp.close()
        raise
    return smtp


def _become(smtp: smtplib.SMTP, client: Client) -> None:
    code, text = smtp.docmd("XCLIENT", client.xclient)
    if code != 220:
        raise smtplib.SMTPResponseException(code, text)
    smtp.ehlo()


class RawClient:
    """An SMTP client that sends the bytes it is given and returns every reply, whatever it is.

    Connects and reads the greeting when made; a context manager that closes without QUIT.
    """

    def __init__(self, port: int) -> None:
        self.connection = socket.create_connection((LOOPBACK, port), timeout=TIMEOUT_SECONDS)
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.incoming = self.connection.makefile("rb")
        self.greeting = self.read_reply()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection, as a client that is gone."""
        self.incoming.close()
        self.connection.close()

    def send(self, data: bytes) -> None:
        """Send these bytes and nothing else."""
        self.connection.sendall(data)

    def read_reply(self) -> Reply:
        """The next reply, all its lines (RFC 5321 section 4.2); SmtpError at the end of the connection."""
        lines: list[str] = []
        for _ in range(REPLY_LINES):
            line = self.incoming.readline(4096).decode("utf-8", "replace").rstrip("\r\n")
            if not re.match(r"\d{3}([ -]|$)", line):
                raise SmtpError(f"no reply but {line!r} after {lines}")
            lines.append(line[4:])
            if line[3:4] != "-":
                return Reply(int(line[:3]), tuple(lines))
        raise SmtpError(f"a reply of more than {REPLY_LINES} lines")

    def command(self, line: str | bytes) -> Reply:
        """Send one command, without its CRLF, and return the reply."""
        self.send((line.encode() if isinstance(line, str) else line) + b"\r\n")
        return self.read_reply()

    def hello(self, client: Client) -> Reply:
        """Become this client: XCLIENT, then EHLO with its name; the last reply or the first that refuses."""
        self.command(f"EHLO {client.helo}")  # XCLIENT is only taken after it
        told = self.command(f"XCLIENT {client.xclient}")
        return self.command(f"EHLO {client.helo}") if told.ok else told

    def login(self, login: Login) -> Reply:
        """AUTH PLAIN (RFC 4616) with the initial response."""
        secret = base64.b64encode(f"\0{login.user}\0{login.password}".encode()).decode()
        return self.command(f"AUTH PLAIN {secret}")

    def envelope(self, sender: str | None, recipients: list[str], parameters: str = "") -> list[Reply]:
        """MAIL FROM with `parameters` such as "SIZE=100 SMTPUTF8", and RCPT TO; each reply. None is `<>`."""
        mail = f"MAIL FROM:<{sender or ''}> {parameters}".rstrip()
        return [self.command(mail), *(self.command(f"RCPT TO:<{recipient}>") for recipient in recipients)]

    def data(self, message: bytes) -> Reply:
        """DATA and the message, each of its bytes as it is: dots stuffed, and the end of data after it.

        A message that does not end with CRLF gets one. Returns the last reply, or that to DATA if it refuses.
        """
        asked = self.command("DATA")
        if asked.code != 354:
            return asked
        self.send(dot_stuff(message))
        return self.read_reply()

    def mail(
        self, sender: str | None, recipients: list[str], message: bytes, parameters: str = ""
    ) -> list[Reply]:
        """A whole transaction; every reply to MAIL, each RCPT and, if a recipient was taken, the message."""
        replies = self.envelope(sender, recipients, parameters)
        if any(reply.ok for reply in replies[1:]):
            replies.append(self.data(message))
        return replies


def dot_stuff(message: bytes) -> bytes:
    """The message as DATA carries it (RFC 5321 section 4.5.2): only CRLF begins a line."""
    stuffed = re.sub(rb"(\A|\r\n)\.", rb"\1..", message)
    return stuffed + (b".\r\n" if stuffed.endswith(b"\r\n") or not stuffed else b"\r\n.\r\n")
