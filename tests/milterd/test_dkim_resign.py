"""A message that bears our signature is not signed again; one that pretends to, is."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailreeve_milter.dkim import SigningKey, SigningOptions, start_signing_once
from mailreeve_milter.dkim.resign import MAX_VERIFIED
from mailreeve_milter.message import HeaderField
from mailreeve_policyd.smtp import parse_domain
from tests.milterd.dkim_messages import NOW, cut
from tests.milterd.test_dkim_sign import BODY, ED25519, FIELDS, KEYS, RSA, RSA_4096, sign, verified_by_us

OTHERS = replace(RSA_4096, selector=RSA.selector)
"""A key of somebody else who names our domain and selector."""


def sign_once(
    fields: Sequence[HeaderField],
    keys: Sequence[SigningKey] = (RSA,),
    body: bytes = BODY,
    now: datetime = NOW,
    places: Sequence[int] = (),
) -> list[str]:
    """The selectors that sign, after their fields were tried."""
    signing = start_signing_once(fields, keys)
    for chunk in cut(body, places):
        signing.update(chunk)
    made = signing.finish(now)
    if made and now == NOW:
        assert verified_by_us([*(field for _, field in made), *fields], body)[: len(made)] == ["pass"] * len(
            made
        )
    return [key.selector for key, _ in made]


def test_a_message_without_signatures_is_signed_with_all_keys() -> None:
    """That is the usual message."""
    assert sign_once(FIELDS, KEYS) == ["r1", "r2", "e1"]


def test_a_signed_message_is_not_signed_again() -> None:
    """It came back from a content filter as it went out: with each key there is one signature."""
    assert sign_once([*sign(keys=KEYS), *FIELDS], KEYS) == []


def test_only_the_keys_that_did_not_sign_sign() -> None:
    """A key that is new since, or whose signature was taken out, signs beside the others."""
    assert sign_once([*sign(keys=[RSA, ED25519]), *FIELDS], KEYS) == ["r2"]


@pytest.mark.parametrize("body", [BODY + b"added\r\n", b"", BODY.replace(b"world", b"w")])
def test_a_changed_body_is_signed_again(body: bytes) -> None:
    """The filter changed the message, so that the signature is broken: a new one goes on top."""
    assert sign_once([*sign(keys=[RSA]), *FIELDS], body=body) == ["r1"]


def test_a_changed_header_is_signed_again() -> None:
    """As for the body."""
    fields = [field for field in FIELDS if field.name != b"Subject"]

    assert sign_once([*sign(keys=[RSA]), *fields]) == ["r1"]


@pytest.mark.parametrize(
    "forged",
    [
        HeaderField(b"DKIM-Signature", b" v=1; d=example.org; s=r1"),
        HeaderField(b"DKIM-Signature", b" d=example.org; s=r1; a=rsa-sha256; b=AAAA; bh=AAAA; h=from"),
        HeaderField(b"dkim-signature", b" nothing"),
        *sign(keys=[OTHERS]),
        *sign(keys=[replace(ED25519, selector=RSA.selector)]),
        *sign(keys=[RSA], body=b"another message\r\n"),
    ],
)
def test_a_forged_signature_does_not_keep_a_message_unsigned(forged: HeaderField) -> None:
    """Whoever writes our d= and s= into a field of his own does not go unsigned by that."""
    assert sign_once([forged, *FIELDS]) == ["r1"]


def test_a_real_signature_below_forged_ones_counts() -> None:
    """All of the topmost with our d= and s= are tried, within a bound."""
    forged, real = list(sign(keys=[OTHERS])), sign(keys=[RSA])

    assert sign_once([*forged * (MAX_VERIFIED - 1), *real, *FIELDS]) == []
    assert sign_once([*forged * MAX_VERIFIED, *real, *FIELDS]) == ["r1"]


def test_the_signature_of_another_domain_or_key_means_nothing() -> None:
    """Only d= and s= of a key that signs now are looked at."""
    theirs = sign(keys=[replace(RSA, domain=parse_domain("example.net")), ED25519])

    assert sign_once([*theirs, *FIELDS]) == ["r1"]


@pytest.mark.parametrize(("hours", "signs"), [(0, []), (2.9, []), (3.1, ["r1"]), (200, ["r1"])])
def test_an_expired_signature_is_made_anew(hours: float, signs: list[str]) -> None:
    """After x= others refuse it, without the hour of grace that we give to their clocks."""
    signed = sign(keys=[RSA], options=SigningOptions(valid_for=timedelta(hours=3)))

    assert sign_once([*signed, *FIELDS], now=NOW + timedelta(hours=hours)) == signs


def test_a_part_of_a_body_is_not_enough() -> None:
    """A signature with l= is none of ours, even if the key were."""
    (signed,) = sign(keys=[RSA], body=b"")
    partial = HeaderField(signed.name, signed.value.replace(b" h=", b" l=0; h=", 1))

    assert sign_once([partial, *FIELDS]) == ["r1"]


@settings(max_examples=30)
@given(st.lists(st.integers(0, len(BODY)), max_size=6), st.booleans())
def test_chunks_may_be_cut_anywhere(places: list[int], is_signed: bool) -> None:
    """Signing and looking at the signature that is there see the same body."""
    fields = [*sign(keys=[RSA]), *FIELDS] if is_signed else FIELDS

    assert sign_once(fields, places=places) == ([] if is_signed else ["r1"])
