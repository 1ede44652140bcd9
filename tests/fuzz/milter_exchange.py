"""Whatever an MTA sends, answers are whole packets, no bug is met, no stranger's mail goes on unmarked."""

import logging
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from struct import Struct
from tempfile import TemporaryDirectory

from mailreeve_milter.exchange import Exchange
from mailreeve_milter.protocol_words import (
    Connect,
    EndOfHeaders,
    EndOfMessage,
    Header,
    Helo,
    Mail,
    Negotiate,
    Rcpt,
)
from mailreeve_policyd.errors import ProtocolError
from tests.fuzz.pieces import cut
from tests.milterd.milterpackets import encode, packet
from tests.milterd.talking import ALL_STAGES, Talk, make_talk

OFFER = encode(Negotiate(6, 0x1FF, 0x1FFFFF))

WORDS = (
    encode(Connect("mail.example.net", "192.0.2.1", 40000)),
    encode(Connect("localhost", None, None)),
    encode(Helo("mail.example.net")),
    encode(Mail("<bob@example.net>", ("SIZE=10",))),
    encode(Rcpt("<alice@example.org>", ())),
    packet(ord("T")),
    encode(Header(b"From", b" bob@example.net")),
    encode(Header(b"Authentication-Results", b" mx.example.org; spf=pass")),
    encode(EndOfHeaders()),
    packet(ord("B"), b"hello\r\n"),
    encode(EndOfMessage(b"")),
    packet(ord("D"), b"M{auth_authen}\0bob\0"),
    packet(ord("D"), b"H{client_addr}\x00192.0.2.1\0"),
    packet(ord("A")),
    packet(ord("K")),
    packet(ord("Q")),
)

RULES = """
at connect { c: defer "4.7.1 {client_name} {client_address}" if client_name is "defer.example" }
at helo { h: add-header "X-Helo: {helo_name}" }
at mail { m: warn "from {sender}" }
at rcpt { r: reject "5.7.1 no {recipient} for {sender}" if recipient_domain is "no.example"
          l: limit 1000 recipients/day per sender, recipient, client_address }
at end-of-message { e: add-header "X-Author: {header_from}" }
"""

_HEAD = Struct("!I")
_FOLD = re.compile(rb"\r?\n(?=[ \t])")


class _Bug(logging.Handler):
    """What the engine logs as an error of its own is one."""

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno >= logging.ERROR:
            error = record.exc_info[1] if record.exc_info else None
            raise AssertionError(record.getMessage()) from error


@contextmanager
def _no_bug_is_met() -> Iterator[None]:
    """The log of the engine is left as it was: other tests read it, too."""
    log = logging.getLogger("mailreeve_milter.exchange")
    handler, propagated = _Bug(), log.propagate
    log.addHandler(handler)
    log.propagate = False
    try:
        yield
    finally:
        log.propagate = propagated
        log.removeHandler(handler)


@cache
def _talk() -> Talk:
    with TemporaryDirectory() as folder:
        return make_talk(Path(folder), RULES, ALL_STAGES, received_spf=True)


def check(data: bytes) -> None:
    """See the module. The MTA has made its offer before."""
    talk = _talk()
    del talk.records[:]
    exchange = Exchange(talk.surroundings)
    with _no_bug_is_met():
        answers = _converse(exchange, (OFFER, *cut(data)))
    _check_answers(answers)
    for record in talk.records:
        _check_marked(record)


def _converse(exchange: Exchange, pieces: Iterable[bytes]) -> bytes:
    """All that is answered, until the MTA breaks the protocol or has said its last."""
    answers = b""
    try:
        for piece in pieces:
            exchange.receive(piece)
            job = exchange.advance()
            while job is not None:
                job()
                job = exchange.advance()
            answers += exchange.take_output()
    except ProtocolError:
        answers += exchange.take_output()
    exchange.close()
    return answers


def _check_answers(answers: bytes) -> None:
    while answers:
        (size,) = _HEAD.unpack_from(answers)
        assert 0 < size < len(answers) - 3
        command, body = answers[4:5], answers[5 : 4 + size]
        assert command in b"+-acdimOpqrsty"
        if command in (b"y", b"q"):
            assert body.endswith(b"\0")
            assert body[:-1].decode("ascii").isprintable()
        if command == b"i":
            name, value, end = body[4:].split(b"\0")
            assert end == b""
            assert name.isascii()
            assert b"\n" not in _FOLD.sub(b"", value)
        answers = answers[4 + size :]


def _check_marked(record: object) -> None:
    """A message from outside that is let through has our results on top."""
    assert isinstance(record, dict)
    if record["event"] != "message" or record.get("login") or not record.get("client", {}).get("address"):
        return
    if record["verdict"]["action"] in ("continue", "accept"):
        assert "Authentication-Results" in record.get("added", ())
