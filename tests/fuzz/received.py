"""Any octets of a Received field have a client with an address, or none; nothing is raised."""

from ipaddress import IPv4Address, IPv6Address

from mailreeve_milter.received import MAX_NAME_CHARACTERS, MAX_OCTETS, parse_received

WORDS = (
    b"from ",
    b" by ",
    b" (Postfix) with ESMTP id 4B1;",
    b"(mail.example.net [192.0.2.1])",
    b"([IPv6:2001:db8::1])",
    b"(helo=",
    b" (Exim 4.96)",
    b"HELO ",
    b"(may be forged)",
    b"unknown",
    b"ident=",
)


def check(data: bytes) -> None:
    """See the module."""
    found = parse_received(data)
    if found is None:
        return
    assert len(data) <= MAX_OCTETS
    assert isinstance(found.address, IPv4Address | IPv6Address)
    for name in (found.helo_name, found.client_name):
        assert name is None or 0 < len(name) <= MAX_NAME_CHARACTERS
