"""Sets of ours: dkimpy and Perl's Mail::DKIM, which share no code with ours, verify them; and theirs, we."""

from dataclasses import replace
from itertools import product

import pytest

from mailreeve_milter.arc import ChainOutcome, seal_message
from mailreeve_milter.arc.chain import MAX_SETS, Chain, SealScope
from mailreeve_milter.authfield import format_field
from mailreeve_milter.dkim.crypto import is_signature
from mailreeve_milter.dkim.sign import MAX_COLUMNS
from mailreeve_milter.dkim.signature import without_signature_value
from mailreeve_milter.dkim.taglist import parse_base64, parse_tag_list, split_list
from mailreeve_milter.message import HeaderField
from mailreeve_policyd.authres import MethodResult
from mailreeve_policyd.resolver import ZoneResolver
from tests.lab import arc_perl
from tests.lab.dns import DnsServer
from tests.milterd.arc_hops import (
    BODY,
    DOMAINS,
    FIELDS,
    RSA,
    SPF,
    ZONE_TEXT,
    Hop,
    Message,
    dkimpy_hop,
    key_of,
    our_hop,
    perl_hop,
    send,
    validate,
    verified_by_dkimpy,
)
from tests.milterd.dkim_messages import NOW


def tags_of(field: HeaderField) -> dict[str, str]:
    return parse_tag_list(field.value)


@pytest.mark.parametrize("hops", list(product([our_hop, dkimpy_hop], repeat=3)))
def test_chains_of_us_and_dkimpy(hops: tuple[Hop, Hop, Hop]) -> None:
    """However we and dkimpy follow each other as sealers, both find the chain valid."""
    message = send(*hops)

    outcome, _ = validate(message)

    assert outcome.result.reason is None
    assert (outcome.result.result, outcome.result.properties["header.oldest-pass"]) == ("pass", "0")
    assert outcome.sealers == DOMAINS[::-1]
    assert verified_by_dkimpy(message) == "pass"


@pytest.mark.parametrize("hops", [(our_hop,), (our_hop, our_hop, our_hop), (dkimpy_hop, our_hop)])
def test_a_changed_body_breaks_our_set_for_everybody(hops: tuple[Hop, ...]) -> None:
    """We and dkimpy agree about what is no longer valid."""
    message = replace(send(*hops), body=BODY + b"x\r\n")

    assert validate(message)[0].result.result == "fail"
    assert verified_by_dkimpy(message) == "fail"


@pytest.mark.system
def test_chains_of_us_and_mail_dkim() -> None:
    """Perl's Mail::DKIM verifies our sets, also above its own, and we verify its own."""
    with DnsServer(ZONE_TEXT) as nameserver:
        for hops in ((our_hop,), (our_hop, our_hop), (perl_hop, our_hop), (our_hop, perl_hop, our_hop)):
            message = send(*hops)
            assert arc_perl.verify_chain(message.octets, nameserver).startswith("pass")
            assert validate(message)[0].result.result == "pass"
            broken = replace(message, body=b"other\r\n")
            assert not arc_perl.verify_chain(broken.octets, nameserver).startswith("pass")


def test_the_set_stands_on_top_in_its_order() -> None:
    """Seal, message signature, results; all of one instance, all of one key."""
    message = send(our_hop, our_hop)

    names = [field.name for field in message.fields[:4]]
    assert names == [
        b"ARC-Seal",
        b"ARC-Message-Signature",
        b"ARC-Authentication-Results",
        b"Authentication-Results",
    ]
    seal, signature = (tags_of(field) for field in message.fields[:2])
    assert (seal["i"], seal["cv"], seal["a"]) == ("2", "pass", "rsa-sha256")
    assert (signature["i"], signature["c"]) == ("2", "relaxed/relaxed")
    assert {"h", "bh", "l", "v", "c"}.isdisjoint(seal)
    assert message.fields[2].value.startswith(b" i=2; mx.two.example.net;")


def test_the_results_are_those_of_our_field() -> None:
    """What is sealed is what Authentication-Results says, with the same authserv-id (4.1.1)."""
    sealed, ours = send(our_hop).fields[2:4]

    assert sealed.value == b" i=1;" + ours.value
    assert b"arc=none" in sealed.value


def test_what_the_message_signature_covers() -> None:
    """From and one From more, DKIM signatures too; no ARC field, no Authentication-Results (4.1.2)."""
    names = split_list(tags_of(send(our_hop, our_hop).fields[1])["h"])

    assert names.count("from") == 2
    assert "dkim-signature" in names
    assert not [name for name in names if name.startswith(("arc-", "authentication-", "received"))]
    assert "x-mailer" not in names


def test_removing_results_leaves_the_set_valid() -> None:
    """The next hop may remove Authentication-Results: no signature of ours covers one."""
    message = send(our_hop)
    kept = [field for field in message.fields if field.name != b"Authentication-Results"]

    assert validate(Message(kept))[0].result.result == "pass"


def test_an_invalid_chain_is_sealed_alone() -> None:
    """After a failure here the seal says cv=fail and covers our own set alone (5.1.2); then it is over."""
    broken = replace(send(our_hop, dkimpy_hop), body=b"other\r\n")

    marked = our_hop(broken, DOMAINS[2])

    assert tags_of(marked.fields[0])["cv"] == "fail"
    assert tags_of(marked.fields[0])["i"] == "3"
    assert verified_by_dkimpy(marked) == "ended"
    assert validate(marked)[0].chain.is_ended
    again = our_hop(marked, DOMAINS[0])
    assert [field.name for field in again.fields[:2]] == [b"Authentication-Results", b"ARC-Seal"]


def test_the_seal_of_a_failure_covers_its_own_set_alone() -> None:
    """As if it were the only set: its digest is that of two fields and of itself (5.1.2)."""
    broken = replace(send(our_hop), body=b"other\r\n")

    seal, signature, results = our_hop(broken, DOMAINS[1]).fields[:3]

    scope = SealScope()
    scope.add(results, signature)
    digest = scope.digest(HeaderField(seal.name, without_signature_value(seal.value)))
    assert is_signature(RSA.public_key(), digest, parse_base64(tags_of(seal)["b"]))


def test_fields_that_are_no_chain_are_an_invalid_one() -> None:
    """Garbage under an ARC name: our set is the first, and says cv=fail."""
    marked = our_hop(Message([HeaderField(b"ARC-Seal", b" garbage"), *FIELDS]), DOMAINS[0])

    assert (tags_of(marked.fields[0])["i"], tags_of(marked.fields[0])["cv"]) == ("1", "fail")


def sealed_after(outcome: ChainOutcome, fields: list[HeaderField] | None = None) -> int:
    results = format_field("mx.example.net", [SPF])
    return len(
        seal_message(
            FIELDS if fields is None else fields, outcome, results, bytes(32), key_of(DOMAINS[0]), NOW
        )
    )


def failed(highest: int) -> ChainOutcome:
    return ChainOutcome(MethodResult("arc", "fail"), Chain((), highest, "broken"))


def test_never_more_than_fifty() -> None:
    """Instance 50 may be ours, 51 may be nobody's (4.2.1)."""
    assert sealed_after(failed(MAX_SETS - 1)) == 3
    assert sealed_after(failed(MAX_SETS)) == 0
    assert sealed_after(failed(99)) == 0


@pytest.mark.parametrize("authors", [0, 2])
def test_without_one_author_field_nothing_is_sealed(authors: int) -> None:
    """No From, or several: no signature can cover it, so that there is no set."""
    fields = [*[FIELDS[2]] * authors, *FIELDS[3:]]

    assert sealed_after(ChainOutcome(MethodResult("arc", "none"), Chain()), fields) == 0


def test_a_chain_that_cannot_be_judged_now_is_not_called_broken() -> None:
    """DNS away: neither cv=pass nor cv=fail would be true, so that no set is added."""
    message = send(our_hop)
    outcome, digest = validate(message, ZoneResolver(ZONE_TEXT, ["r1._domainkey.one.example.net"]))

    assert outcome.result.result == "temperror"
    results = format_field("mx.example.net", [SPF])
    assert seal_message(message.fields, outcome, results, digest, key_of(DOMAINS[1]), NOW) == ()


def test_lines_are_short() -> None:
    """No line of the set is longer than 78 characters."""
    for field in send(our_hop).fields[:3]:
        assert all(len(line) <= MAX_COLUMNS for line in field.raw.split(b"\r\n"))


def test_the_zone_is_asked_once_a_key() -> None:
    """Message signature and seal of a set use one key: one question."""
    resolver = ZoneResolver(ZONE_TEXT)

    validate(send(our_hop, our_hop), resolver)

    assert len(resolver.queries) == 2
