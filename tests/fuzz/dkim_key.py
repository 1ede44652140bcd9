"""Any octets in a key record are a key that may verify, or a finding that says why not; nothing is raised.

Private keys likewise: a key, or KeyFormatError, whose text holds nothing of the file.
"""

from contextlib import suppress

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from mailreeve_milter.dkim.crypto import (
    MAX_RSA_BITS,
    MAX_RSA_EXPONENT_BITS,
    MIN_RSA_BITS,
    KeyFormatError,
    is_signature,
    load_private_key,
    load_private_key_der,
)
from mailreeve_milter.dkim.key_record import UsableKey, lookup_key
from mailreeve_milter.dkim.outcome import Finding
from mailreeve_milter.dkim.signature import DkimSignature, parse_signature
from mailreeve_milter.dkim.taglist import parse_base64, parse_tag_list
from mailreeve_policyd.errors import ProtocolError
from mailreeve_policyd.resolver import ZoneResolver
from tests.fuzz.pieces import lines

WORDS = (
    b"v=DKIM1;",
    b"k=rsa;",
    b"k=ed25519;",
    b"p=",
    b"h=sha256;",
    b"t=y:s;",
    b"s=email;",
    b"n=note;",
    b"MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8A",
    b"-----BEGIN PRIVATE KEY-----\n",
    b"-----END PRIVATE KEY-----\n",
)


def _signature(algorithm: bytes) -> DkimSignature:
    value = b"v=1; a=" + algorithm + b"; d=example.org; s=s1; h=from; bh=" + b"A" * 43 + b"=; b=AAAA"
    return parse_signature(parse_tag_list(value))


_SIGNATURES = (_signature(b"rsa-sha256"), _signature(b"ed25519-sha256"))


def check(data: bytes) -> None:
    """See the module. Each line is a record of its own, and a private key's base64."""
    name = _SIGNATURES[0].key_name
    resolver = ZoneResolver({name: {"TXT": list(lines(data))}})
    for signature in _SIGNATURES:
        found = lookup_key(resolver, signature)
        assert isinstance(found, UsableKey | Finding)
        if isinstance(found, UsableKey):
            _check_key(found)
    with suppress(KeyFormatError):
        load_private_key(data)
    with suppress(KeyFormatError, ProtocolError):
        load_private_key_der(parse_base64(data.decode("latin-1")))


def _check_key(found: UsableKey) -> None:
    key = found.public_key
    if isinstance(key, RSAPublicKey):
        assert MIN_RSA_BITS <= key.key_size <= MAX_RSA_BITS
        assert key.public_numbers().e.bit_length() <= MAX_RSA_EXPONENT_BITS
    assert not is_signature(key, b"\0" * 32, b"\0" * 64)
    assert not is_signature(key, b"\0" * 32, b"\1" + b"\0" * 63)
