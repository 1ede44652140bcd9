"""RSA and Ed25519 through cryptography, whose OpenSSL lets other threads run meanwhile. Knows no mail.

RFC 6376 section 3.3, RFC 8301 section 3.2, RFC 8463 sections 3 and 4.
"""

from __future__ import annotations

import base64

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import (
    RSAPrivateKey,
    RSAPublicKey,
    generate_private_key,
)
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

MIN_RSA_BITS = 1024
"""Shorter keys prove nothing (RFC 8301 section 3.2)."""

MAX_RSA_BITS = 8192
"""Verifiers must handle 4096 (RFC 8301 section 3.2); beyond this a signature costs whoever is sent it."""

NEW_RSA_BITS = 2048

MAX_RSA_EXPONENT_BITS = 64
"""Real ones have 17; a long one makes verifying as slow as signing."""

ED25519_OCTETS = 32

PublicKey = RSAPublicKey | Ed25519PublicKey
PrivateKey = RSAPrivateKey | Ed25519PrivateKey

_SHA256 = Prehashed(hashes.SHA256())
_PKCS1 = padding.PKCS1v15()


class KeyFormatError(Exception):
    """These octets are no key that DKIM knows; the text is for people and holds none of them."""


def load_rsa_public_key(der: bytes) -> RSAPublicKey:
    """A SubjectPublicKeyInfo, or the bare RSAPublicKey that RFC 6376 section 3.6.1 speaks of.

    Raises:
        KeyFormatError: it is none.
    """
    try:
        key = serialization.load_der_public_key(der)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise KeyFormatError("not an RSA key") from error
    if not isinstance(key, RSAPublicKey):
        raise KeyFormatError("not an RSA key")
    if key.public_numbers().e.bit_length() > MAX_RSA_EXPONENT_BITS:
        raise KeyFormatError("an RSA key with an exponent that is too long")
    return key


def load_ed25519_public_key(raw: bytes) -> Ed25519PublicKey:
    """The 32 octets of the key itself, without ASN.1 (RFC 8463 section 4.2).

    Raises:
        KeyFormatError: it is none.
    """
    if len(raw) != ED25519_OCTETS:
        raise KeyFormatError("not an Ed25519 key of 32 octets")
    return Ed25519PublicKey.from_public_bytes(raw)


def is_signature(key: PublicKey, digest: bytes, signature: bytes) -> bool:
    """Did the key's owner sign this SHA-256 digest? Ed25519 signs the digest, too (RFC 8463 section 3)."""
    try:
        if isinstance(key, RSAPublicKey):
            key.verify(signature, digest, _PKCS1, _SHA256)
        else:
            key.verify(signature, digest)
    except InvalidSignature:
        return False
    return True


def sign_digest(key: PrivateKey, digest: bytes) -> bytes:
    """The signature of a SHA-256 digest."""
    if isinstance(key, RSAPrivateKey):
        return key.sign(digest, _PKCS1, _SHA256)
    return key.sign(digest)


def load_private_key(pem: bytes) -> PrivateKey:
    """RSA (PKCS#1 or PKCS#8) or Ed25519 (PKCS#8) from PEM. Takes 40 ms for RSA, which is checked.

    Raises:
        KeyFormatError: no such key, or one that needs a password.
    """
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except TypeError as error:
        raise KeyFormatError("the key is protected by a password") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise KeyFormatError("not a private key in PEM form") from error
    if not isinstance(key, RSAPrivateKey | Ed25519PrivateKey):
        raise KeyFormatError("neither an RSA nor an Ed25519 key")
    return key


def generate_rsa_key() -> RSAPrivateKey:
    """A new key of the length that RFC 8301 section 3.2 recommends."""
    return generate_private_key(public_exponent=65537, key_size=NEW_RSA_BITS)


def generate_ed25519_key() -> Ed25519PrivateKey:
    """A new key."""
    return Ed25519PrivateKey.generate()


def key_type(key: PrivateKey) -> str:
    """The k= of its key record: "rsa" or "ed25519"."""
    return "rsa" if isinstance(key, RSAPrivateKey) else "ed25519"


def key_bits(key: PrivateKey) -> int:
    """The length of an RSA key's modulus; 256 for Ed25519."""
    return key.key_size if isinstance(key, RSAPrivateKey) else ED25519_OCTETS * 8


def format_private_key(key: PrivateKey) -> bytes:
    """PKCS#8 in PEM form, without a password."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def format_public_key(key: PrivateKey) -> str:
    """The p= of its key record."""
    public = key.public_key()
    if isinstance(public, RSAPublicKey):
        octets = public.public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    else:
        octets = public.public_bytes_raw()
    return base64.b64encode(octets).decode("ascii")
