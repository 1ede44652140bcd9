"""A body has the same canonical form and digest however it is cut: RFC 6376 section 3.4 done naively."""

import re
from collections.abc import Iterable
from hashlib import sha256

from mailreeve_milter.dkim.body_hash import BodyForm, BodyHashes
from mailreeve_milter.dkim.canonical import Canonicalization, body_canonicalizer
from tests.fuzz.pieces import cut

WORDS = (b"\r\n", b"\r\n\r\n", b"\r", b"\n", b" \r\n", b"\t", b"  ")

_LENGTH = 7
_WSP = re.compile(rb"[ \t]+")
_LINE_END_SPACE = re.compile(rb"[ \t]+(?=\r\n)")
_LAST_EMPTY_LINES = re.compile(rb"(?:\r\n)+\Z")


def check(data: bytes) -> None:
    """See the module."""
    forms = [BodyForm(way, length) for way in Canonicalization for length in (None, _LENGTH)]
    whole, in_pieces = _digests(forms, [data]), _digests(forms, cut(data))
    assert whole == in_pieces
    for way in Canonicalization:
        naive = _naive(data, way)
        assert _canonical([data], way) == _canonical(cut(data), way) == naive
        assert sha256(naive).digest() == whole[BodyForm(way)]
        assert sha256(naive[:_LENGTH]).digest() == whole[BodyForm(way, _LENGTH)]


def _digests(forms: Iterable[BodyForm], chunks: Iterable[bytes]) -> dict[BodyForm, bytes]:
    bodies = BodyHashes(forms)
    for chunk in chunks:
        bodies.update(chunk)
    bodies.finish()
    return {form: bodies.of(form).digest for form in forms}


def _canonical(chunks: Iterable[bytes], way: Canonicalization) -> bytes:
    made: list[bytes] = []
    canonicalizer = body_canonicalizer(way, made.append)
    for chunk in chunks:
        canonicalizer.update(chunk)
    canonicalizer.finish()
    return b"".join(made)


def _naive(body: bytes, way: Canonicalization) -> bytes:
    if way is Canonicalization.RELAXED:
        body = _WSP.sub(b" ", _LINE_END_SPACE.sub(b"", body)).removesuffix(b" ")
    body = _LAST_EMPTY_LINES.sub(b"", body)
    return body + b"\r\n" if body or way is Canonicalization.SIMPLE else b""
