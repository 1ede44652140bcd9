"""What an MTA sends to a milter for one message on one connection, written ahead for milter_load.c.

Knows milter protocol 6 as Postfix speaks it: which steps a milter wants, which of them it answers and which
macros it asks for are agreed once; then every message is the same octets.
"""

import socket
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from tests.bench.milter_client import (
    ALL_ACTIONS,
    ALL_STEPS,
    BODY_OCTETS,
    LEADING_SPACE,
    NO_ANSWER,
    NOT_SENT,
    VERSION,
    Mail,
    split,
)
from tests.lab.ports import parse_address

TIMEOUT_SECONDS = 20.0
OFFER = struct.pack("!III", VERSION, ALL_ACTIONS, ALL_STEPS)
QUEUE_ID = "4B0123456789"
# the lists of SMFIR_SETSYMLIST, by the command before which their macros are sent
LISTS = {"C": 0, "H": 1, "M": 2, "R": 3, "T": 4, "L": 6, "N": 6, "B": 5, "E": 5}
# what Postfix sends where the milter asks for no macros of its own choice (milter_*_macros, postconf(5))
USUAL = {
    0: ("j", "{daemon_name}", "{daemon_addr}", "v", "_"),
    1: (),
    2: ("{auth_type}", "{auth_authen}", "{mail_addr}", "{mail_host}", "{mail_mailer}"),
    3: ("{rcpt_addr}", "{rcpt_host}", "{rcpt_mailer}"),
    4: ("i",),
    5: ("i",),
    6: ("i",),
}
# macros that Postfix does not know before a certain list; the others it knows from connect on
KNOWN_FROM = {"{auth_": 2, "{mail_": 2, "{rcpt_": 3, "i": 4}


@dataclass(frozen=True, slots=True)
class Agreement:
    """What a milter answered to the offer: SMFIP_* flags, and the macros that it asks for, by list."""

    steps: int
    macros: Mapping[int, tuple[str, ...]]


def negotiate(address: str) -> Agreement:
    """Ask a milter that listens; OSError or ValueError if it does not answer as one."""
    family, where = parse_address(address)
    with socket.socket(family, socket.SOCK_STREAM) as connection:
        connection.settimeout(TIMEOUT_SECONDS)
        connection.connect(where)
        connection.sendall(_packet("O", OFFER))
        with connection.makefile("rb") as incoming:
            size = struct.unpack("!I", incoming.read(4))[0]
            answer = incoming.read(size)
        connection.sendall(_packet("Q", b""))
    return parse_agreement(answer)


def parse_agreement(answer: bytes) -> Agreement:
    """Read the answer to the offer, from its command on; ValueError if it is none."""
    if answer[:1] != b"O" or len(answer) < 13:
        raise ValueError(f"no agreement: {answer[:40]!r}")
    steps = struct.unpack("!III", answer[1:13])[2]
    macros: dict[int, tuple[str, ...]] = {}
    rest = answer[13:]
    while len(rest) > 4:
        names, _, after = rest[4:].partition(b"\0")
        macros[struct.unpack("!I", rest[:4])[0]] = tuple(map(_in_braces, names.decode().split()))
        rest = after
    return Agreement(steps, macros)


def script(agreement: Agreement, mail: Mail, recipient: str) -> bytes:
    """The octets of a message in the form that milter_load.c reads."""
    parts = [bytearray(_packet("O", OFFER)), bytearray()]
    for command, octets in _steps(agreement, mail, recipient):
        parts[-1] += _macros(agreement, mail, recipient, command)
        if agreement.steps & NOT_SENT.get(command, 0):
            continue
        parts[-1] += _packet(command, octets)
        if not agreement.steps & NO_ANSWER.get(command, 0):
            parts.append(bytearray())
    return b"".join(struct.pack("!I", len(part)) + part for part in parts if part)


def _steps(agreement: Agreement, mail: Mail, recipient: str) -> Iterator[tuple[str, bytes]]:
    fields, body = split(mail.message)
    client = f"mail.{mail.sender.partition('@')[2]}"
    yield "C", f"{client}\0".encode() + b"4" + struct.pack("!H", 40000) + f"{mail.client}\0".encode()
    yield "H", f"{client}\0".encode()
    yield "M", f"<{mail.sender}>\0SIZE={len(mail.message)}\0".encode()
    yield "R", f"<{recipient}>\0".encode()
    yield "T", b""
    for name, value in fields:
        kept = value if agreement.steps & LEADING_SPACE else value.removeprefix(b" ")
        yield "L", name + b"\0" + kept + b"\0"
    yield "N", b""
    for start in range(0, len(body), BODY_OCTETS):
        yield "B", body[start : start + BODY_OCTETS]
    yield "E", b""


def _macros(agreement: Agreement, mail: Mail, recipient: str, command: str) -> bytes:
    """The macros that go before a command, also before one that the milter does not want itself."""
    number = LISTS[command]
    values = _values(mail, recipient)
    wanted = agreement.macros.get(number, USUAL[number])
    known = [name for name in wanted if name in values and _is_known(name, number)]
    if not known:
        return b""
    return _packet("D", command.encode() + b"".join(f"{name}\0{values[name]}\0".encode() for name in known))


def _values(mail: Mail, recipient: str) -> dict[str, str]:
    client = f"mail.{mail.sender.partition('@')[2]}"
    return {
        "j": "mx.example.net",
        "v": "Postfix 3.7.11",
        "_": f"{client} [{mail.client}]",
        "i": QUEUE_ID,
        "{daemon_name}": "mx.example.net",
        "{daemon_addr}": "127.0.0.1",
        "{daemon_port}": "25",
        "{client_addr}": mail.client,
        "{client_name}": client,
        "{client_ptr}": client,
        "{client_port}": "40000",
        "{client_connections}": "0",
        "{client_resolve}": "OK",
        "{mail_addr}": mail.sender,
        "{mail_host}": mail.sender.partition("@")[2],
        "{mail_mailer}": "smtp",
        "{rcpt_addr}": recipient,
        "{rcpt_host}": recipient.partition("@")[2],
        "{rcpt_mailer}": "smtp",
        **mail.macros,
    }


def _is_known(name: str, number: int) -> bool:
    order = {6: 4.5}  # the end of the header comes before that of the message
    first = next((at for prefix, at in KNOWN_FROM.items() if name.startswith(prefix)), 0)
    return order.get(number, number) >= first


def _in_braces(name: str) -> str:
    return name if len(name) == 1 or name.startswith("{") else f"{{{name}}}"


def _packet(command: str, octets: bytes) -> bytes:
    return struct.pack("!I", len(octets) + 1) + command.encode() + octets
