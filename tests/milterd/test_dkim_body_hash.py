"""Digests of a body in several forms at once."""

import hashlib

from hypothesis import given
from hypothesis import strategies as st

from mailreeve_milter.dkim.body_hash import BodyForm, BodyHashes
from mailreeve_milter.dkim.canonical import Canonicalization
from tests.milterd.dkim_messages import cut

SIMPLE, RELAXED = Canonicalization.SIMPLE, Canonicalization.RELAXED


@given(st.lists(st.integers(0, 30), max_size=5), st.integers(0, 30))
def test_every_form_is_hashed_in_one_pass(ends: list[int], length: int) -> None:
    """Both canonical forms, whole and cut at l=, come from the same chunks, wherever those end."""
    body = b"a  b \r\n\r\nc\t\td\r\n\r\n"
    simple, relaxed = b"a  b \r\n\r\nc\t\td\r\n", b"a b\r\n\r\nc d\r\n"
    forms = [BodyForm(SIMPLE), BodyForm(RELAXED), BodyForm(RELAXED, length), BodyForm(SIMPLE, length)]
    hashes = BodyHashes(forms)
    for chunk in cut(body, ends):
        hashes.update(chunk)
    hashes.finish()

    expected = [simple, relaxed, relaxed[:length], simple[:length]]
    assert [hashes.of(form).digest for form in forms] == [hashlib.sha256(text).digest() for text in expected]
    assert [hashes.of(form).octets for form in forms] == [
        len(simple),
        len(relaxed),
        len(relaxed),
        len(simple),
    ]


def test_equal_forms_are_one() -> None:
    """Signatures that hash the same form share its digest."""
    hashes = BodyHashes([BodyForm(RELAXED, 3), BodyForm(RELAXED, 3), BodyForm(RELAXED)])

    assert hashes.of(BodyForm(RELAXED, 3)) is hashes.of(BodyForm(RELAXED, 3))
    assert hashes.of(BodyForm(RELAXED, 3)) is not hashes.of(BodyForm(RELAXED))


def test_without_forms_nothing_is_hashed() -> None:
    """A message without signatures costs nothing while its body comes."""
    hashes = BodyHashes([])
    hashes.update(b"x")
    hashes.finish()
