"""Any octets claim to be ours or do not; whatever stands behind our name, they do."""

import email.policy
from email.parser import BytesHeaderParser

from mailreeve_milter.authclaim import claims

OURS = "mx.example.org"

WORDS = (
    b"mx.example.org",
    b"MX.Example.ORG",
    b"mx.example.org/1;",
    b"example.com;",
    b"(mx.example.org)",
    b"i=1;",
    b'"mx.example.org"',
    b"=?utf-8?Q?mx?=",
    b" spf=pass smtp.mailfrom=",
    b"\\",
    b"\r\n ",
    "\u200b".encode(),
    "\uff4d".encode(),
    "\u3002".encode(),
    b"; none",
)


def check(data: bytes) -> None:
    """See the module."""
    assert isinstance(claims(data, OURS), bool)
    for head in (
        b" mx.example.org; ",
        b"\tMX.EXAMPLE.ORG/1 ",
        b' "mx.example.org" ',
        b" i=1; mx.example.org ",
    ):
        assert claims(head + data, OURS)
    if data.lstrip(b" \t\r\n").lower().startswith(OURS.encode() + b";"):
        assert claims(data, OURS)
    if _first_word(data) == OURS:
        assert claims(data, OURS)


_PARSER = BytesHeaderParser(policy=email.policy.compat32)


def _first_word(data: bytes) -> str:
    """What a reader in Python takes for the authserv-id, that looks no further than it must."""
    if b"\0" in data or not data.isascii():
        return ""
    value = _PARSER.parsebytes(b"Authentication-Results: " + data.replace(b"\n", b" ").replace(b"\r", b" "))
    words = str(value["Authentication-Results"] or "").partition(";")[0].split()
    return words[0].lower() if words else ""
