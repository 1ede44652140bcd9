"""Encoded words (RFC 2047) as careless readers decode them."""

from __future__ import annotations

import codecs
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailreeve_milter.encoded_words import _CODECS, decode_words


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("nothing", "nothing"),
        ("", ""),
        ("=?utf-8?q?B=C3=B6b_B?=", "Böb B"),
        ("=?UTF-8?B?QsO2Yg==?=", "Böb"),
        ("=?UTF-8?b?QsO2Yg?=", "Böb"),
        ("=?UTF-8?b?Q sO*2Yg?=", "Böb"),
        ("=?utf-8?b?QQ==Qg==?=", "AB"),
        ("=?utf-8?b?QUJDR?=", "ABC"),
        ("a =?utf-8?q?b?= c", "a b c"),
        ("a=?utf-8?q?b?=c", "abc"),
        ("=?utf-8?q?a?= \t=?utf-8?q?b?=", "ab"),
        ("=?utf-8?q?a?= =?iso-8859-1?q?b?= c", "ab c"),
        ("=?utf-8?q?=C3?= =?utf-8?q?=B6?=", "ö"),
        ("=?utf-8*de?q?a?=", "a"),
        ("=?iso-8859-1?q?=F6=80?=", "ö\u20ac"),
        ("=?iso-2022-jp?b?GyRCOzNFREJATzobKEI=?=", "山田太郎"),
        ("=?gb2312?b?1cXI/Q==?=", "张三"),
        ("=?x-unheard-of?q?=F6?=", "ö"),
        ("=??q?a?=", "a"),
        ("=?utf-8?q?a?b?=", "a?b"),
        ("=?utf-8?q?a", "=?utf-8?q?a"),
        ("=?utf-8?x?a?=", "=?utf-8?x?a?="),
        ("=?=?utf-8?q?a?=", "=?a"),
        ("=?utf-8?q?=zz=4?=", "=zz=4"),
        ("=?utf-8?q?=FF?=", "\ufffd"),
    ],
)
def test_words_are_decoded_wherever_they_stand(text: str, shown: str) -> None:
    """Charset, encoding, joined words, and what is none or is broken."""
    assert decode_words(text) == shown


def test_every_charset_has_its_codec() -> None:
    """Each name in the table is one of Python's own codecs of text, and keeps the signs of an address."""
    for charset, codec in _CODECS.items():
        assert codecs.lookup(codec).name, charset
        assert "a@b.example" in decode_words(f"=?{charset}?q?{quoted('<a@b.example>', codec)}?=")


def quoted(text: str, codec: str) -> str:
    return "".join(f"={octet:02X}" for octet in text.encode(codec))


pieces = st.sampled_from(
    ["=?", "?=", "?", "q", "b", "utf-7", "utf-16", "hz", "=", "+AD", "=1B$", "A", " ", "\xfc"]
)


@given(st.lists(pieces, max_size=20).map("".join) | st.text(max_size=40))
def test_any_text_gives_a_text(text: str) -> None:
    """Nothing raises; without an encoded word nothing is changed."""
    shown = decode_words(text)

    assert "?=" in text or shown == text


@given(st.sampled_from(sorted(_CODECS)), st.binary(max_size=40))
def test_any_octets_give_a_text(charset: str, octets: bytes) -> None:
    """In every charset, whatever the octets are."""
    decode_words(f"=?{charset}?q?{''.join(f'={octet:02X}' for octet in octets)}?=")


@pytest.mark.parametrize(
    "sign", ["=?", "=?a?q?", "=?a?q? ", "=?utf-8?q?a?=", "=?a?q?=", "=?utf-7?q?+AD?= ", "?="]
)
def test_time_grows_with_the_text_alone(sign: str) -> None:
    """Hostile text as long as a From value may be takes milliseconds."""
    started = time.process_time()
    decode_words(sign * (16_384 // len(sign)))
    assert time.process_time() - started < 0.2
