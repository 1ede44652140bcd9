"""Verification of a whole message: choice, bounds, memory, hostile input. Its rules are in the vectors."""

import tracemalloc
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailreeve_milter.dkim import SigningKey, start_signing, start_verification
from mailreeve_milter.dkim.crypto import generate_ed25519_key
from mailreeve_milter.dkim.key_record import format_key_record
from mailreeve_milter.dkim.verify import MAX_SIGNATURES_READ
from mailreeve_milter.message import HeaderField
from mailreeve_policyd.resolver import ZoneResolver
from mailreeve_policyd.smtp import parse_domain
from tests.milterd.dkim_messages import NOW

KEY = generate_ed25519_key()
ORG, NET = parse_domain("example.org"), parse_domain("example.net")
SUBDOMAIN = parse_domain("mail.example.org")
SELECTOR = parse_domain("e1")
ZONE = ZoneResolver(
    {f"e1._domainkey.{domain}": {"TXT": [format_key_record(KEY)]} for domain in (ORG, NET, SUBDOMAIN)}
)
FROM = HeaderField(b"From", b" alice@example.org")
BODY = b"Hello\r\n"


def signed_by(*domains: str, body: bytes = BODY) -> list[HeaderField]:
    """A message's fields with a signature of each domain, the first one on top."""
    keys = [SigningKey(parse_domain(domain), SELECTOR, KEY) for domain in domains]
    signing = start_signing([FROM], keys)
    signing.update(body)
    return [*signing.finish(NOW), FROM]


def results(fields: list[HeaderField], author: str | None, maximum: int) -> list[tuple[str, str | None]]:
    verification = start_verification(fields, parse_domain(author) if author else None, maximum)
    verification.update(BODY)
    return [(outcome.result.result, outcome.domain) for outcome in verification.finish(ZONE, NOW)]


def test_unsigned_mail_has_no_outcome() -> None:
    """Without a signature there is nothing to say here, and nothing is asked."""
    resolver = ZoneResolver("")
    verification = start_verification([FROM], ORG, 8)
    verification.update(BODY)

    assert verification.finish(resolver, NOW) == ()
    assert resolver.queries == []


def test_a_name_with_space_behind_is_no_signature() -> None:
    """`DKIM-Signature :` is left to those who read obsolete syntax (RFC 5322 section 4.5.8)."""
    signature, author = signed_by("example.org")

    assert results([HeaderField(signature.name + b" ", signature.value), author], "example.org", 8) == []


def test_the_authors_domain_comes_first() -> None:
    """With room for one signature it is the author's own, then one of a domain above or below it."""
    fields = signed_by("example.net", "mail.example.org", "example.org")

    assert results(fields, "example.org", 1) == [("pass", ORG), ("policy", None)]
    assert results(fields, "example.org", 2) == [("pass", SUBDOMAIN), ("pass", ORG), ("policy", None)]
    assert results(fields, None, 1) == [("pass", NET), ("policy", None)]


def test_what_is_malformed_does_not_take_a_place() -> None:
    """Garbage above a good signature is verified last."""
    fields = [HeaderField(b"DKIM-Signature", b" garbage"), *signed_by("example.net")]

    assert results(fields, "example.org", 1) == [("pass", NET), ("policy", None)]
    assert results(fields, "example.org", 2) == [("permerror", None), ("pass", NET)]


def test_signatures_beyond_the_bound_are_neither_asked_nor_hidden() -> None:
    """A thousand signatures cost as many questions as are allowed, and one note says how many were left."""
    signature, author = signed_by("example.org")
    fields = [signature] * 1000 + [author]
    resolver = ZoneResolver({"e1._domainkey.example.org": {"TXT": [format_key_record(KEY)]}})
    verification = start_verification(fields, ORG, 8)
    verification.update(BODY)

    outcomes = verification.finish(resolver, NOW)

    assert len(resolver.queries) == 8
    assert len(outcomes) == 9
    assert outcomes[-1].result.reason == "992 more signatures were not verified: 8 are enough for one message"
    assert not outcomes[-1].counts


def test_only_so_many_signatures_are_read_at_all() -> None:
    """The choice is made among a bounded number from the top."""
    (other, _), (own, author) = signed_by("example.net"), signed_by("example.org")
    fields = [other] * MAX_SIGNATURES_READ + [own, author]

    assert results(fields, "example.org", 1) == [("pass", NET), ("policy", None)]


def test_as_many_signatures_are_read_as_are_to_be_verified() -> None:
    """Who allows a hundred has a hundred verified."""
    (other, _), (own, author) = signed_by("example.net"), signed_by("example.org")
    fields = [other] * MAX_SIGNATURES_READ + [own, author]

    assert results(fields, "example.org", 100) == [("pass", NET)] * MAX_SIGNATURES_READ + [("pass", ORG)]


def test_b_is_shown_as_far_as_it_tells_signatures_apart() -> None:
    """Eight characters, and more where two signatures begin alike (RFC 6008 section 3)."""
    fields = signed_by("example.org", "example.net")
    shown = [
        outcome.result.properties["header.b"]
        for outcome in start_verification(fields, ORG, 8).finish(ZONE, NOW)
    ]
    assert [len(b) for b in shown] == [8, 8]

    alike = [HeaderField(b"DKIM-Signature", b" v=1; b=AAAAAAAAAA" + end) for end in (b"AAAA", b"BBBB")]
    shown = [
        outcome.result.properties["header.b"]
        for outcome in start_verification(alike, ORG, 8).finish(ZONE, NOW)
    ]
    assert shown == ["AAAAAAAAAAAA", "AAAAAAAAAABB"]


def test_a_large_body_is_never_held() -> None:
    """Fifty megabytes go through in less than one of memory, in both canonical forms."""
    relaxed = signed_by("example.org")[0]
    simple = HeaderField(relaxed.name, relaxed.value.replace(b"relaxed/relaxed", b"simple/simple"))
    chunk = (b"A line  of text. \r\n" * 3500)[:65_536]
    tracemalloc.start()
    verification = start_verification([relaxed, simple, FROM], ORG, 8)
    for _ in range(800):
        verification.update(chunk)
    outcomes = verification.finish(ZONE, NOW)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert [outcome.result.result for outcome in outcomes] == ["fail", "fail"]
    assert peak < 1_000_000


def test_time_is_a_parameter() -> None:
    """The same signature is from the future when the clock says so."""
    verification = start_verification(signed_by("example.org"), ORG, 8)
    verification.update(BODY)

    (outcome,) = verification.finish(ZONE, datetime(2020, 1, 1, tzinfo=UTC))

    assert outcome.result.result == "policy"


SIGNATURE = signed_by("example.org")[0].value


@given(st.data())
def test_any_octets_in_a_signature_are_an_outcome(data: st.DataObject) -> None:
    """A signature with anything put anywhere into it gives a word and raises nothing."""
    place = data.draw(st.integers(0, len(SIGNATURE)))
    inserted = data.draw(
        st.binary(max_size=20) | st.sampled_from([b";", b"=", b"; d=x", b"\0", b"; l=1", b"; c=a"])
    )
    field = HeaderField(b"DKIM-Signature", SIGNATURE[:place] + inserted + SIGNATURE[place:])

    ((word, _),) = results([field, FROM], "example.org", 8)

    assert word in {"pass", "fail", "policy", "neutral", "temperror", "permerror"}


@pytest.mark.parametrize("octet", [b"\0", b"\r", b"\n", b"\xff", b"\x80\x80"])
def test_awkward_bodies_verify(octet: bytes) -> None:
    """NUL, bare CR and LF and octets that are no UTF-8 are hashed as they are."""
    body = octet.join([b"a", b"b", b"", b"c"]) + octet
    verification = start_verification(signed_by("example.org", body=body), ORG, 8)
    verification.update(body)

    (outcome,) = verification.finish(ZONE, NOW)

    assert outcome.counts
