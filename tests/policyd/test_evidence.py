"""Evidence of the envelope is gathered once, and only what is needed."""

from __future__ import annotations

from ipaddress import ip_address

from msgspec.structs import replace

from mailreeve_policyd.evidence import ENVELOPE_NEEDS, gather_envelope_evidence
from mailreeve_policyd.facts import FACTS
from mailreeve_policyd.resolver import ZoneResolver
from mailreeve_policyd.smtp import Stage, parse_mailbox
from mailreeve_policyd.transaction import Envelope, Session, Transaction

ZONE = """
    example.org. TXT "v=spf1 ip4:192.0.2.1 -all"
    mail.example.org. TXT "v=spf1 a -all"
    mail.example.org. A 192.0.2.1
    1.2.0.192.in-addr.arpa. PTR mail.example.org.
"""
SESSION = Session(client_address=ip_address("192.0.2.1"), helo_name="mail.example.org")
MAIL = Transaction(Stage.MAIL, SESSION, Envelope(parse_mailbox("bob@example.org")))


def test_nothing_is_asked_that_nobody_needs() -> None:
    """Without needs there are no results and no questions."""
    resolver = ZoneResolver(ZONE)

    assert gather_envelope_evidence(MAIL, frozenset(), resolver).results == ()
    assert resolver.count() == 0


def test_every_need_of_a_fact_can_be_met() -> None:
    """The catalogue of facts and this room know the same names."""
    assert {fact.needs for fact in FACTS.values() if fact.needs} == ENVELOPE_NEEDS


def test_each_need_gives_its_result() -> None:
    """One need, one result."""
    for need, property_name in (
        ("spf", "smtp.mailfrom"),
        ("spf_helo", "smtp.helo"),
        ("iprev", "policy.iprev"),
    ):
        results = gather_envelope_evidence(MAIL, {need}, ZoneResolver(ZONE)).results
        assert [(list(result.properties), result.result) for result in results] == [([property_name], "pass")]


def test_results_come_in_the_order_of_the_field() -> None:
    """iprev, spf of HELO, spf of MAIL FROM."""
    results = gather_envelope_evidence(MAIL, ENVELOPE_NEEDS, ZoneResolver(ZONE)).results

    assert [next(iter(result.properties)) for result in results] == [
        "policy.iprev",
        "smtp.helo",
        "smtp.mailfrom",
    ]


def test_what_is_known_is_not_asked_again() -> None:
    """Evidence of an earlier stage is taken over."""
    resolver = ZoneResolver(ZONE)
    first = gather_envelope_evidence(MAIL, {"spf"}, resolver)
    asked = resolver.count()
    later = replace(MAIL, stage=Stage.DATA, evidence=first)

    assert gather_envelope_evidence(later, {"spf"}, resolver).results == first.results
    assert resolver.count() == asked


def test_what_is_known_stays_though_nobody_needs_it_now() -> None:
    """What a rule at mail asked still stands in the message's field."""
    first = gather_envelope_evidence(MAIL, {"iprev"}, ZoneResolver(ZONE))
    later = gather_envelope_evidence(replace(MAIL, evidence=first), {"spf"}, ZoneResolver(ZONE))

    assert [result.method for result in later.results] == ["iprev", "spf"]


def test_the_null_sender_is_checked_once() -> None:
    """For <> the two identities are one: the same result, and no question twice."""
    resolver, both = ZoneResolver(ZONE), ZoneResolver(ZONE)
    null = replace(MAIL, envelope=Envelope(None))
    (alone,) = gather_envelope_evidence(null, {"spf"}, resolver).results
    helo, mail_from = gather_envelope_evidence(null, {"spf", "spf_helo"}, both).results

    assert mail_from == alone
    assert helo.result == mail_from.result == "pass"
    assert both.queries == resolver.queries


def test_what_cannot_be_asked_has_no_result() -> None:
    """Before MAIL there is no reverse-path; mail by the sendmail command has no address."""
    connect = Transaction(Stage.CONNECT, Session(client_address=ip_address("192.0.2.1")))
    local = Transaction(Stage.MAIL, Session(), Envelope(None))

    assert gather_envelope_evidence(connect, {"spf"}, ZoneResolver(ZONE)).results == ()
    assert gather_envelope_evidence(local, {"iprev"}, ZoneResolver(ZONE)).results == ()
