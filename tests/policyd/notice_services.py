"""Who takes notices in the tests: a mail server and a web server of a few lines, with a script."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from mailreeve_policyd.notice import Notice, NoticeKind, notice_key
from mailreeve_policyd.notices_event import NoticeEvent, Reporter
from mailreeve_policyd.smtp import Stage
from mailreeve_policyd.transaction import Envelope, Session, Transaction
from tests.lab.ports import LOOPBACK
from tests.lab.process import wait_until

DAY = timedelta(days=1)
NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
REPORTER = Reporter("policyd", "mx.example.org")

BOBS = Transaction(
    Stage.RCPT, Session(sasl_username="bob@example.org"), Envelope(None), instance="1", queue_id="4B1C2D"
)


def notice(
    kind: NoticeKind = NoticeKind.WARNING,
    text: str = "bob@example.org: 80 of 100 recipients used",
    login: str | None = "bob@example.org",
    language: str | None = None,
) -> Notice:
    """What `warn at 80%` gives for bob."""
    counted_by = (("sasl_username", login),) if login else ()
    key = notice_key(kind, "day", DAY, (login or "",))
    return Notice(
        kind, "day", Stage.RCPT, text, key, DAY, counted_by, login, 80, 100, "recipients", DAY, language
    )


def event(told: Notice | None = None, transaction: Transaction = BOBS) -> NoticeEvent:
    """The same, as it is told at noon."""
    return REPORTER.event(told or notice(), transaction, NOON)


@dataclass(slots=True)
class Letter:
    """One message as the server took it."""

    helo: str
    sender: str
    recipient: str
    data: bytes


@dataclass(slots=True)
class MailServer:
    """`answers` are given in place of the usual ones, once each, by the verb; "" hangs up."""

    port: int = 0
    answers: dict[str, list[str]] = field(default_factory=dict)
    letters: list[Letter] = field(default_factory=list)
    heard: list[str] = field(default_factory=list)

    def serve(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection, connection.makefile("rb") as lines:
                self._converse(connection, lines)

    def _converse(self, connection: socket.socket, lines: Iterator[bytes]) -> None:
        letter = Letter("", "", "", b"")
        if not self._say(connection, "connect", "220 mx.example.org"):
            return
        for raw in lines:
            line = raw.decode("latin-1").rstrip("\r\n")
            verb = line.split(" ")[0].lower()
            self.heard.append(line)
            match verb:
                case "ehlo":
                    letter.helo = line[5:]
                case "mail":
                    letter.sender = line.partition(":")[2].split(" ")[0]
                case "rcpt":
                    letter.recipient = line.partition(":")[2]
                case "data":
                    if not self._say(connection, "data", "354 go on"):
                        return
                    letter.data = b"".join(iter(lambda: next(iter(lines)), b".\r\n"))
                    verb = "."
                case _:
                    pass
            if not self._say(connection, verb, "250 2.0.0 Ok"):
                return
            if verb == ".":
                self.letters.append(letter)

    def _say(self, connection: socket.socket, verb: str, usual: str) -> bool:
        """True if the conversation goes on."""
        script = self.answers.get(verb)
        answer = script.pop(0) if script else usual
        if answer:
            connection.sendall(answer.encode() + b"\r\n")
        return bool(answer) and answer[0] in "23"


@contextmanager
def mail_server(answers: Mapping[str, Sequence[str]] | None = None) -> Iterator[MailServer]:
    """A mail server that takes everything but where `answers` say otherwise."""
    with socket.create_server((LOOPBACK, 0)) as listener:
        port = listener.getsockname()[1]
        server = MailServer(port, {verb: list(given) for verb, given in (answers or {}).items()})
        thread = threading.Thread(target=server.serve, args=(listener,))
        thread.start()
        try:
            yield server
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


@dataclass(slots=True)
class Posted:
    """One request as the web server had it."""

    path: str
    fields: dict[str, str]
    body: bytes


class WebServer(ThreadingHTTPServer):
    """Answers with `statuses`, once each, and then with 204."""

    daemon_threads = True

    def __init__(self, statuses: Sequence[int] = ()) -> None:
        super().__init__((LOOPBACK, 0), _Handler)
        self.statuses = list(statuses)
        self.posted: list[Posted] = []
        self.moved_to = ""

    @property
    def url(self) -> str:
        """Where notices are posted."""
        return f"http://{LOOPBACK}:{self.server_port}/hook?to=us"

    def wait_for(self, count: int) -> list[Posted]:
        """The requests, once there are so many."""
        wait_until(lambda: len(self.posted) >= count, f"{count} posts")
        return self.posted


class _Handler(BaseHTTPRequestHandler):
    server: WebServer

    def do_POST(self) -> None:
        length = int(self.headers["Content-Length"])
        self.server.posted.append(Posted(self.path, dict(self.headers), self.rfile.read(length)))
        self.send_response(self.server.statuses.pop(0) if self.server.statuses else 204)
        if self.server.moved_to:
            self.send_header("Location", self.server.moved_to)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- its name there
        """Nothing is said."""


@contextmanager
def web_server(statuses: Sequence[int] = ()) -> Iterator[WebServer]:
    """A web server that takes posts."""
    with WebServer(statuses) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
