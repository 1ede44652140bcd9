"""Forged Authentication-Results fields are found in every spelling."""

from __future__ import annotations

import encodings
import time
import unicodedata
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from mailreeve_milter.authclaim import MAX_HEAD_OCTETS, MAX_OCTETS, claims
from mailreeve_milter.authfield import format_field
from mailreeve_milter.author import extract_author
from mailreeve_milter.encoded_words import decode_words
from mailreeve_milter.message import HeaderField
from mailreeve_milter.message_bounds import MessageBounds
from mailreeve_policyd.authres import MethodResult

VECTORS = yaml.safe_load(
    (Path(__file__).parent.parent / "vectors" / "authfield" / "claims.yml").read_text("utf-8")
)
OURS = "mx.example.net"


@pytest.mark.parametrize("value", VECTORS["ours"])
def test_what_a_reader_may_take_for_ours_claims_to_be(value: str) -> None:
    """Case, comments, folds, quotes, versions, encoded words and hidden signs make no difference."""
    assert claims(value.encode(), OURS)


@pytest.mark.parametrize("value", VECTORS["foreign"])
def test_what_others_wrote_stays(value: str) -> None:
    """Longer and other names, and ours as a value of theirs, are no claim."""
    assert not claims(value.encode(), OURS)


@pytest.mark.parametrize(
    "authserv_id", [OURS, "mail", "xn--bcher-kva.example", "bücher.example", "our server (1)"]
)
def test_what_we_write_is_found_again(authserv_id: str) -> None:
    """Our own field claims to be ours, whatever the operator named us, in any case."""
    value = format_field(authserv_id, [MethodResult("spf", "pass")]).value

    assert claims(value, authserv_id)
    assert claims(value, authserv_id.upper())


def test_u_labels_and_a_labels_are_one_name() -> None:
    """A host with an international name is found in both of its forms."""
    for authserv_id in ("xn--bcher-kva.example", "bücher.example"):
        assert claims(" bücher.example; spf=pass".encode(), authserv_id)
        assert claims(b" xn--bcher-kva.example; spf=pass", authserv_id)


def test_a_value_longer_than_any_host_writes_is_forged() -> None:
    """Whoever it names: readers may give up on it, or cut it."""
    value = b" other.example.org; x=y (" + b"x" * MAX_OCTETS

    assert not claims(value[:MAX_OCTETS], OURS)
    assert claims(value, OURS)


@pytest.mark.parametrize(
    "start", [b" ", b" (a=b ", b' "a" (', b" other.example.org ", b" other.example.org; none ", b" \xc3\xbc "]
)
def test_a_value_whose_first_result_is_not_found_is_forged(start: bytes) -> None:
    """What is behind MAX_HEAD_OCTETS is not read, so that a result must begin before."""
    assert claims(start + b"x" * MAX_HEAD_OCTETS + b") mx.example.net; dkim=pass", OURS)


def test_every_sign_that_does_not_show_is_known() -> None:
    """Format characters and the ignorable ones, inside our name, do not hide it."""
    format_characters = {chr(code) for code in range(0x110000) if unicodedata.category(chr(code)) == "Cf"}
    # DerivedCoreProperties.txt, Default_Ignorable_Code_Point, those that are no Cf
    ignorable = "\u034f\u115f\u1160\u17b4\u17b5\u180b\u180d\u180f\u2065\u3164\ufe00\ufe0f\uffa0\ufff0\ufff8"
    ignorable += "\U000e0000\U000e0002\U000e0080\U000e0100\U000e01ef\U000e0fff"

    hidden = format_characters.union(ignorable)
    assert [sign for sign in hidden if not claims(f" m{sign}x.example.net; dkim=pass".encode(), OURS)] == []


@pytest.mark.parametrize("octet", [b"\xff", b"\xad", b"\xc3", b"\xed\xa0\x80"])
def test_octets_that_are_no_text_hide_nothing(octet: bytes) -> None:
    """Some readers leave out what they cannot decode."""
    assert claims(b" mx.exam" + octet + b"ple.net; dkim=pass", OURS)


PIECES = st.sampled_from(
    [*'()"\\;=. ', "\r\n ", "=?utf-8?q?", "?=", "\x00", "\xad", "mx", "example", "net", OURS]
)


@settings(max_examples=300, deadline=None)
@given(junk=st.lists(PIECES, max_size=10).map("".join), more=st.binary(max_size=30))
def test_any_octets_give_an_answer(junk: str, more: bytes) -> None:
    """Nothing raises; and whatever follows a plain claim does not unmake it."""
    claims(junk.encode() + more, OURS)
    assert claims(b" mx.example.net; " + junk.encode() + more, OURS)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.sampled_from([" ", "\t", "\r\n ", "(c)", '(a (b) \\) "= ;)']), max_size=4).map("".join),
    st.booleans(),
)
def test_space_and_comments_before_the_name_hide_nothing(before: str, quoted: bool) -> None:
    """CFWS of any kind, then the name, bare or quoted."""
    name = f'"{OURS}"' if quoted else OURS

    assert claims(f"{before}{name}; dkim=pass".encode(), OURS)


HOSTILE = [
    b"(",
    b"()",
    b"(a",
    b'"',
    b"\\",
    b"m ",
    b"i=1;",
    b"=?",
    b"mx.example.",
    b"\xe2\x80\x8b",
    b"\xff",
    b"\r",
]
# what grows most when it is normalized, and what has to be sorted
HOSTILE += ["\ufdfa".encode(), "\u0315\u0300\u0327".encode()]


@pytest.mark.parametrize("sign", HOSTILE)
def test_hostile_values_take_no_time(sign: bytes) -> None:
    """However long they are, of any sign: a megabyte of fields is judged in a small part of a second."""
    started = time.process_time()
    for _ in range(MessageBounds().results_read):
        claims(b" " + sign * (5000 // len(sign)), OURS)
    assert time.process_time() - started < 0.5


def test_charsets_of_a_forged_field_are_not_looked_up() -> None:
    """Python keeps each name that is no charset for ever, after a search for a module of that name."""
    value = b" ".join(b"=?x-unheard-of-%d?q?a?=" % number for number in range(1000))
    known = len(encodings._cache)  # what would grow

    claims(value, OURS)
    decode_words(value.decode())
    extract_author([HeaderField(b"From", b" " + value[:9000] + b" <bob@example.net>")])

    assert len(encodings._cache) == known
