"""Validation of a whole chain: bounds, cost, hostile input. Its rules are in the vectors."""

from ipaddress import ip_address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailreeve_milter.arc import start_chain_verification
from mailreeve_milter.arc.chain import MAX_FIELDS
from mailreeve_milter.arc.verify import MAX_KEYS
from mailreeve_milter.dkim.body_hash import BodyHashes
from mailreeve_milter.message import HeaderField
from mailreeve_policyd.resolver import ZoneResolver
from tests.milterd.arc_hops import FIELDS, ZONE_TEXT, Message, our_hop, send, validate
from tests.milterd.dkim_messages import NOW, split_message
from tests.milterd.test_arc_vectors import VECTORS, read_zone

WORDS = {"none", "pass", "fail", "temperror"}
SENT = send(our_hop, our_hop)


def vector(name: str) -> tuple[Message, ZoneResolver]:
    return Message(*split_message((VECTORS / name / "message.eml").read_bytes())), read_zone(VECTORS / name)


def test_mail_without_a_chain_costs_nothing() -> None:
    """No ARC field: none, no digest of the body, no question, no property."""
    resolver = ZoneResolver("")
    verification = start_chain_verification(FIELDS)

    outcome = verification.finish(BodyHashes(()), resolver, NOW, ip_address("192.0.2.1"))

    assert verification.body_forms == ()
    assert (outcome.result.result, outcome.result.properties, resolver.queries) == ("none", {}, [])


def test_the_client_is_named() -> None:
    """smtp.remote-ip is the host that brought the message (section 6)."""
    verification = start_chain_verification([HeaderField(b"ARC-Seal", b" x"), *FIELDS])

    outcome = verification.finish(BodyHashes(()), ZoneResolver(""), NOW, ip_address("2001:db8::1"))

    assert outcome.result.properties == {"smtp.remote-ip": "2001:db8::1"}


def test_a_broken_message_costs_one_question() -> None:
    """The newest message signature is judged first, and nothing after its failure."""
    message, resolver = vector("three-sets")

    outcome, _ = validate(Message(message.fields, b"other\r\n"), resolver)

    assert outcome.result.result == "fail"
    assert len(resolver.queries) == 1


def test_a_forged_structure_costs_none() -> None:
    """What is no chain is found without DNS and without the body."""
    message, resolver = vector("gap")
    verification = start_chain_verification(message.fields)

    assert verification.body_forms == ()
    assert verification.finish(BodyHashes(()), resolver, NOW).result.result == "fail"
    assert resolver.queries == []


def test_the_longest_chain_asks_so_many_keys() -> None:
    """Fifty sets with a key of their own each: one question a key, within the bound."""
    message, resolver = vector("fifty-sets")

    outcome, _ = validate(message, resolver)

    assert outcome.result.result == "pass"
    assert len(resolver.queries) == 50 < MAX_KEYS


def test_more_fields_than_a_chain_can_have_are_not_read() -> None:
    """Thousands of fields are refused by their number."""
    fields = [HeaderField(b"ARC-Seal", b" i=1; cv=none" + b";x" * 9)] * (MAX_FIELDS + 1)

    outcome, _ = validate(Message([*fields, *FIELDS]))

    assert outcome.result.reason == "there are more than 50 ARC sets"


def test_lengths_of_the_body_do_not_multiply() -> None:
    """Each older set names another l=: the body is hashed in two forms all the same."""
    message, _ = vector("fifty-sets")
    fields = [
        HeaderField(field.name, field.value + b"; l=%d" % number)
        if field.name == b"ARC-Message-Signature"
        else field
        for number, field in enumerate(message.fields)
    ]

    forms = start_chain_verification(fields).body_forms

    assert len(forms) == 1
    assert forms[0].length is not None  # the newest one's


def test_a_message_signature_is_a_dkim_signature() -> None:
    """Its instance is no identity: the key's t=s finds nothing to complain about."""
    strict = ZoneResolver(ZONE_TEXT.replace('"v=DKIM1\\;', '"v=DKIM1\\; t=s\\;'))

    assert validate(SENT, strict)[0].result.result == "pass"


@given(st.data())
@settings(max_examples=150)
def test_any_octets_in_any_field_are_an_outcome(data: st.DataObject) -> None:
    """A chain with anything put anywhere gives a word; none passes that is not the same chain."""
    number = data.draw(st.integers(0, 7).filter(lambda place: SENT.fields[place].name.startswith(b"ARC-")))
    value = SENT.fields[number].value
    place = data.draw(st.integers(0, len(value)))
    inserted = data.draw(
        st.binary(min_size=1, max_size=12)
        | st.sampled_from(
            [b";", b"=", b"; i=3", b"; i=1", b"i=2", b"\0", b"; h=from", b"; cv=none", b"(", b"\xff"]
        )
    )
    changed = HeaderField(SENT.fields[number].name, value[:place] + inserted + value[place:])
    fields = [*SENT.fields[:number], changed, *SENT.fields[number + 1 :]]

    outcome, _ = validate(Message(fields))

    assert outcome.result.result in WORDS
    if outcome.result.result == "pass":  # white space, or padding in the one b= that nothing covers
        assert number == 0 or not inserted.strip(b" \t\r\n")


@pytest.mark.parametrize(
    "value", [b"", b" ", b" i=1", b" i=1;" * 5000, b" (" * 50_000, b" i=1;" + b"a" * 900_000]
)
@pytest.mark.parametrize("name", [b"ARC-Seal", b"ARC-Message-Signature", b"ARC-Authentication-Results"])
def test_awkward_values_fail(name: bytes, value: bytes) -> None:
    """However long or empty, it is no chain."""
    outcome, _ = validate(Message([HeaderField(name, value), *FIELDS]))

    assert outcome.result.result == "fail"
