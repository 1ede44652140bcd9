"""Any octets are a message: fields and a body whose octets, put together again, are those of the file."""

from mailreeve_milter.replay import split_message

WORDS = (b"From: bob@example.org\n", b"\n", b"\r\n", b"\n\t", b":", b" : ")


def check(data: bytes) -> None:
    """See the module."""
    fields, body = split_message(data)
    octets = b"".join(data.split(b"\r")).replace(b"\n", b"")
    for name, value in fields:
        assert name.isascii()
        assert b":" not in name
        assert b"\n" not in value.replace(b"\r\n ", b"").replace(b"\r\n\t", b"")
    again = b"".join([name + b":" + value for name, value in fields]) + body
    kept = again.replace(b"\r", b"").replace(b"\n", b"")
    assert len(kept) <= len(octets)  # space before a colon is dropped
    assert kept.replace(b" ", b"").replace(b"\t", b"") == octets.replace(b" ", b"").replace(b"\t", b"")
