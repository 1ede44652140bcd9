"""Files in MaxMind's format for tests: the smallest writer of the format (version 2.0) that a reader takes.

https://maxmind.github.io/MaxMind-DB/. Networks as a binary tree of 24-bit records, then the data.
"""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_network

Value = str | int | Mapping[str, "Value"]

_MARKER = b"\xab\xcd\xefMaxMind.com"
_SEPARATOR = 16
"""Octets between tree and data; offsets into the data are counted from here, plus the number of nodes."""

_MAPPED_BITS = 96


def make_mmdb(networks: Mapping[str, Value], kind: str = "Test") -> bytes:
    """A file that says this of these networks, which do not overlap; IPv4 lies in ::/96, as it does there."""
    tree: list[list[int | bytes | None]] = [[None, None]]
    for text, record in networks.items():
        _insert(tree, text, _encode(record))
    offsets: dict[bytes, int] = {}
    data = b""
    for each in (each for node in tree for each in node):
        if isinstance(each, bytes) and each not in offsets:
            offsets[each] = len(data)
            data += each
    nodes = b"".join(_number(each, len(tree), offsets) for node in tree for each in node)
    return nodes + bytes(_SEPARATOR) + data + _MARKER + _encode(_metadata(len(tree), kind))


def _insert(tree: list[list[int | bytes | None]], text: str, record: bytes) -> None:
    network = ip_network(text)
    length = network.prefixlen + (_MAPPED_BITS if network.version == 4 else 0)
    bits = f"{int(network.network_address):0128b}"[:length]
    at = 0
    for bit in bits[:-1]:
        below = tree[at][int(bit)]
        if not isinstance(below, int):
            tree.append([None, None])
            below = tree[at][int(bit)] = len(tree) - 1
        at = below
    tree[at][int(bits[-1])] = record


def _number(each: int | bytes | None, count: int, offsets: Mapping[bytes, int]) -> bytes:
    if isinstance(each, bytes):
        return (count + _SEPARATOR + offsets[each]).to_bytes(3, "big")
    return (count if each is None else each).to_bytes(3, "big")


def _metadata(count: int, kind: str) -> Mapping[str, Value]:
    return {
        "node_count": count, "record_size": 24, "ip_version": 6, "database_type": kind,
        "binary_format_major_version": 2, "binary_format_minor_version": 0, "build_epoch": 1_700_000_000,
        "languages": {}, "description": {},
    }  # fmt: skip


def _encode(value: Value) -> bytes:
    """A control octet with type and size, and the value: text is 2, a 32-bit number 6, a map 7."""
    if isinstance(value, str):
        raw = value.encode()
        return _control(2, len(raw)) + raw
    if isinstance(value, int):
        raw = value.to_bytes(4, "big").lstrip(b"\0")
        return _control(6, len(raw)) + raw
    return _control(7, len(value)) + b"".join(_encode(key) + _encode(each) for key, each in value.items())


def _control(kind: int, size: int) -> bytes:
    """A size from 29 to 284 has an octet of its own."""
    return bytes((kind << 5 | size,)) if size < 29 else bytes((kind << 5 | 29, size - 29))
