"""RSA and Ed25519 through cryptography, whose OpenSSL lets other threads run meanwhile. Knows no mail.

RFC 6376 section 3.3, RFC 8301 section 3.2, RFC 8463 sections 3 and 4.
"""

from __future__ import annotations

import base64
from typing import Protocol

from cryptography.exceptions import InternalError, InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import (
    RSAPrivateKey,
    RSAPublicKey,
    generate_private_key,
)
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

MIN_RSA_BITS = 1024
"""Shorter keys prove nothing (RFC 8301 section 3.2)."""

MAX_RSA_BITS = 8192
"""Verifiers must handle 4096 (RFC 8301 section 3.2); beyond this a signature costs whoever is sent it."""

NEW_RSA_BITS = 2048

MAX_RSA_EXPONENT_BITS = 64
"""Real ones have 17; a long one makes verifying as slow as signing."""

ED25519_OCTETS = 32

_SIGN_BIT = 0x80
# Points whose order divides 8 (RFC 8032 section 5.1), by all octets that stand for one, without its sign: a
# signature that nobody had to make, such as the neutral element and zero, fits every message then
_SMALL_ORDER = frozenset(
    bytes.fromhex(octets)
    for octets in (
        "00" * 32,
        "01" + "00" * 31,
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "ec" + "ff" * 30 + "7f",
        "ed" + "ff" * 30 + "7f",
        "ee" + "ff" * 30 + "7f",
    )
)

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
    if raw[:-1] + bytes([raw[-1] & ~_SIGN_BIT]) in _SMALL_ORDER:
        raise KeyFormatError("an Ed25519 key with which anybody could sign")
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
    """RSA (PKCS#1 or PKCS#8) or Ed25519 (PKCS#8) from PEM.

    Raises:
        KeyFormatError: no such key, one that needs a password, or one whose parts do not fit together.
    """
    return _load(serialization.load_pem_private_key, pem, "not a private key in PEM form")


def load_private_key_der(der: bytes) -> PrivateKey:
    """The same keys from DER. Raises as `load_private_key`."""
    return _load(serialization.load_der_private_key, der, "not a private key in DER form")


class _Loader(Protocol):
    """What cryptography has for PEM and for DER."""

    def __call__(
        self, data: bytes, /, password: None, *, unsafe_skip_rsa_key_validation: bool
    ) -> PrivateKeyTypes:
        """The key."""


def _load(loader: _Loader, octets: bytes, problem: str) -> PrivateKey:
    try:
        # OpenSSL's check of RSA primes takes 40 ms a key, which thousands of keys would have to wait for
        key = loader(octets, password=None, unsafe_skip_rsa_key_validation=True)
    except TypeError as error:
        raise KeyFormatError("the key is protected by a password") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise KeyFormatError(problem) from error
    if not isinstance(key, RSAPrivateKey | Ed25519PrivateKey):
        raise KeyFormatError("neither an RSA nor an Ed25519 key")
    if not _signs(key):
        raise KeyFormatError("the parts of the key do not fit together")
    return key


def _signs(key: PrivateKey) -> bool:
    """Does it make a signature that its public half verifies? That is all that we need of a key."""
    digest = bytes(32)
    try:
        return is_signature(key.public_key(), digest, sign_digest(key, digest))
    except (ValueError, InternalError):
        return False


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
