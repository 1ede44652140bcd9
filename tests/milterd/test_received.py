"""Received fields of every MTA, and of those who would like to be one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from mailreeve_milter.received import MAX_OCTETS, parse_received

FILE = Path(__file__).parent.parent / "vectors" / "received" / "received.yml"
CASES: list[dict[str, Any]] = yaml.safe_load(FILE.read_text("utf-8"))


@pytest.mark.parametrize("case", CASES, ids=[case["mta"] for case in CASES])
def test_the_client_of_a_field(case: dict[str, Any]) -> None:
    """Address, HELO and verified name as the vector has them, folded or not; or no clear reading."""
    value = b" " + case["value"].encode().replace(b"\n", b"\r\n")
    for octets in (value, value.replace(b"\r\n", b""), value.replace(b"\r\n\t", b"\r\n \t ")):
        found = parse_received(octets)
        if "address" not in case:
            assert found is None
            continue
        assert found is not None
        assert str(found.address) == case["address"]
        assert found.helo_name == case.get("helo")
        assert found.client_name == case.get("name")


def test_a_field_is_read_within_bounds() -> None:
    """A longer value, and comments in comments without number, have no reading."""
    plain = b" from x (y [192.0.2.5]) by z (Postfix) with SMTP id 1"
    deep = b" from x " + b"(" * 50 + b")" * 50 + b" (y [192.0.2.5]) by z"

    assert parse_received(plain) is not None
    assert parse_received(plain + b" " * MAX_OCTETS) is None
    assert parse_received(deep) is None


PIECES = st.sampled_from(
    [
        "from ",
        "by ",
        "(",
        ")",
        "[192.0.2.5]",
        "192.0.2.5",
        "helo=",
        "x",
        " ",
        "Exim",
        "Postfix",
        "HELO ",
        '"',
        "\\",
    ]
)


@settings(max_examples=200, deadline=None)
@given(
    st.one_of(
        st.binary(max_size=80), st.lists(PIECES, max_size=16).map(lambda found: "".join(found).encode())
    )
)
def test_any_octets_have_a_reading_or_none(value: bytes) -> None:
    """Nothing is raised."""
    found = parse_received(value)
    assert found is None or found.address is not None
