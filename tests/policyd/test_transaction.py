"""Addresses, evidence and the facts that are read from a transaction."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from mailreeve_policyd.authres import MethodResult
from mailreeve_policyd.facts import FACTS, Door, FactType
from mailreeve_policyd.smtp import Stage, parse_domain, parse_mailbox
from mailreeve_policyd.transaction import Envelope, Evidence, Session, Transaction, parse_address


@pytest.mark.parametrize(
    ("written", "address"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("IPv6:2001:db8::1", "2001:db8::1"),
        ("fe80::1%eth0", "fe80::1"),
    ],
)
def test_an_address_has_one_form(written: str, address: str) -> None:
    """IPv4-mapped is IPv4, a zone is dropped, Sendmail's prefix too."""
    assert parse_address(written) == ip_address(address)


@pytest.mark.parametrize(
    "written", ["unknown", "", "192.0.2", "example.org", "1.2.3.4.5", "fe80::1%" + "z" * 4000]
)
def test_what_is_no_address_is_none(written: str) -> None:
    """Postfix says `unknown`, a local submission has none; a Received field may hold a long word there."""
    assert parse_address(written) is None


def _message(evidence: Evidence) -> Transaction:
    envelope = Envelope(parse_mailbox("Bob@Example.org"), (parse_mailbox("amy@example.net"),))
    return Transaction(Stage.END_OF_MESSAGE, Session(), envelope, evidence=evidence)


def test_the_two_identities_of_spf_are_two_facts() -> None:
    """`spf` is the reverse-path's result, `spf_helo` that of the HELO name."""
    evidence = Evidence(
        (
            MethodResult("spf", "fail", {"smtp.helo": "mail.example"}),
            MethodResult("spf", "pass", {"smtp.mailfrom": "bob@example.org"}),
        )
    )

    assert FACTS["spf"].read(_message(evidence)) == "pass"
    assert FACTS["spf_helo"].read(_message(evidence)) == "fail"


def test_one_dkim_pass_is_a_pass() -> None:
    """Several signatures come to the best of them; DNS trouble outweighs a failure."""
    failing = MethodResult("dkim", "fail", {"header.d": "a.example"})
    passing = MethodResult("dkim", "pass", {"header.d": "b.example"})
    waiting = MethodResult("dkim", "temperror", {"header.d": "c.example"})

    assert FACTS["dkim"].read(_message(Evidence((failing, waiting, passing)))) == "pass"
    assert FACTS["dkim"].read(_message(Evidence((failing, waiting)))) == "temperror"
    assert FACTS["dkim"].read(_message(Evidence())) == "none"


def test_a_fact_of_a_bounce_is_absent() -> None:
    """The null reverse-path gives no sender and no sender_domain."""
    bounce = Transaction(Stage.MAIL, Session(), Envelope(None))

    assert FACTS["sender"].read(bounce) is None
    assert FACTS["sender_domain"].read(bounce) is None


def test_every_fact_can_be_read_at_every_stage() -> None:
    """A snapshot that is still empty gives absent facts, or the word `none`, and never an error."""
    for stage in Stage:
        for fact in FACTS.values():
            assert fact.read(Transaction(stage, Session())) in (None, "none", ())


def test_the_catalogue_is_whole() -> None:
    """Each fact has a door, a word fact has its words, and each door knows the client first."""
    for fact in FACTS.values():
        assert fact.known_from
        assert bool(fact.words) == (fact.type is FactType.WORD)
    assert FACTS["client_address"].known_from == {Door.POLICY: Stage.CONNECT, Door.MILTER: Stage.CONNECT}


def test_the_author_is_a_fact_of_the_message() -> None:
    """header_from_domain is the author domain, in A-labels."""
    evidence = Evidence(author=parse_mailbox("Amy@EXAMPLE.net"), dkim_domains=(parse_domain("example.net"),))

    assert FACTS["header_from"].read(_message(evidence)) == "Amy@example.net"
    assert FACTS["header_from_domain"].read(_message(evidence)) == "example.net"
    assert FACTS["dkim_domains"].read(_message(evidence)) == ("example.net",)
