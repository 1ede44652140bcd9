"""One question to a name server over TCP (RFC 7766), whose answer is weighed before it is read.

dnspython reads whatever it is sent: 64 KB of records, which a stranger can publish, take it an eighth of a
second, and one SPF check may ask a hundred such questions. Must not know who asks or what is remembered.
"""

from __future__ import annotations

import socket
import time
from struct import Struct

import dns.exception
import dns.message
import dns.query

MAX_ANSWER_RECORDS = 200
"""Of one answer, in all its sections, unless the settings say otherwise. The largest honest ones, of domains
with many TXT records, have 100."""

_LENGTH = Struct("!H")
_COUNTS = Struct("!6xHHH")  # RFC 1035 section 4.1.1: ANCOUNT, NSCOUNT, ARCOUNT


def ask_tcp(
    request: dns.message.Message,
    address: str,
    port: int,
    seconds: float,
    most_records: int = MAX_ANSWER_RECORDS,
) -> dns.message.Message:
    """The answer of one server, within `seconds`, of at most so many records.

    Raises:
        dns.exception.Timeout: it takes longer.
        dns.exception.DNSException: the answer is none, another question's, or of too many records.
        OSError: the server cannot be reached, or went away.
    """
    deadline = time.monotonic() + seconds
    try:
        with socket.create_connection((address, port), timeout=seconds) as stream:
            wire = request.to_wire()
            stream.sendall(_LENGTH.pack(len(wire)) + wire)
            (length,) = _LENGTH.unpack(_read(stream, _LENGTH.size, deadline))
            answer = _read(stream, length, deadline)
    except TimeoutError:
        raise dns.exception.Timeout(timeout=seconds) from None  # type: ignore[no-untyped-call]  # has no types
    return _parse(request, answer, most_records)


def _read(stream: socket.socket, octets: int, deadline: float) -> bytes:
    found = bytearray()
    while len(found) < octets:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        stream.settimeout(left)
        piece = stream.recv(octets - len(found))
        if not piece:
            raise ConnectionResetError("the server closed the connection")
        found += piece
    return bytes(found)


def _parse(request: dns.message.Message, wire: bytes, most_records: int) -> dns.message.Message:
    if len(wire) < _COUNTS.size or sum(_COUNTS.unpack_from(wire)) > most_records:
        raise dns.exception.FormError("too many records")  # type: ignore[no-untyped-call]  # as above
    answer = dns.message.from_wire(wire)
    if not request.is_response(answer):
        raise dns.query.BadResponse
    return answer
