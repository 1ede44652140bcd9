"""`make bench ARGS=hostile`: what the worst messages cost, each as a ratio to a plain one in the same run.

The whole way of a message in memory, from the milter protocol's octets to the record, DNS being a table:
CPU of our code alone. What is remembered between messages (keys, SPF records) is remembered here, too.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from rich.console import Console
from rich.table import Table

from mailreeve_milter.arc_mail import ArcOptions
from mailreeve_milter.exchange import Exchange
from mailreeve_milter.message import HeaderField
from mailreeve_milter.protocol_words import (
    Body,
    Connect,
    Data,
    EndOfHeaders,
    EndOfMessage,
    Event,
    Header,
    Helo,
    Mail,
    Negotiate,
    Rcpt,
)
from mailreeve_policyd.audit import AuditLog
from mailreeve_policyd.smtp import Stage
from mailreeve_policyd.transaction import Session, Transaction
from tests.lab.work import work_folder
from tests.milterd.arc_hops import ZONE_TEXT, Message, our_hop
from tests.milterd.milterpackets import encode
from tests.milterd.talking import Talk, make_talk

SECONDS = 0.5
CHUNK = 65_535
PLAIN_BODY = b"0123456789 " * 6 + b"\r\n"
FROM = HeaderField(b"From", b" Bob <bob@example.net>")
SESSION: tuple[Event, ...] = (
    Negotiate(6, 0x1FF, 0x1FFFFF),
    Connect("mail.example.net", "192.0.2.1", 40000),
    Helo("mail.example.net"),
)
MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Case:
    """One message; `zone` is added to what DNS says."""

    name: str
    fields: Sequence[HeaderField] = (FROM,)
    body: bytes = PLAIN_BODY * 60
    zone: str = ""
    recipients: int = 1
    sender: str = "bob@example.net"

    @property
    def octets(self) -> bytes:
        """What an MTA sends of it."""
        return b"".join(map(encode, self._events()))

    def _events(self) -> Iterable[Event]:
        yield Mail(f"<{self.sender}>", ())
        for number in range(self.recipients):
            yield Rcpt(f"<user{number}@example.org>", ())
        yield Data()
        yield from (Header(field.name, field.value) for field in self.fields)
        yield EndOfHeaders()
        for start in range(0, len(self.body), CHUNK):
            yield Body(self.body[start : start + CHUNK])
        yield EndOfMessage(b"")


class Kept:
    """A sink of the record that keeps the last line."""

    line = b""

    def write(self, line: bytes) -> None:
        """See Sink."""
        self.line = line

    def reopen(self) -> None:
        """Nothing is open."""

    def close(self) -> None:
        """Nothing is open."""


@dataclass(slots=True)
class Line:
    """One connection of an MTA, that sends messages one after another."""

    talk: Talk
    exchange: Exchange = field(init=False)

    def __post_init__(self) -> None:
        self.exchange = Exchange(self.talk.surroundings)
        self.send(b"".join(map(encode, SESSION)))

    def send(self, octets: bytes) -> bytes:
        """What comes back."""
        self.exchange.receive(octets)
        while (job := self.exchange.advance()) is not None:
            job()
        return self.exchange.take_output()


def open_line(folder: Path, case: Case) -> Line:
    """A milter in memory, with ARC on, and the case's DNS."""
    zone = """
        example.net.         TXT  "v=spf1 ip4:192.0.2.0/24 -all"
        _dmarc.example.net.  TXT  "v=DMARC1; p=reject"
    """
    talk = make_talk(folder, zone=zone + case.zone, arc=ArcOptions(), received_spf=True)
    talk.surroundings = replace(talk.surroundings, audit=AuditLog("milter", Kept()))
    return Line(talk)


# -- the cases -----------------------------------------------------------------------------------------


def signature(
    number: int, body: bytes, names: str = "from", length: str = "", selector: str = "big"
) -> HeaderField:
    """A signature that must be verified to be found false: all but its b= is right."""
    digest = base64.b64encode(hashlib.sha256(body).digest()).decode()
    value = (
        f" v=1; a=rsa-sha256; c=simple/simple; d=example.net; s={selector};{length} h={names}; bh={digest};"
        f" b={base64.b64encode(number.to_bytes(1024, 'big')).decode()}"
    )
    return HeaderField(b"DKIM-Signature", value.encode())


@cache
def huge_key() -> str:
    """The slowest key that is taken: 8192 bits, an exponent of 64."""
    modulus = random.Random(8192).getrandbits(8192) | 1 << 8191 | 1
    key = RSAPublicNumbers((1 << 64) - 59, modulus).public_key()
    der = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    text = base64.b64encode(der).decode()
    pieces = " ".join(f'"{text[start : start + 250]}"' for start in range(0, len(text), 250))
    return f'big._domainkey.example.net. TXT "v=DKIM1; p=" {pieces}\n'


def sealed(sets: int) -> Message:
    """A valid chain of so many sets, and its zone is ZONE_TEXT."""
    message = Message([FROM], PLAIN_BODY * 60)
    for _ in range(sets):
        message = our_hop(message, "one.example.net")
    return message


def spf_tree() -> str:
    """Ten mx of ten names each, all to be asked: the most that RFC 7208 section 4.6.4 lets pass."""
    lines = [
        'tree.example.net. TXT "v=spf1 ' + " ".join(f"mx:m{n}.example.net" for n in range(10)) + ' -all"'
    ]
    for number in range(10):
        for host in range(10):
            lines.append(f"m{number}.example.net. MX {host} h{host}.m{number}.example.net.")
            lines.append(f"h{host}.m{number}.example.net. A 198.51.100.{host}")
    return "\n".join(lines)


def numbered(name: bytes, value: bytes, count: int) -> list[HeaderField]:
    """Fields of names that differ in their last letters."""
    return [HeaderField(name + b"%x" % number, value) for number in range(count)]


def repeated(name: bytes, value: bytes, count: int) -> list[HeaderField]:
    """The same field again and again."""
    return [HeaderField(name, value)] * count


def nested(count: int) -> bytes:
    """Comments in comments, side by side, as deep as is read."""
    return b" " + b"(" * 19 + b"x" + b")" * 19 + b" <bob@example.net>" + b"(" * count


def make_cases() -> Mapping[str, Callable[[int], Case]]:
    """By name; each takes how much of its evil there is to be."""
    return {
        "fields": lambda n: Case("fields", [*numbered(b"X-Field-", b" x", n), FROM]),
        "fields of one name": lambda n: Case("one name", [*repeated(b"X-Field", b" x", n), FROM]),
        "signatures": lambda n: Case(
            "signatures", [*(signature(k, PLAIN_BODY * 60) for k in range(n)), FROM], zone=huge_key()
        ),
        "signatures over many fields": lambda n: Case(
            "covered",
            [
                *(signature(k, PLAIN_BODY * 60, "from:" + ":".join(["x-a"] * 900)) for k in range(8)),
                *repeated(b"X-A", b" " + b"a  b\t" * 20, n),
                FROM,
            ],
            zone=huge_key(),
        ),
        "ARC fields of no chain": lambda n: Case(
            "arc garbage", [*repeated(b"ARC-Seal", b" i=1; cv=none; d=example.net", n), FROM]
        ),
        "forged results": lambda n: Case(
            "forged", [*repeated(b"Authentication-Results", b" mx.example.org; spf=pass", n), FROM]
        ),
        "other hosts' results": lambda n: Case(
            "results", [*repeated(b"Authentication-Results", b" (a(b)) other.example; spf=pass", n), FROM]
        ),
        "a large results field": lambda n: Case(
            "large results", [HeaderField(b"Authentication-Results", b" (" * n + b"m x . " * n), FROM]
        ),
        "Received": lambda n: Case(
            "received", [*repeated(b"Received", b" from a (b [192.0.2.1]) by c; now", n), FROM]
        ),
        "comments in From": lambda n: Case("comments", [HeaderField(b"From", nested(n))]),
        "quotes in From": lambda n: Case(
            "quotes", [HeaderField(b"From", b' "a\\' * n + b" <bob@example.net>")]
        ),
        "angles in From": lambda n: Case("angles", [HeaderField(b"From", b" <@" * n + b"<bob@example.net>")]),
        "encoded words in From": lambda n: Case(
            "encoded", [HeaderField(b"From", b" =?utf-8?Q?=3C=40?=" * n + b" <bob@example.net>")]
        ),
        "mailboxes in From": lambda n: Case(
            "mailboxes", [HeaderField(b"From", b" bob@example.net," * n + b" bob@example.net")]
        ),
        "recipients": lambda n: Case("recipients", recipients=n),
        "a body of one line": lambda n: _body("one line", b"x" * n),
        "a body of spaces": lambda n: _body("spaces", b" \t" * (n // 2)),
        "a body of CRs": lambda n: _body("CRs", b"\r" * n),
        "a body of empty lines": lambda n: _body("empty lines", b"\r\n" * (n // 2)),
    }


def _body(name: str, body: bytes) -> Case:
    relaxed = signature(1, body)
    simple_and_relaxed = HeaderField(
        relaxed.name, relaxed.value.replace(b"c=simple/simple", b"c=relaxed/relaxed")
    )
    return Case(name, [relaxed, simple_and_relaxed, FROM], body)


AMOUNTS = {
    "fields": 19_000,
    "fields of one name": 19_000,
    "signatures": 600,
    "signatures over many fields": 1000,
    "ARC fields of no chain": 10_000,
    "forged results": 10_000,
    "other hosts' results": 10_000,
    "a large results field": 8_000,
    "Received": 10_000,
    "comments in From": 16_000,
    "quotes in From": 5_000,
    "angles in From": 5_000,
    "encoded words in From": 800,
    "mailboxes in From": 900,
    "recipients": 1000,
    "a body of one line": MIB,
    "a body of spaces": MIB,
    "a body of CRs": MIB,
    "a body of empty lines": MIB,
}
"""How much of each: what the bounds let through, or far more where they cut it off."""


def worst_cases() -> list[Case]:
    """All, in their full amounts."""
    cases = [replace(make(AMOUNTS[name]), name=name) for name, make in make_cases().items()]
    chain = sealed(50)
    spf = Case(
        "SPF of ten mx of ten names",
        [HeaderField(b"From", b" bob@tree.example.net")],
        sender="bob@tree.example.net",
        zone=spf_tree(),
    )
    return [*cases, Case("a valid ARC chain of 50", chain.fields, chain.body, ZONE_TEXT), spf]


# -- the run -------------------------------------------------------------------------------------------


def main(words: Sequence[str]) -> int:
    """Measure all and print a table."""
    parser = argparse.ArgumentParser(
        prog="make bench ARGS=hostile", description="What the worst messages cost."
    )
    parser.add_argument("--seconds", type=float, default=SECONDS, help="for each, of CPU (%(default)s)")
    parser.add_argument("names", nargs="*", help="only cases whose name begins so")
    told = parser.parse_args(words)
    wanted = tuple(told.names) or ("",)
    plain = Case("plain: 4 KB, SPF, DMARC")
    large = Case("plain: 1 MB, one signature", [signature(1, PLAIN_BODY * 15_420), FROM], PLAIN_BODY * 15_420)
    table = Table(title="CPU of one message; DNS in memory")
    for title in ("message", "octets", "DNS questions", "ms", "of plain"):
        table.add_column(title, justify="left" if title == "message" else "right")
    with work_folder() as folder:
        base = 0.0
        for case in (plain, large, *(case for case in worst_cases() if case.name.startswith(wanted))):
            each, questions = measure(folder, case, told.seconds)
            base = base or each
            row = (
                case.name,
                f"{len(case.octets):,}",
                str(questions),
                f"{each * 1e3:.2f}",
                f"{each / base:,.0f}",
            )
            table.add_row(*row)
    Console().print(table)
    return 0


def measure(folder: Path, case: Case, seconds: float) -> tuple[float, int]:
    """Seconds of CPU for one message, and how many questions it asks."""
    line, octets = open_line(folder, case), case.octets
    line.send(octets)
    resolver = line.talk.surroundings.examiner.resolver(Transaction(Stage.END_OF_MESSAGE, Session()))
    questions = len(getattr(resolver, "queries", ()))
    count, began = 0, time.process_time()
    while not count or time.process_time() - began < seconds:
        line.send(octets)
        count += 1
    return (time.process_time() - began) / count, questions
