"""The DKIM-Signature field; its rules are in the vectors, here are its value and its edges."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailreeve_milter.dkim.body_hash import BodyForm
from mailreeve_milter.dkim.canonical import Canonicalization
from mailreeve_milter.dkim.signature import (
    Algorithm,
    format_properties,
    parse_signature,
    without_signature_value,
)
from mailreeve_milter.dkim.taglist import parse_tag_list
from mailreeve_policyd.errors import ProtocolError

WELL_FORMED = (
    b"v=1; a=rsa-sha256; d=Example.ORG; s=s1; c=relaxed; l=7; t=5; x=9; i=bob@a.example.org; "
    b"h=From : TO; bh=47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=; b=AA AA"
)


def test_a_signature_is_read() -> None:
    """Every tag that matters ends up in the value, names and domains in lower case."""
    signature = parse_signature(parse_tag_list(WELL_FORMED))

    assert signature.algorithm is Algorithm.RSA_SHA256
    assert signature.signature == b"\0\0\0"
    assert len(signature.body_hash) == 32
    assert signature.header_canonicalization is Canonicalization.RELAXED
    assert signature.body_form == BodyForm(Canonicalization.SIMPLE, 7)
    assert (signature.domain, signature.selector) == ("example.org", "s1")
    assert signature.identity_domain == "a.example.org"
    assert signature.signed_names == (b"from", b"to")
    assert (signature.signed_at, signature.expires_at) == (5, 9)
    assert signature.key_name == "s1._domainkey.example.org"


def test_what_differs_between_two_messages_is_not_remembered() -> None:
    """Two signatures of one sender share what is constant; the rest is each one's own."""
    first = parse_signature(parse_tag_list(WELL_FORMED))
    changed = {"i": "@example.org", "l": "8", "t": "6", "x": "7", "b": "AQID", "bh": "A" * 43 + "="}
    second = parse_signature({**parse_tag_list(WELL_FORMED), **changed})

    assert second.signed_names is first.signed_names
    assert second.identity_domain == "example.org"
    assert second.body_form == BodyForm(Canonicalization.SIMPLE, 8)
    assert (second.signed_at, second.expires_at) == (6, 7)
    assert (second.signature, second.body_hash) == (b"\1\2\3", bytes(32))
    assert parse_signature(parse_tag_list(WELL_FORMED)) == first


@pytest.mark.parametrize("tag", ["v", "a", "c", "d", "s", "q", "h"])
def test_every_constant_tag_is_looked_at_each_time(tag: str) -> None:
    """A signature that was good a moment ago is refused with one wrong tag."""
    tags = parse_tag_list(WELL_FORMED)
    parse_signature(tags)

    with pytest.raises(ProtocolError):
        parse_signature({**tags, tag: "wrong;"})


def test_the_key_name_must_fit_into_dns() -> None:
    """d= and s= that are names each but too long together are refused before DNS is asked."""
    long = ".".join(["x" * 60] * 3).encode()
    raw = WELL_FORMED.replace(b"Example.ORG", long + b".org").replace(b"s=s1", b"s=" + long)
    raw = raw.replace(b"i=bob@a.example.org; ", b"")

    with pytest.raises(ProtocolError):
        parse_signature(parse_tag_list(raw))


def test_properties_hold_no_value_that_is_malformed() -> None:
    """What is shown of a bad signature cannot carry more than a word, a name or base64."""
    tags = parse_tag_list(b'd=ex ample.org; s="; a=x; dkim=pass; i=a b@example.org; b=not/base64*')

    assert format_properties(tags, 8) == {"header.a": "x"}


def test_properties_are_in_the_order_in_which_they_are_written() -> None:
    """Domain and identity, selector, algorithm, and as much of b= as is asked for."""
    shown = format_properties(parse_tag_list(WELL_FORMED.replace(b"AA AA", b"abcd efgh ijkl")), 8)

    assert list(shown.items()) == [
        ("header.d", "example.org"),
        ("header.i", "bob@a.example.org"),
        ("header.s", "s1"),
        ("header.a", "rsa-sha256"),
        ("header.b", "abcdefgh"),
    ]


@pytest.mark.parametrize(
    ("value", "emptied"),
    [
        (b" a=1; b=xx\r\n\tyy; c=2", b" a=1; b=; c=2"),
        (b" a=1;\r\n b = xx ", b" a=1;\r\n b ="),
        (b" bh=zz; b=xx;", b" bh=zz; b=;"),
        (b" z=Subject: b=1; b=xx", b" z=Subject: b=1; b="),
        (b" b", b" b"),
    ],
)
def test_the_signatures_own_value_is_emptied(value: bytes, emptied: bytes) -> None:
    """All behind `b=` up to the semicolon goes, and nothing else does (section 3.7)."""
    assert without_signature_value(value) == emptied


texts = st.text(max_size=20) | st.sampled_from(
    ["1", "example.org", "a@example.org", "from", "rsa-sha256", "AAAA"]
)


@given(
    st.dictionaries(
        st.sampled_from(["v", "a", "b", "bh", "c", "d", "h", "i", "l", "q", "s", "t", "x"]), texts
    )
)
def test_any_tags_are_a_signature_or_a_mistake(tags: dict[str, str]) -> None:
    """No values raise anything but ProtocolError, and what is shown of them is always well-formed."""
    shown = format_properties(tags, 8)
    assert all(value.isprintable() and " " not in value for value in shown.values())
    try:
        parse_signature(tags)
    except ProtocolError:
        return
