"""Forged Authentication-Results fields are found in every spelling."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from mailreeve_milter.authclaim import MAX_READ_OCTETS, claims
from mailreeve_milter.authfield import format_field
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


def test_a_value_too_long_to_read_is_forged_if_it_names_us() -> None:
    """Wherever the name stands."""
    padding = b" (" + b"x" * MAX_READ_OCTETS + b") "

    assert claims(b" other.example.org; x=y" + padding + b"mx.example.net", OURS)
    assert not claims(b" other.example.org; x=y" + padding, OURS)


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


def test_hostile_values_take_no_time() -> None:
    """Values as long as are read, of any sign, are judged at once."""
    started = time.monotonic()
    for sign in (b"(", b"()", b'"', b"\\", b"m ", b"=?", b"=?utf-8?q?a?= ", b"\xe2\x80\x8b", b"mx.example."):
        claims(sign * (MAX_READ_OCTETS // len(sign)), OURS)
    assert time.monotonic() - started < 2
