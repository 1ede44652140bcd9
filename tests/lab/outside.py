"""Somebody else's mail: a domain with its own DNS records and DKIM key; dkimpy signs for it."""

import base64
import uuid
from dataclasses import dataclass
from functools import cached_property

import dkim
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from tests.lab.smtp import Client

KEY_BITS = 2048
STRING_CHARACTERS = 200  # a TXT record is made of strings of at most 255


@dataclass(frozen=True)
class OutsideDomain:
    """A domain that sends from one address with SPF, DKIM (RSA, rsa-sha256) and DMARC.

    `policy` is what its DMARC record asks for: none, quarantine or reject.
    """

    name: str
    address: str
    policy: str = "reject"
    selector: str = "s1"

    @property
    def server(self) -> Client:
        """Its mail server."""
        return Client(self.address, f"mail.{self.name}", f"mail.{self.name}")

    @cached_property
    def _key(self) -> rsa.RSAPrivateKey:
        return rsa.generate_private_key(public_exponent=65537, key_size=KEY_BITS)

    @property
    def zone(self) -> str:
        """Its records, as `DnsServer` takes them."""
        der = self._key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        record = f"v=DKIM1; k=rsa; p={base64.b64encode(der).decode()}"
        return f"""
            {self.name}.         MX  10 mail.{self.name}.
            {self.name}.         TXT "v=spf1 ip4:{self.address} -all"
            mail.{self.name}.    A   {self.address}
            mail.{self.name}.    TXT "v=spf1 a -all"
            _dmarc.{self.name}.  TXT "v=DMARC1; p={self.policy}"
            {self.selector}._domainkey.{self.name}. TXT {txt(record)}
        """

    def sign(self, message: bytes) -> bytes:
        """The message, its lines ended by CRLF, with the domain's DKIM-Signature on top."""
        private = self._key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
        signature = dkim.sign(
            message,
            self.selector.encode(),
            self.name.encode(),
            private,
            canonicalize=(b"relaxed", b"relaxed"),
            include_headers=[b"From", b"To", b"Subject", b"Date", b"Message-ID"],
        )
        return bytes(signature) + message


def txt(text: str) -> str:
    """A text as the strings of a TXT record, in quotes."""
    parts = [text[start : start + STRING_CHARACTERS] for start in range(0, len(text), STRING_CHARACTERS)]
    return " ".join(f'"{part}"' for part in parts)


def compose(sender: str, recipient: str, subject: str, body: str, *more: str) -> bytes:
    """A message of RFC 5322 with the usual fields and `more`, each "Name: value". Lines end with CRLF."""
    domain = sender.rpartition("@")[2].rstrip(">")
    fields = [
        f"From: {sender}",
        f"To: {recipient}",
        f"Subject: {subject}",
        "Date: Mon, 05 Jan 2026 10:00:00 +0000",
        f"Message-ID: <{uuid.uuid4().hex[:12]}@{domain}>",
        *more,
        "MIME-Version: 1.0",
        "Content-Type: text/plain; charset=utf-8",
    ]
    return "\r\n".join([*fields, "", *body.splitlines(), ""]).encode()
