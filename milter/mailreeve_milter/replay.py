"""Drives a Conversation with a message from a file, as an MTA would: for `mailreeve check` and the tests.

Knows how an MTA cuts a message into fields and chunks. Asks and decides nothing by itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from mailreeve_milter.answers import Answer, Outcome, Response
from mailreeve_milter.conversation import Conversation
from mailreeve_milter.session import LOCAL_NAME
from mailreeve_policyd.smtp import Stage

CHUNK_OCTETS = 65_535
"""MILTER_CHUNK_SIZE: what MTAs send at once."""

_BARE_LF = re.compile(rb"(?<!\r)\n")

# ftext = %d33-57 / %d59-126 (RFC 5322 section 2.2); MTAs allow space before the colon
_FIELD = re.compile(rb"([!-9;-~]+)[ \t]*:(.*)\Z", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Occasion:
    """In which session and with which envelope a message comes.

    `address` None is a local submission. Paths are addresses with or without angle brackets, `sender` ""
    the null reverse-path. `login` makes it mail of a logged-in user. `parameters` are those of MAIL.
    """

    address: str | None
    helo: str
    sender: str
    recipients: tuple[str, ...]
    client_name: str = "unknown"
    port: int = 25
    login: str | None = None
    parameters: tuple[str, ...] = ()
    queue_id: str | None = None

    @property
    def macros(self) -> dict[str, str]:
        """As the MTA would send them."""
        login = {"{auth_authen}": self.login, "{auth_type}": "PLAIN"} if self.login else {}
        return login | ({"i": self.queue_id} if self.queue_id else {})


@dataclass(frozen=True, slots=True)
class Replayed:
    """What was answered: at each step before the end, and at the end (None where it was not reached)."""

    responses: tuple[tuple[Stage, Response], ...]
    outcome: Outcome | None


def run_message(conversation: Conversation, occasion: Occasion, raw: bytes) -> Replayed:
    """Play one session with one message; `raw` has LF or CRLF line ends. Stops where the MTA would.

    A recipient that is refused is left out; the message goes on if one is left.
    """
    responses: list[tuple[Stage, Response]] = []
    accepted = 0
    for stage, response in _envelope(conversation, occasion):
        responses.append((stage, response))
        if stage is Stage.RCPT:
            accepted += response.reply is None
        if _ends(response, stage) or (stage is Stage.DATA and not accepted):
            return Replayed(tuple(responses), None)
    fields, body = split_message(raw)
    for name, value in fields:
        conversation.header(name, value)
    conversation.end_of_headers()
    for start in range(0, len(body), CHUNK_OCTETS):
        conversation.body(body[start : start + CHUNK_OCTETS])
    return Replayed(tuple(responses), conversation.end_of_message(occasion.macros))


def _ends(response: Response, stage: Stage) -> bool:
    """Does nothing follow this response? A recipient's refusal is that recipient's alone."""
    return response.answer is not Answer.CONTINUE and (
        stage is not Stage.RCPT or response.answer is Answer.DISCARD
    )


def _envelope(conversation: Conversation, occasion: Occasion) -> Iterator[tuple[Stage, Response]]:
    macros = occasion.macros
    port = occasion.port if occasion.address else None
    name = occasion.client_name if occasion.address else LOCAL_NAME
    yield Stage.CONNECT, conversation.connect(name, occasion.address, port, macros)
    yield Stage.HELO, conversation.helo(occasion.helo, macros)
    yield Stage.MAIL, conversation.mail(_path(occasion.sender), occasion.parameters, macros)
    for recipient in occasion.recipients:
        yield Stage.RCPT, conversation.rcpt(_path(recipient), macros)
    yield Stage.DATA, conversation.data(macros)


def _path(address: str) -> str:
    return address if address.startswith("<") else f"<{address}>"


def split_message(raw: bytes) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """Names and values (with the leading space, folds as CRLF) and the body, line ends made CRLF.

    The header ends at the empty line, which is dropped, or at the first line that is no field.
    """
    octets = _BARE_LF.sub(b"\r\n", raw)
    fields: list[tuple[bytes, bytes]] = []
    start = 0
    while start < len(octets):
        end = octets.find(b"\r\n", start)
        line = octets[start : end if end >= 0 else len(octets)]
        after = end + 2 if end >= 0 else len(octets)
        if not line:
            return fields, octets[after:]
        if line[:1] in (b" ", b"\t") and fields:
            name, value = fields[-1]
            fields[-1] = (name, value + b"\r\n" + line)
        elif match := _FIELD.match(line):
            fields.append((match[1], match[2]))
        else:
            return fields, octets[start:]
        start = after
    return fields, b""
