"""The choice of signed fields (RFC 6376 section 5.4.2), with dkimpy's as the oracle."""

import dkim
from hypothesis import given
from hypothesis import strategies as st

from mailreeve_milter.dkim.canonical import Canonicalization
from mailreeve_milter.dkim.header_hash import SignedHeader
from mailreeve_milter.message import HeaderField

names = st.lists(st.sampled_from([b"From", b"to", b"RECEIVED", b"x-a"]), max_size=12)


@given(names, names)
def test_selection_is_dkimpys(present: list[bytes], asked: list[bytes]) -> None:
    """Whatever is there and whatever h= names, the same fields are chosen in the same order, bottom up."""
    fields = [HeaderField(name, b" %d" % place) for place, name in enumerate(present)]
    asked = [name.lower() for name in asked]

    selected = SignedHeader(fields).select(asked)

    expected = dkim.select_headers([(field.name, field.value) for field in fields], asked)
    assert [fields[place].value for place in selected] == [value for _, value in expected]


def test_a_signature_never_covers_itself() -> None:
    """h= may name DKIM-Signature; the one that is verified is skipped, others count (section 3.7)."""
    fields = [HeaderField(b"DKIM-Signature", b" ours"), HeaderField(b"DKIM-Signature", b" theirs")]

    assert SignedHeader(fields).select([b"dkim-signature"] * 2, leave_out=1) == [0]


def test_a_name_with_space_behind_is_found() -> None:
    """A field written `To :` is the field To."""
    header = SignedHeader([HeaderField(b"To ", b" x")])

    assert header.select([b"to"]) == [0]
    assert header.count(b"to") == 1


def test_missing_fields_change_nothing() -> None:
    """A name beyond the existing fields is the null string, so the digest is the same (section 5.4)."""
    header = SignedHeader([HeaderField(b"From", b" a@example.org")])
    signature = HeaderField(b"DKIM-Signature", b" b=")

    once = header.digest([b"from"], Canonicalization.RELAXED, signature)

    assert once == header.digest([b"from", b"from", b"to"], Canonicalization.RELAXED, signature)
    assert once != header.digest([b"from"], Canonicalization.SIMPLE, signature)
