"""DMARC policy records: text to value (RFC 9989 sections 4.7 and 4.8)."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailreeve_milter.dmarc_record import MAX_RECORD_OCTETS, Disposition, DmarcRecord, parse_record


def parse(text: str) -> DmarcRecord:
    record = parse_record(text.encode())
    assert record is not None
    return record


OTHER_TEXTS = """
v=DMARC|v=DMARC11; p=none|v=dmarc1; p=none|v=DMARC1p=none|v=DMARC1 p=none|p=none; v=DMARC1| v=DMARC1; p=none
v=DMARC1, p=none|v==DMARC1; p=none|vv=DMARC1; p=none|v=DMARC1\x00; p=none|v=spf1 -all|v=DMARC1\v; p=none|
"""


@pytest.mark.parametrize("text", OTHER_TEXTS.replace("\n", "|").split("|"))
def test_only_the_exact_version_makes_a_record(text: str) -> None:
    """v=DMARC1 stands first and exactly; everything else is another text."""
    assert parse_record(text.encode()) is None


@pytest.mark.parametrize(
    "text",
    [
        "v=DMARC1;p=reject",
        "v=DMARC1; p=reject;",
        "v = DMARC1 ; p = reject ;",
        "V=DMARC1\t;\tP=REJECT",
        "v=DMARC1;;p=reject;;",
    ],
)
def test_space_case_and_empty_parts_do_not_matter(text: str) -> None:
    """Around signs there may be space; names and words have no case; empty parts are nothing."""
    assert parse(text) == DmarcRecord(p=Disposition.REJECT)


def test_every_tag_is_read() -> None:
    """All tags of the registry."""
    record = parse(
        "v=DMARC1; p=quarantine; sp=none; np=reject; adkim=s; aspf=s; psd=n; t=y; fo=1:d; "
        "rua=mailto:a@example.org,https://example.org/r; ruf=mailto:f@example.org"
    )

    assert record == DmarcRecord(
        p=Disposition.QUARANTINE,
        sp=Disposition.NONE,
        np=Disposition.REJECT,
        strict_dkim=True,
        strict_spf=True,
        psd=False,
        is_test=True,
        rua=("mailto:a@example.org", "https://example.org/r"),
        ruf=("mailto:f@example.org",),
        fo="1:d",
    )


def test_wrong_values_are_defaults() -> None:
    """A mistake in a tag other than p, sp and np is as if the tag were not there."""
    assert parse("v=DMARC1; p=reject; adkim=x; aspf=; psd=maybe; t=1; pct=0; =x; foo") == DmarcRecord(
        p=Disposition.REJECT
    )


def test_of_a_tag_that_stands_twice_the_first_holds() -> None:
    """A second p is a mistake in the rest of the record, and ignored."""
    assert parse("v=DMARC1; p=none; p=reject").p is Disposition.NONE


@pytest.mark.parametrize(
    ("rua", "expected"),
    [
        ("mailto:a@example.org!10m", ("mailto:a@example.org",)),
        ("mailto:a@example.org , mailto:b@example.org", ("mailto:a@example.org", "mailto:b@example.org")),
        ("a@example.org", ()),
        ("mailto:", ()),
        ("mailto:nobody", ()),
        ("MAILTO:a@example.org?subject=x", ("MAILTO:a@example.org?subject=x",)),
        ("mailto:a b@example.org", ()),
        (",,", ()),
    ],
)
def test_uris_are_checked_one_by_one(rua: str, expected: tuple[str, ...]) -> None:
    """What is no URI is dropped; a size limit is dropped from one (RFC 9990 appendix C)."""
    assert parse(f"v=DMARC1; p=none; rua={rua}").rua == expected


@pytest.mark.parametrize(
    ("text", "usable"),
    [
        ("v=DMARC1", False),
        ("v=DMARC1; p=x", False),
        ("v=DMARC1; p=x; rua=mailto:a@example.org", True),
        ("v=DMARC1; p=reject; sp=x", False),
        ("v=DMARC1; p=reject; np=x; rua=mailto:a@example.org", True),
    ],
)
def test_a_record_without_a_valid_policy_needs_somebody_to_tell(text: str, usable: bool) -> None:
    """Section 4.10.1: with a rua it counts as p=none, without one not at all."""
    record = parse(text)

    assert record.is_usable is usable
    assert record.disposition_itself() is Disposition.NONE
    assert record.disposition_below(exists=False) is Disposition.NONE


@settings(max_examples=300, deadline=None)
@given(text=st.binary(max_size=60))
def test_any_octets_are_a_record_or_none(text: bytes) -> None:
    """No text raises, and what follows the version never unmakes the record."""
    parse_record(text)
    assert parse_record(b"v=DMARC1;" + text) is not None


def test_reading_takes_no_time_for_hostile_text() -> None:
    """Long runs of any sign are read at once; what is too long is no record."""
    started = time.monotonic()
    for sign in (b" ", b";", b"=", b"a", b",", b"a=b;", b"\t;", b"p=  ", b"rua=mailto:@,"):
        text = b"v=DMARC1; rua=" + sign * ((MAX_RECORD_OCTETS - 20) // len(sign))
        assert parse_record(text) is not None
    assert time.monotonic() - started < 1
    assert parse_record(b"v=DMARC1; p=reject;" + b" " * MAX_RECORD_OCTETS) is None
