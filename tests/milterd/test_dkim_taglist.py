"""Tag lists (RFC 6376 section 3.2)."""

import base64
import re

import pytest
from dkim.util import InvalidTagValueList, parse_tag_value
from hypothesis import example, given
from hypothesis import strategies as st

from mailreeve_milter.dkim.taglist import MAX_OCTETS, MAX_TAGS, parse_base64, parse_tag_list
from mailreeve_milter.message import unfold
from mailreeve_policyd.errors import ProtocolError
from mailreeve_policyd.escape import decode_wire


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


def dkimpys_tags(raw: bytes) -> dict[str, str] | None:
    """What dkimpy reads, but for what its loose grammar takes for a name or strips with the white space."""
    unfolded = unfold(raw)
    if re.search(rb"[\x00-\x08\x0a-\x1f\x7f]", unfolded):
        return None
    try:
        tags: dict[bytes, bytes] = parse_tag_value(unfolded)
    except InvalidTagValueList:
        return None
    if not tags or not all(re.fullmatch(rb"[A-Za-z][A-Za-z0-9_]*", name) for name in tags):
        return None
    return {name.decode(): decode_wire(value) for name, value in tags.items()}


pieces = [
    b"v",
    b"bh",
    b"1",
    b"_",
    b"-",
    b"=",
    b"==",
    b";",
    b"; ",
    b" ",
    b"\t",
    b"\r\n ",
    b"\xc3\xbc",
    b"\xff",
    b"\r",
]


@given(st.lists(st.sampled_from(pieces), max_size=14).map(b"".join))
def test_tags_are_dkimpys(raw: bytes) -> None:
    """Where dkimpy keeps to the grammar, the same lists are read, to the same tags in the same order."""
    try:
        read = list(parse_tag_list(raw).items())
    except ProtocolError:
        read = None

    expected = dkimpys_tags(raw)
    assert read == (None if expected is None else list(expected.items()))


@given(st.binary(max_size=50))
def test_base64_in_any_folding(octets: bytes) -> None:
    """White space inside means nothing, and padding may be missing."""
    text = base64.b64encode(octets).decode()

    assert parse_base64(" ".join(text)) == octets
    assert parse_base64(text.rstrip("=")) == octets


@pytest.mark.parametrize("text", ["*", "AA=A", "A", "AAAAA", "ü", "AA===", "=AAA", "AAAA\n", "AA-A"])
def test_what_is_no_base64_is_refused(text: str) -> None:
    """Other characters, padding inside and impossible lengths are refused."""
    with pytest.raises(ProtocolError):
        parse_base64(text)


@given(st.text(st.sampled_from("AZaz09+/= \t*-ü\n"), max_size=12))
def test_base64_is_what_its_grammar_says(text: str) -> None:
    """base64string is ALPHA / DIGIT / "+" / "/" / [FWS], then up to two "=", in groups of four (2.10)."""
    digits = re.fullmatch(r"([A-Za-z0-9+/]*)={0,2}", text.replace(" ", "").replace("\t", ""))
    try:
        octets = parse_base64(text)
    except ProtocolError:
        assert digits is None or len(digits[1]) % 4 == 1
        return

    assert digits is not None
    assert len(octets) == len(digits[1]) * 3 // 4
