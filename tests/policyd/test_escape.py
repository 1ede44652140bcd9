"""How text from the wire is shown."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailreeve_policyd.escape import decode_wire, encode_wire, escape, escape_ascii


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        (b"bob@example.org", "bob@example.org"),
        (b"a\r\nb", "a\\x0d\\x0ab"),
        (b"\x1b[31m", "\\x1b[31m"),
        (b"\x00", "\\x00"),
        (b"caf\xc3\xa9", "caf\u00e9"),
        (b"caf\xe9", "caf\\xe9"),
        (b"\\x41", "\\\\x41"),
        ("\u2028\u202e".encode(), "\\u2028\\u202e"),
    ],
)
def test_what_does_not_print_is_spelt_out(raw: bytes, shown: str) -> None:
    """Controls, line separators, direction marks and lone bytes never reach a reader as they are."""
    assert escape(decode_wire(raw)) == shown


@given(st.binary(max_size=64))
def test_bytes_survive_decoding(raw: bytes) -> None:
    """Two different byte strings are two different texts: keys stay distinct."""
    assert encode_wire(decode_wire(raw)) == raw


@given(st.binary(max_size=400), st.integers(min_value=3, max_value=300))
def test_what_is_shown_is_bounded_and_prints(raw: bytes, limit: int) -> None:
    """Whatever the wire sent, and whatever the bound."""
    for shown in (escape(decode_wire(raw), limit), escape_ascii(decode_wire(raw), limit)):
        assert len(shown) <= limit
        assert shown.isprintable()
    assert escape_ascii(decode_wire(raw), limit).isascii()


def test_what_is_cut_says_so() -> None:
    """Three dots stand where text was cut, and only there."""
    assert escape("x" * 10, 10) == "x" * 10
    assert escape("x" * 11, 10) == "x" * 7 + "..."
