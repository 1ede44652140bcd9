"""Octets cut into pieces, as the network cuts them, by the octets themselves."""

from collections.abc import Iterator


def cut(data: bytes) -> Iterator[bytes]:
    """All of `data` in order. How long each piece is hangs on what stands in it, from one octet to 64."""
    at = 0
    while at < len(data):
        end = at + 1 + data[at] % 64
        yield data[at:end]
        at = end


def lines(data: bytes) -> list[bytes]:
    """The pieces between line feeds: for parsers of several values."""
    return data.split(b"\n")


def text(data: bytes) -> str:
    """As a door decodes what comes."""
    return data.decode("utf-8", "surrogateescape")
