"""A message from a file is cut as an MTA cuts it: checked against the tests' own MTA."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailreeve_milter import replay
from tests.milterd import miltertalk

PIECES = st.sampled_from(
    [b"From: a", b"X : b", b" folded", b"\t", b"no field", b"", b"a:b:c", b"X-\xe4: y", b":", b"x\ry", b"Y:"]
)


@given(st.lists(PIECES, max_size=8), st.booleans())
@settings(max_examples=200, deadline=None)
def test_it_is_cut_as_an_mta_cuts_it(lines: list[bytes], ends: bool) -> None:
    """Whatever lines come, fields and body are those of an independent reading."""
    raw = b"\r\n".join(lines) + (b"\r\n" if ends else b"")
    assert replay.split_message(raw) == miltertalk.split_message(raw)


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n"])
def test_line_ends_of_files_become_those_of_the_wire(line_end: bytes) -> None:
    """A file has LF, a message CRLF."""
    raw = line_end.join([b"A: 1", b" 2", b"", b"body", b""])
    assert replay.split_message(raw) == ([(b"A", b" 1\r\n 2")], b"body\r\n")
