"""The adapter of cryptography, and that it and dkimpy stay behind it."""

import re
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from mailreeve_milter.dkim.crypto import (
    KeyFormatError,
    format_private_key,
    generate_ed25519_key,
    is_signature,
    key_bits,
    load_ed25519_public_key,
    load_private_key,
    load_private_key_der,
    load_rsa_public_key,
    sign_digest,
)

REPOSITORY = Path(__file__).parents[2]
VECTOR_KEYS = REPOSITORY / "tests/vectors/dkim/keys"


@pytest.mark.parametrize("name", ["rfc6376", "rsa4096", "rfc8463"])
def test_a_signature_verifies_and_another_digest_does_not(name: str) -> None:
    """Both algorithms sign a digest, and only that digest verifies; PKCS#1 and PKCS#8 are read."""
    key = load_private_key((VECTOR_KEYS / f"{name}.pem").read_bytes())

    signature = sign_digest(key, bytes(32))

    assert is_signature(key.public_key(), bytes(32), signature)
    assert not is_signature(key.public_key(), b"x" * 32, signature)
    assert not is_signature(key.public_key(), bytes(32), signature[:-1])
    assert not is_signature(key.public_key(), bytes(32), b"")


def test_a_private_key_survives_its_file() -> None:
    """What is written is read back as the same key."""
    key = generate_ed25519_key()

    loaded = load_private_key(format_private_key(key))

    assert loaded.public_key().public_bytes_raw() == key.public_key().public_bytes_raw()  # type: ignore[union-attr] # Ed25519
    assert key_bits(loaded) == 256


@pytest.mark.parametrize(
    ("pem", "said"),
    [
        (b"", "PEM"),
        (b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "PEM"),
        (
            ec.generate_private_key(ec.SECP256R1()).private_bytes(
                Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
            ),
            "neither",
        ),
        (
            generate_ed25519_key().private_bytes(
                Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")
            ),
            "password",
        ),
    ],
)
def test_what_is_no_usable_private_key_says_why(pem: bytes, said: str) -> None:
    """Garbage, another kind of key and an encrypted key are told apart for the operator."""
    with pytest.raises(KeyFormatError, match=said):
        load_private_key(pem)


@pytest.mark.parametrize("name", ["rfc6376", "rsa4096", "rfc8463"])
def test_a_private_key_may_come_as_der(name: str) -> None:
    """The same key without its PEM."""
    key = load_private_key((VECTOR_KEYS / f"{name}.pem").read_bytes())
    der = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())

    assert format_private_key(load_private_key_der(der)) == format_private_key(key)


@pytest.mark.parametrize("octets", [b"", b"no key", b"\x30\x03\x02\x01\x00"])
def test_what_is_no_der_is_refused(octets: bytes) -> None:
    """With the form that was expected."""
    with pytest.raises(KeyFormatError, match="DER"):
        load_private_key_der(octets)


def test_a_key_whose_parts_do_not_fit_is_refused() -> None:
    """A damaged file: what it signs its own public half would not verify, and nobody else would."""
    key = load_private_key((VECTOR_KEYS / "rfc6376.pem").read_bytes())
    der = key.private_bytes(Encoding.DER, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    damaged = bytearray(der)
    damaged[40] ^= 1  # within the modulus, which stands first

    with pytest.raises(KeyFormatError, match="do not fit together"):
        load_private_key_der(bytes(damaged))


def test_public_keys_of_another_kind_are_refused() -> None:
    """An elliptic curve key is no RSA key, whatever its record says."""
    der = (
        ec.generate_private_key(ec.SECP256R1())
        .public_key()
        .public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    )

    with pytest.raises(KeyFormatError):
        load_rsa_public_key(der)
    with pytest.raises(KeyFormatError):
        load_ed25519_public_key(der)


def test_a_long_exponent_is_refused() -> None:
    """A public exponent as long as the modulus would make every verification as slow as a signature."""
    key = RSAPublicNumbers((1 << 1000) + 1, (1 << 2047) + 1).public_key()

    with pytest.raises(KeyFormatError, match="exponent"):
        load_rsa_public_key(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))


FOREIGN_IMPORT = re.compile(r"^\s*(?:from|import)\s+(?:dkim|cryptography)\b", re.MULTILINE)


def test_only_this_room_knows_dkimpy_and_cryptography() -> None:
    """Each foreign library has one adapter: no other file of the product imports these two."""
    room = REPOSITORY / "milter/mailreeve_milter/dkim"
    files = [file for root in ("policyd", "milter", "admin") for file in (REPOSITORY / root).rglob("*.py")]

    guests = [file for file in files if FOREIGN_IMPORT.search(file.read_text())]

    assert guests
    assert all(file.is_relative_to(room) for file in guests)


@pytest.mark.parametrize(
    "raw",
    [
        "01" + "00" * 31,
        "00" * 32,
        "ec" + "ff" * 31,
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
    ],
)
def test_a_key_with_which_anybody_could_sign_is_none(raw: str) -> None:
    """A point of small order: one signature that nobody had to make would fit any message."""
    with pytest.raises(KeyFormatError, match="anybody"):
        load_ed25519_public_key(bytes.fromhex(raw))
