"""Canonical forms (RFC 6376 section 3.4), with dkimpy's whole-body canonicalization as the oracle."""

from collections.abc import Callable

import pytest
from dkim.canonicalization import Relaxed, Simple
from hypothesis import given
from hypothesis import strategies as st

from mailreeve_milter.dkim.canonical import (
    MAX_EMPTY_LINES_AT_ONCE,
    Canonicalization,
    body_canonicalizer,
    canonical_field,
)
from mailreeve_milter.message import HeaderField
from tests.milterd.dkim_messages import cut

ORACLES: dict[Canonicalization, Callable[[bytes], bytes]] = {
    Canonicalization.SIMPLE: Simple.canonicalize_body,
    Canonicalization.RELAXED: Relaxed.canonicalize_body,
}

# what the algorithms look at, and one octet that they do not
awkward_bodies = st.lists(st.sampled_from([b"\r\n", b"\r", b"\n", b" ", b"\t", b"x", b"  \t \r\n"])).map(
    b"".join
)
bodies = awkward_bodies | st.binary(max_size=200)
places = st.lists(st.integers(0, 200), max_size=12)


def canonical_body(body: bytes, canonicalization: Canonicalization, ends: list[int]) -> bytes:
    pieces: list[bytes] = []
    canonicalizer = body_canonicalizer(canonicalization, pieces.append)
    for chunk in cut(body, ends):
        canonicalizer.update(chunk)
    canonicalizer.finish()
    return b"".join(pieces)


def expected_body(body: bytes, canonicalization: Canonicalization) -> bytes:
    """The oracle's answer; a last line without CRLF is given one first, as any transport would.

    That changes the oracle's answer only where such a line ends in white space, which it keeps.
    """
    ends_well = not body or body.endswith(b"\r\n")
    return ORACLES[canonicalization](body if ends_well else body + b"\r\n")


@given(bodies, places)
def test_simple_body_is_the_same_however_it_is_cut(body: bytes, ends: list[int]) -> None:
    """Any body in any chunks has the simple form that dkimpy gives the whole of it."""
    assert canonical_body(body, Canonicalization.SIMPLE, ends) == expected_body(body, Canonicalization.SIMPLE)


@given(bodies, places)
def test_relaxed_body_is_the_same_however_it_is_cut(body: bytes, ends: list[int]) -> None:
    """Any body in any chunks has the relaxed form that dkimpy gives the whole of it."""
    assert canonical_body(body, Canonicalization.RELAXED, ends) == expected_body(
        body, Canonicalization.RELAXED
    )


@given(awkward_bodies)
def test_octet_by_octet_is_no_different(body: bytes) -> None:
    """The worst chunking, one octet each, gives both forms."""
    for canonicalization in Canonicalization:
        ends = list(range(len(body)))
        assert canonical_body(body, canonicalization, ends) == expected_body(body, canonicalization)


@pytest.mark.parametrize(
    ("body", "simple", "relaxed"),
    [
        (b"", b"\r\n", b""),
        (b"\r\n", b"\r\n", b""),
        (b"\r\n\r\n", b"\r\n", b""),
        (b" \r\n\t\r\n", b" \r\n\t\r\n", b""),
        (b"x", b"x\r\n", b"x\r\n"),
        (b"x \t", b"x \t\r\n", b"x\r\n"),
        (b" C \r\nD \t E\r\n\r\n\r\n", b" C \r\nD \t E\r\n", b" C\r\nD E\r\n"),  # RFC 6376 section 3.4.5
        (b"a\r\r\nb\n\r\n", b"a\r\r\nb\n\r\n", b"a\r\r\nb\n\r\n"),
        (b"a \rb", b"a \rb\r\n", b"a \rb\r\n"),
        (b"a\r", b"a\r\r\n", b"a\r\r\n"),
        (b"\0\xff\r\n", b"\0\xff\r\n", b"\0\xff\r\n"),
    ],
)
def test_body_examples(body: bytes, simple: bytes, relaxed: bytes) -> None:
    """The edges of both body forms: nothing, empty lines, no last CRLF, bare CR and LF, any octet."""
    assert canonical_body(body, Canonicalization.SIMPLE, []) == simple
    assert canonical_body(body, Canonicalization.RELAXED, []) == relaxed


@pytest.mark.parametrize("canonicalization", list(Canonicalization))
def test_what_is_held_back_is_bounded(canonicalization: Canonicalization) -> None:
    """Megabytes of empty lines and spaces are counted, not kept, and given on in bounded pieces."""
    pieces: list[bytes] = []
    canonicalizer = body_canonicalizer(canonicalization, pieces.append)
    for _ in range(64):
        canonicalizer.update(b"\r\n" * 20_000)
        canonicalizer.update(b" " * 40_000 if canonicalization is Canonicalization.RELAXED else b"")
    canonicalizer.update(b"\r\nx")
    canonicalizer.finish()

    assert max(map(len, pieces)) <= 2 * MAX_EMPTY_LINES_AT_ONCE
    assert b"".join(pieces) == b"\r\n" * (64 * 20_000 + 1) + b"x\r\n"


field_values = st.lists(
    st.sampled_from([b"\r\n ", b"\r\n\t", b" ", b"\t", b"a", b":", b"\xc3\xbc", b"\xff"]), max_size=20
).map(b"".join)


@given(field_values)
def test_relaxed_field_is_what_dkimpy_makes_of_it(value: bytes) -> None:
    """Folds and white space anywhere give the relaxed form of section 3.4.2."""
    field = HeaderField(b"SubJect", value)
    ((name, expected),) = Relaxed.canonicalize_headers([(b"SubJect", value + b"\r\n")])

    assert canonical_field(field, Canonicalization.RELAXED) == name + b":" + expected


def test_relaxed_field_keeps_what_is_no_white_space() -> None:
    """VT and FF at the ends of a value are text (WSP is SP and HTAB), which dkimpy would strip."""
    field = HeaderField(b"Subject", b"\x0c \x0bx \x0b\t")

    assert canonical_field(field, Canonicalization.RELAXED) == b"subject:\x0c \x0bx \x0b\r\n"


def test_relaxed_field_drops_the_space_before_the_colon() -> None:
    """White space may stand before the colon (RFC 5322 section 4.5); it is no part of the name."""
    assert canonical_field(HeaderField(b"To \t", b" x"), Canonicalization.RELAXED) == b"to:x\r\n"


def test_simple_field_is_the_field() -> None:
    """No octet of a simple field is touched."""
    assert (
        canonical_field(HeaderField(b"To \t", b"x\r\n\t y "), Canonicalization.SIMPLE)
        == b"To \t:x\r\n\t y \r\n"
    )
