"""Header fields as an MTA gives them to a milter."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailreeve_milter.message import HeaderField, field_from_milter, unfold

# Postfix and Sendmail give folds as LF, others as CRLF
FOLDS = [
    (b" a", b" a"),
    (b" a\n b", b" a\r\n b"),
    (b" a\n\tb\r\n c", b" a\r\n\tb\r\n c"),
    (b"\n \n\t", b"\r\n \r\n\t"),
    (b" a\nb", b" a\nb"),
    (b" a\r\nb", b" a\r\nb"),
    (b" a\rb", b" a\rb"),
    (b" a\r b", b" a\r b"),
    (b" a\r\r\n b", b" a\r\r\n b"),
    (b" a\n\n b", b" a\n\r\n b"),
    (b" a\n", b" a\n"),
]


@pytest.mark.parametrize(("given_value", "value"), FOLDS)
def test_folds_become_crlf_and_nothing_else_does(given_value: bytes, value: bytes) -> None:
    """LF or CRLF before white space is a fold; any other CR or LF is kept as it came."""
    assert field_from_milter(b"To", given_value) == HeaderField(b"To", value)


@pytest.mark.parametrize(
    ("value", "unfolded"),
    [
        (b" a\r\n b", b"a b"),
        (b"\r\n\ta\r\n  b\t", b"a  b"),
        (b" a\r\nb", b"a\r\nb"),
        (b" a\nb\rc", b"a\nb\rc"),
        (b" a\r\r\n b", b"a\r b"),
        (b" a\r\n", b"a\r\n"),
    ],
)
def test_unfolding_takes_folds_alone(value: bytes, unfolded: bytes) -> None:
    """The CRLF of a fold goes; what is no fold stays."""
    assert HeaderField(b"To", value).unfolded == unfolded


values = st.lists(st.sampled_from([b"\r", b"\n", b" ", b"\t", b"x"]), max_size=12).map(b"".join)


@given(values)
def test_any_arrangement_of_line_ends(value: bytes) -> None:
    """The grammar's pattern says the same; what was given as CRLF already is not changed again."""
    field = field_from_milter(b"To", value)

    assert field.value == re.sub(rb"\r?\n(?=[ \t])", b"\r\n", value)
    assert unfold(field.value) == re.sub(rb"\r\n(?=[ \t])", b"", field.value)
    assert field_from_milter(b"To", field.value) == field
