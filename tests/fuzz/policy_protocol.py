"""Any octets are the same requests however they are cut, each a transaction or a ProtocolError.

The short way for plain requests and the long one give the same attributes.
"""

from collections.abc import Iterable, Mapping

from mailreeve_policyd.errors import ProtocolError
from mailreeve_policyd.facts import FACTS
from mailreeve_policyd.postfix import (
    DEFAULT_BOUNDS,
    RequestParser,
    _any_attributes,
    _plain_attributes,
    parse_transaction,
)
from tests.fuzz.pieces import cut

WORDS = (
    b"request=smtpd_access_policy\n",
    b"protocol_state=RCPT\n",
    b"protocol_state=END-OF-MESSAGE\n",
    b"protocol_state=",
    b"sender=",
    b"recipient=",
    b"client_address=",
    b"instance=",
    b"size=",
    b"encryption_protocol=",
    b"ccert_subject=+20",
    b"\n\n",
    b"@",
    b"2001:db8::1",
)


def check(data: bytes) -> None:
    """See the module."""
    whole = _requests([data])
    assert _requests(cut(data)) == whole
    for request in whole:
        if isinstance(request, dict):
            _check_request(request)
    for block in data.split(b"\n\n"):
        _check_both_ways(block)


def _requests(pieces: Iterable[bytes]) -> list[Mapping[str, str] | str]:
    parser = RequestParser()
    found: list[Mapping[str, str] | str] = []
    try:
        for piece in pieces:
            found += parser.feed(piece)
    except ProtocolError:
        return [*found, "refused"]  # for one reason or another
    assert len(parser._buffer) <= DEFAULT_BOUNDS.octets
    return found


def _check_request(attributes: Mapping[str, str]) -> None:
    try:
        transaction = parse_transaction(attributes)
    except ProtocolError:
        return
    if transaction is not None:
        for fact in FACTS.values():
            fact.read(transaction)


def _check_both_ways(block: bytes) -> None:
    plain = _plain_attributes(block)
    if plain is not None:
        assert dict(plain) == dict(_any_attributes(block, DEFAULT_BOUNDS.attributes))
