"""Any text is a path, and what it has for a domain is one; any text can be shown."""

from contextlib import suppress

from mailreeve_policyd.errors import ProtocolError
from mailreeve_policyd.escape import escape, escape_ascii
from mailreeve_policyd.smtp import MAX_DOMAIN_OCTETS, parse_domain, parse_path, split_status
from mailreeve_policyd.transaction import parse_address
from tests.fuzz.pieces import text

WORDS = (
    b"<",
    b">",
    b"@",
    b"@a.example:",
    b"xn--",
    b"example.org",
    b"[192.0.2.1]",
    "ü".encode(),
    b"::ffff:",
    b"%1",
)


def check(data: bytes) -> None:
    """See the module."""
    told = text(data)
    mailbox = parse_path(told)
    if mailbox is not None and mailbox.domain is not None:
        assert parse_domain(mailbox.domain) == mailbox.domain
        assert len(mailbox.domain) <= MAX_DOMAIN_OCTETS
        assert mailbox.domain.isascii()
    with suppress(ProtocolError):
        parse_domain(told)
    address = parse_address(told)
    assert address is None or parse_address(str(address)) == address
    split_status(told)
    assert escape(told).isprintable()
    assert escape_ascii(told).isascii()
