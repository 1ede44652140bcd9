"""Tag lists (RFC 6376 section 3.2)."""

import base64

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mailreeve_milter.dkim.taglist import MAX_OCTETS, MAX_TAGS, parse_base64, parse_tag_list
from mailreeve_policyd.errors import ProtocolError


@pytest.mark.parametrize(
    ("raw", "tags"),
    [
        (b"v=1;a=b", {"v": "1", "a": "b"}),
        (b" v = 1 ;\r\n\ta=x=y ;\t", {"v": "1", "a": "x=y"}),
        (b"p=", {"p": ""}),
        (b"V=1; v=2", {"V": "1", "v": "2"}),
        (b"n=two  words; d=\xc3\xbc", {"n": "two  words", "d": "ü"}),
        (b"h=from :\r\n to", {"h": "from : to"}),
    ],
)
def test_tags_are_read(raw: bytes, tags: dict[str, str]) -> None:
    """White space around names and values goes, folds go, names have case, the last semicolon is free."""
    assert parse_tag_list(raw) == tags


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b";",
        b"v=1;;a=b",
        b"v",
        b"=1",
        b"1v=1",
        b"v v=1",
        b"v-a=1",
        b"v=1; v=1",
        b"d=a\0b",
        b"d=a\x0b",
        b"d=a\nb",
        b"d=a\rb",
        b"d=\x7f",
        b"z=" + b"x" * MAX_OCTETS,
        b";".join(b"t%d=" % number for number in range(MAX_TAGS + 2)),
    ],
)
def test_what_is_no_tag_list_is_refused(raw: bytes) -> None:
    """Empty and doubled tags, names that are none, control characters and excess are a peer's mistake."""
    with pytest.raises(ProtocolError):
        parse_tag_list(raw)


@given(
    st.binary(max_size=300)
    | st.lists(st.sampled_from([b"a", b"=", b";", b" ", b"\r\n", b"\0"])).map(b"".join)
)
@example(b"\xff=1")
def test_any_octets_are_a_list_or_a_mistake(raw: bytes) -> None:
    """No octets raise anything but ProtocolError."""
    try:
        parse_tag_list(raw)
    except ProtocolError:
        return


@given(st.binary(max_size=50))
def test_base64_in_any_folding(octets: bytes) -> None:
    """White space inside means nothing, and padding may be missing."""
    text = base64.b64encode(octets).decode()

    assert parse_base64(" ".join(text)) == octets
    assert parse_base64(text.rstrip("=")) == octets


@pytest.mark.parametrize("text", ["*", "AA=A", "A", "AAAAA", "ü", "AA==="])
def test_what_is_no_base64_is_refused(text: str) -> None:
    """Other characters, padding inside and impossible lengths are refused."""
    with pytest.raises(ProtocolError):
        parse_base64(text)
