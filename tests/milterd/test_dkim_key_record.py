"""Key records; their rules are in the vectors, here is the choice among several and the parser's edges."""

import contextlib
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailreeve_milter.dkim.crypto import generate_ed25519_key
from mailreeve_milter.dkim.key_record import (
    MAX_RECORD_OCTETS,
    UsableKey,
    format_key_record,
    lookup_key,
    parse_key_record,
)
from mailreeve_milter.dkim.outcome import Finding
from mailreeve_milter.dkim.signature import DkimSignature, parse_signature
from mailreeve_policyd.errors import ProtocolError
from mailreeve_policyd.resolver import ZoneResolver

NAME = "e1._domainkey.example.org"


def an_ed25519_signature(identity: str = "@example.org") -> DkimSignature:
    return parse_signature(
        {
            "i": identity,
            "v": "1",
            "a": "ed25519-sha256",
            "d": "example.org",
            "s": "e1",
            "h": "from",
            "b": "AAAA",
        }
        | {"bh": "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="}
    )


def test_the_same_record_is_chosen_in_any_order() -> None:
    """Among several keys the choice does not hang on the order in which DNS gives them."""
    records = [format_key_record(generate_ed25519_key()).encode() for _ in range(3)]
    chosen = set()
    for order in itertools.permutations([*records, b"v=spf1 -all", b"k=rsa; p=AAAA"]):
        found = lookup_key(ZoneResolver({NAME: {"TXT": order}}), an_ed25519_signature())
        assert isinstance(found, UsableKey)
        chosen.add(found.public_key.public_bytes_raw())  # type: ignore[union-attr] # Ed25519 here

    assert len(chosen) == 1


@pytest.mark.parametrize(
    "identities", [("@example.org", "@a.example.org"), ("@a.example.org", "@example.org")]
)
def test_what_was_said_of_a_record_is_said_of_the_same_use_alone(identities: tuple[str, str]) -> None:
    """With t=s a key is good for i= at the domain and not for one below it, whichever was asked first."""
    record = format_key_record(generate_ed25519_key()) + "; t=s"
    resolver = ZoneResolver({NAME: {"TXT": [record]}})

    found = {identity: lookup_key(resolver, an_ed25519_signature(identity)) for identity in identities}

    assert isinstance(found["@example.org"], UsableKey)
    assert found["@a.example.org"] == Finding("permerror", "the key is not for subdomains (t=s)")


def test_a_record_that_was_replaced_is_not_remembered() -> None:
    """What a name says now holds, not what it said."""
    for key in (generate_ed25519_key(), generate_ed25519_key()):
        found = lookup_key(ZoneResolver({NAME: {"TXT": [format_key_record(key)]}}), an_ed25519_signature())

        assert isinstance(found, UsableKey)
        assert found.public_key == key.public_key()
    revoked = lookup_key(ZoneResolver({NAME: {"TXT": ["v=DKIM1; k=ed25519; p="]}}), an_ed25519_signature())
    assert revoked == Finding("permerror", "the key was revoked")


def test_one_question_is_asked() -> None:
    """A key costs one TXT question and no more."""
    resolver = ZoneResolver("")

    lookup_key(resolver, an_ed25519_signature())

    assert resolver.queries == [(NAME, "TXT")]


def test_an_oversized_record_is_refused() -> None:
    """A record beyond the bound is no key, whatever it holds."""
    record = b"v=DKIM1; n=" + b"x" * MAX_RECORD_OCTETS + b"; p="

    found = lookup_key(ZoneResolver({NAME: {"TXT": [record]}}), an_ed25519_signature())

    assert found == Finding("permerror", "the key record is too long")


def test_a_private_key_gives_the_record_that_verifies_it() -> None:
    """What is published for a key is read back as that key."""
    key = generate_ed25519_key()

    record = parse_key_record(format_key_record(key).encode())

    assert record.key_type == "ed25519"
    assert record.public_key == key.public_key().public_bytes_raw()


@given(st.binary(max_size=100) | st.binary(max_size=60).map(lambda rest: b"v=DKIM1; p=" + rest))
def test_any_octets_are_a_record_or_a_mistake(record: bytes) -> None:
    """No TXT record raises anything but ProtocolError, and looking one up raises nothing."""
    with contextlib.suppress(ProtocolError):
        parse_key_record(record)
    assert lookup_key(ZoneResolver({NAME: {"TXT": [record]}}), an_ed25519_signature()) is not None
