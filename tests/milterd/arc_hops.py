"""Hops for the tests of ARC: each seals a message, with our code, dkimpy's or Perl's."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import dkim

from mailreeve_milter.arc import SEALED_BODY, ChainOutcome, seal_message, start_chain_verification
from mailreeve_milter.authfield import format_field
from mailreeve_milter.dkim import SigningKey
from mailreeve_milter.dkim.body_hash import BodyHashes
from mailreeve_milter.dkim.crypto import load_private_key
from mailreeve_milter.dkim.key_record import format_key_record
from mailreeve_milter.message import HeaderField
from mailreeve_policyd.authres import MethodResult
from mailreeve_policyd.resolver import ZoneResolver
from mailreeve_policyd.smtp import parse_domain
from tests.lab import arc_perl
from tests.milterd.dkim_messages import NOW, join_message, split_message
from tests.milterd.test_dkim_crypto import VECTOR_KEYS

SEALED_AT = datetime(2026, 6, 1, tzinfo=UTC)
"""Before every clock of the tests."""

RSA_FILE = VECTOR_KEYS / "rfc6376.pem"
RSA = load_private_key(RSA_FILE.read_bytes())
DOMAINS = ("one.example.net", "two.example.net", "three.example.net")
RECORD = format_key_record(RSA)
ZONE_TEXT = "".join(f'r1._domainkey.{domain}. TXT "{RECORD}"\n'.replace(";", "\\;") for domain in DOMAINS)
ZONE = ZoneResolver(ZONE_TEXT)
SPF = MethodResult("spf", "pass", {"smtp.mailfrom": "alice@example.org"})

FIELDS = [
    HeaderField(b"Received", b" from client.example.org\r\n\tby mx.example.org; today"),
    HeaderField(b"DKIM-Signature", b" v=1; d=example.org; b=garbage"),
    HeaderField(b"From", b" =?utf-8?q?Alice?= <alice@example.org>"),
    HeaderField(b"To", b" bob@example.net,\r\n\tcarol@example.net"),
    HeaderField(b"Subject", b"\r\n Gr\xc3\xbc\xc3\x9fe  \xff\t"),
    HeaderField(b"List-Unsubscribe", b" <https://example.org/u>"),
    HeaderField(b"X-Mailer", b" test"),
]
BODY = b"Hello  \r\n\r\n.\r\n\tworld\r\n\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Message:
    """A message on its way."""

    fields: Sequence[HeaderField]
    body: bytes = BODY

    @property
    def octets(self) -> bytes:
        """As it is sent."""
        return join_message(self.fields, self.body)


def key_of(domain: str) -> SigningKey:
    return SigningKey(parse_domain(domain), parse_domain("r1"), RSA)


def validate(message: Message, resolver: ZoneResolver = ZONE) -> tuple[ChainOutcome, bytes]:
    """What we find of its chain, and the digest that a seal of ours needs."""
    verification = start_chain_verification(message.fields)
    bodies = BodyHashes([*verification.body_forms, SEALED_BODY])
    bodies.update(message.body)
    bodies.finish()
    return verification.finish(bodies, resolver, NOW), bodies.of(SEALED_BODY).digest


def our_hop(message: Message, domain: str) -> Message:
    """With our Authentication-Results and set on top."""
    outcome, digest = validate(message)
    results = format_field(f"mx.{domain}", [SPF, outcome.result])
    arc_set = seal_message(message.fields, outcome, results, digest, key_of(domain), SEALED_AT)
    return Message([*arc_set, results, *message.fields], message.body)


def with_results(message: Message, domain: str) -> Message:
    """With an Authentication-Results of a hop on top, as sealers of others want it."""
    outcome, _ = validate(message)
    return Message([format_field(f"mx.{domain}", [SPF, outcome.result]), *message.fields], message.body)


def dkimpy_hop(message: Message, domain: str) -> Message:
    """With dkimpy's set on top."""
    judged = with_results(message, domain)
    lines = dkim.arc_sign(
        judged.octets,
        b"r1",
        domain.encode(),
        RSA_FILE.read_bytes(),
        b"mx." + domain.encode(),
        timestamp=int(SEALED_AT.timestamp()),
    )
    assert len(lines) == 3
    fields, _ = split_message(b"".join(line.rstrip(b"\r\n") + b"\r\n" for line in lines) + b"\r\n")
    return Message([*fields, *judged.fields], message.body)


def perl_hop(message: Message, domain: str) -> Message:
    """With the set of Perl's Mail::DKIM on top."""
    octets = arc_perl.seal(with_results(message, domain).octets, RSA_FILE, domain, "r1", f"mx.{domain}", "ar")
    fields, body = split_message(octets)
    return Message(fields, body)


Hop = Callable[[Message, str], Message]


def send(*hops: Hop) -> Message:
    """A message that went through the hops, each with a domain of its own."""
    message = Message(FIELDS)
    for hop, domain in zip(hops, DOMAINS, strict=False):
        message = hop(message, domain)
    return message


def verified_by_dkimpy(message: Message) -> str:
    """What dkimpy says of a chain."""

    def get_txt(name: bytes, timeout: int = 5) -> bytes:
        return ZONE.lookup_txt(name.decode()).records[0]

    word, _, _ = dkim.arc_verify(message.octets, dnsfunc=get_txt)
    return (word or b"ended").decode()
