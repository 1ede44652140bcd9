"""The mail of `bench auth`: one domain, whose messages come from outside, or are ours and to be signed."""

import random
from dataclasses import replace
from pathlib import Path

import dns.zonefile
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.bench.milter_client import Mail
from tests.lab.outside import OutsideDomain, compose

DOMAIN = OutsideDomain("bench.example", "192.0.2.10")
SENDER, RECIPIENT = f"alice@{DOMAIN.name}", "bob@example.net"
AUTHSERV_ID = "mx.example.net"
OUR_NETWORK, OUR_ADDRESS = "198.51.100.0/24", "198.51.100.7"
LOGIN = {"{auth_type}": "PLAIN", "{auth_authen}": "alice"}
SMALL, LARGE = 4096, 10_000_000
SMALL_MESSAGES = 16  # different ones, so that nothing can remember the message
TTL_SECONDS = 3600
SEED = 20_260_105
WORDS = ("the", "quick", "brown", "fox", "jumps", "over", "a", "lazy", "dog", "while", "seven", "sphinxes")


def write_key(path: Path) -> Path:
    """The domain's private key as PEM, for its owner's eyes."""
    path.touch(0o600)
    path.write_bytes(
        DOMAIN._key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    )
    return path


def records() -> list[str]:
    """The domain's DNS, a record a line, in master file format with a TTL."""
    zone = DOMAIN.zone + f"10.2.0.192.in-addr.arpa. PTR mail.{DOMAIN.name}.\n"
    lines = "\n".join(line.strip() for line in zone.splitlines())
    sets = dns.zonefile.read_rrsets(lines, rdclass=None, default_ttl=TTL_SECONDS)
    return [line for one in sets for line in one.to_text().splitlines()]


def plain(size: int, count: int) -> list[Mail]:
    """Our own messages, which nobody signed yet: from our network, with a login."""
    text = random.Random(SEED)
    return [Mail(OUR_ADDRESS, LOGIN, SENDER, _compose(number, size, text)) for number in range(count)]


def signed(mails: list[Mail]) -> list[Mail]:
    """The same messages from outside, with the domain's signature."""
    return [Mail(DOMAIN.address, {}, SENDER, DOMAIN.sign(mail.message)) for mail in mails]


def judged(mails: list[Mail]) -> list[Mail]:
    """The same messages with what others found, for a filter that only reads that."""
    found = (
        f"Authentication-Results: {AUTHSERV_ID}; dkim=pass (2048-bit key) header.d={DOMAIN.name}"
        f" header.i=@{DOMAIN.name} header.a=rsa-sha256 header.s={DOMAIN.selector}\r\n"
        f"Authentication-Results: {AUTHSERV_ID}; spf=pass smtp.mailfrom={SENDER}\r\n"
    ).encode()
    return [replace(mail, message=found + mail.message) for mail in mails]


def _compose(number: int, size: int, text: random.Random) -> bytes:
    received = (
        f"Received: from laptop.{DOMAIN.name} (laptop.{DOMAIN.name} [203.0.113.5])\r\n"
        f"\tby mail.{DOMAIN.name} (Postfix) with ESMTPSA id 4B{number:08X}\r\n"
        f"\tfor <{RECIPIENT}>; Mon, 05 Jan 2026 10:00:{number:02d} +0000 (UTC)"
    )
    head = compose(SENDER, RECIPIENT, f"Measured message {number}", "", received, "User-Agent: bench")
    lines, left = [], size - len(head)
    while left > 0:
        line = " ".join(text.choices(WORDS, k=12))[: max(left - 2, 1)]
        lines.append(line)
        left -= len(line) + 2
    return head + "".join(f"{line}\r\n" for line in lines).encode()
