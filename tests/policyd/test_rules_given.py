"""A transaction from the facts of an expect line."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from mailreeve_policyd.errors import ConfigError
from mailreeve_policyd.facts import FACTS, Door, Fact, FactType
from mailreeve_policyd.rules.compiler import Names
from mailreeve_policyd.rules.given import bound_from, transaction_from
from mailreeve_policyd.rules.parser import parse
from mailreeve_policyd.rules.rehearsal import rehearse
from mailreeve_policyd.rules.scope import Scope
from mailreeve_policyd.rules.source import Mistake, Source
from mailreeve_policyd.smtp import Stage
from mailreeve_policyd.transaction import Transaction
from tests.policyd.rules_text import SPLIT, at_rcpt, ruleset_of


def given(text: str, stage: Stage = Stage.END_OF_MESSAGE, door: Door = Door.MILTER) -> Transaction:
    """The transaction of `with TEXT`."""
    (node,) = parse(Source("rules", f"expect accept at {stage.value} with {text}")).expects
    return transaction_from(node.givens, Scope(stage, door, {}, {}))


WRITTEN = {
    FactType.TEXT: ('"Some Text"', "Some Text"),
    FactType.MAILBOX: ('"Ann@example.net"', "Ann@example.net"),
    FactType.DOMAIN: ('"Mail.Example.net"', "mail.example.net"),
    FactType.NETWORK_ADDRESS: ("2001:db8::7", ip_address("2001:db8::7")),
    FactType.NUMBER: ("4711", 4711),
    FactType.WORD: ("pass", "pass"),
    FactType.LIST: ('("example.net", "example.org")', ("example.net", "example.org")),
}


@pytest.mark.parametrize("fact", FACTS.values(), ids=lambda fact: fact.name)
def test_every_fact_of_the_catalogue_can_be_given(fact: Fact) -> None:
    """And is read back as it was given."""
    written, value = ("reject", "reject") if fact.name == "dmarc_policy" else WRITTEN[fact.type]
    door = next(iter(fact.known_from))
    stage = Stage.END_OF_MESSAGE if door is Door.MILTER else Stage.DATA

    (node,) = parse(Source("rules", f"expect accept at {stage.value} with {fact.name} = {written}")).expects
    scope = rehearse(Names({}, {})).scope(stage, door)
    transaction = transaction_from(node.givens, scope)
    bound = rehearse(Names({}, {}), (), bound_from(node.givens, scope)).scope(stage, door)

    assert bound.fact(node.givens[0].subject).read(transaction) == value
    assert transaction.stage is stage


def test_a_sealer_is_given_with_a_chain_that_passes() -> None:
    """It alone means a chain that is valid and trusted; with any other word of arc it is a mistake."""
    assert FACTS["arc"].read(given('arc_sealer = "lists.example.net"')) == "pass"
    assert FACTS["arc_sealer"].read(given("arc = pass")) is None

    with pytest.raises(Mistake, match="there is an `arc_sealer` only where `arc` is pass"):
        given('arc = untrusted, arc_sealer = "lists.example.net"')


def test_what_is_not_given_is_absent() -> None:
    """No client, no login, no message facts."""
    transaction = given("size = 1")

    absent = [fact.name for fact in FACTS.values() if fact.read(transaction) not in {None, "none", ()}]
    assert absent == ["size"]


def test_an_attribute_can_be_given() -> None:
    """By the door's name for it."""
    found = given('attribute("novel") = "yes", tls_sni = "mx.example.org"', Stage.DATA, Door.POLICY)
    assert found.attributes == {"novel": "yes", "tls_sni": "mx.example.org"}


def test_a_domain_goes_with_its_address() -> None:
    """Given alone it has somebody in it; given with the address it must be its domain."""
    assert str(given('sender_domain = "example.net"').envelope.reverse_path) == "someone@example.net"  # type: ignore[union-attr]
    assert given('sender = "ann@Example.net", sender_domain = "example.net"').envelope is not None


def test_a_connection_has_no_envelope() -> None:
    """Before MAIL there is none."""
    assert given("client_address = 192.0.2.1", Stage.CONNECT, Door.POLICY).envelope is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('size = "big"', "`size` is a number"),
        ("spf = failed", "`spf` is one of fail, neutral"),
        ("sasl_username = bob", "`sasl_username` is given as a text in quotes"),
        ('sasl_username = ("bob", "ann")', "`sasl_username` is given one value"),
        ('sasl_username = ""', "`sasl_username` is given as a text in quotes"),
        ("client_address = 192.0.2.0/24", "`client_address` is an address"),
        ('sender_domain = "not a domain"', "`not a domain` is no domain"),
        ('sender = "ann@example.net", sender_domain = "example.org"', "is not the domain of the address"),
        ("size = 1, size = 2", "`size` is given twice"),
        ("sendr = 1", "did you mean `sender`"),
    ],
)
def test_a_wrong_value_is_told(text: str, message: str) -> None:
    """At its place, with what the fact takes."""
    doors = {**SPLIT, Stage.RCPT: Door.MILTER}
    with pytest.raises(ConfigError, match=message):
        ruleset_of(at_rcpt("a: accept") + f"expect accept at rcpt with {text}", doors)
