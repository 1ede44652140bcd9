"""Nothing that Postfix passes on of a client reaches an answer, a line, a key or a notice unescaped."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
from msgspec.structs import replace

from mailreeve_policyd.audit import AuditLog
from mailreeve_policyd.authres import MethodResult
from mailreeve_policyd.door import PolicyDoor
from mailreeve_policyd.errors import ProtocolError
from mailreeve_policyd.facts import FACTS, Door, FactType
from mailreeve_policyd.policy import Policy
from mailreeve_policyd.postfix import MAX_HEADER, MAX_TEXT, RequestParser
from mailreeve_policyd.rules import parse_ruleset
from mailreeve_policyd.smtp import Stage
from mailreeve_policyd.transaction import Evidence, Transaction
from mailreeve_policyd.verdict import Verdict
from tests.fuzz.hostile import POISONS, CheckingStore, Lines, check_log, check_notices, check_text

ATTRIBUTES = (
    "protocol_name", "client_address", "client_name", "client_port", "reverse_client_name", "helo_name",
    "sender", "recipient", "recipient_count", "queue_id", "instance", "size", "etrn_domain", "stress",
    "sasl_method", "sasl_username", "sasl_sender", "ccert_subject", "ccert_issuer", "ccert_fingerprint",
    "ccert_pubkey_fingerprint", "encryption_protocol", "encryption_cipher", "encryption_keysize",
    "policy_context", "server_address", "server_port", "compatibility_level", "mail_version", "tls_sni",
)  # fmt: skip
"""What Postfix 3.12 sends."""

KNOWN = sorted(
    name
    for name, fact in FACTS.items()
    if fact.known_from.get(Door.POLICY, Stage.END_OF_MESSAGE) <= Stage.RCPT
    and name not in ("client_country", "client_asn")
)
"""Facts that rules at rcpt may put into texts and count by."""

ENDINGS = ("reject", "defer", "hold", "discard", "add", "count")
BREAKING = ("crlf", "lf", "nul", "long", "long-octets")
"""Poisons that are no value of the policy protocol: a line end, a NUL, and lines beyond the bound."""

PLACES = (b"{}", b"{}@example.net", b"bob@{}", b"bob{}@example.net")


def rules_for(fact: str) -> str:
    """Rules that put a fact wherever one can stand, the ending chosen by the local port."""
    limit = f'limit 1 messages/day per {fact}, client_network warn at 50% "{{{fact}}}"'
    return f"""
        at rcpt {{
            told:    warn "{{{fact}}}"
            noted:   notify "{{{fact}}}"
            counted: {limit} else defer "4.7.1 {{{fact}}}" if server_port is 6
            refused: reject "5.7.1 {{{fact}}}" if server_port is 1
            late:    defer "4.7.1 {{{fact}}}" if server_port is 2
            held:    hold "{{{fact}}}" if server_port is 3
            lost:    discard "{{{fact}}}" if server_port is 4
            added:   add-header "X-Fact: {{{fact}}}" if server_port is 5
        }}
    """


class Listening(Policy):
    """The policy, whose notices are looked at."""

    def decide(self, transaction: Transaction, stages: tuple[Stage, ...]) -> Verdict:  # type: ignore[override]
        verdict = super().decide(transaction, stages)
        check_notices(verdict, transaction)
        return verdict


def hostile_evidence(transaction: Transaction, asked: frozenset[str]) -> Evidence:
    """SPF and the like, with values of the wire and a hostile reason."""
    poison = str(transaction.session.helo_name)
    names = {"spf": "smtp.mailfrom", "spf_helo": "smtp.helo", "iprev": "policy.iprev"}
    results = [
        MethodResult(name.partition("_")[0], "fail", {names[name]: poison}, poison * 3) for name in asked
    ]
    return replace(Evidence(), results=tuple(results))


def requests(poison: bytes) -> Iterator[bytes]:
    """Requests for each ending with a poison in every attribute, as a whole and in parts of addresses."""
    for number in range(1, len(ENDINGS) + 1):
        before, _, after = PLACES[number % len(PLACES)].partition(b"{}")
        values = dict.fromkeys(ATTRIBUTES, before + poison + after)
        values |= {"server_port": str(number).encode(), "client_address": b"192.0.2.1"}
        lines = [b"request=smtpd_access_policy", b"protocol_state=RCPT"]
        lines += [name.encode() + b"=" + value for name, value in values.items()]
        yield b"\n".join(lines) + b"\n\n"


@pytest.mark.parametrize("fact", KNOWN)
def test_what_a_client_says_stays_a_value(fact: str, caplog: pytest.LogCaptureFixture) -> None:
    """Every attribute poisoned at once, the fact in every text and key: one line of ASCII comes back.

    What breaks the protocol itself is refused before it is looked at, and the record stays a record.
    """
    caplog.set_level(logging.DEBUG)
    ruleset = parse_ruleset(rules_for(fact), "rules", dict.fromkeys(Stage, Door.POLICY))
    lines = Lines()
    door = PolicyDoor(
        policy=Listening(ruleset, CheckingStore(lambda: 1e9), Door.POLICY),
        needs=ruleset.needs,
        decides=frozenset(Stage),
        gather=hostile_evidence,
        audit=AuditLog("policyd", lines),
    )
    answered = 0
    for poison in POISONS.values():
        for octets in requests(poison):
            answered += ask(door, octets)
    assert lines.count == answered >= (len(POISONS) - len(BREAKING)) * len(ENDINGS)
    check_log(caplog.records)


def ask(door: PolicyDoor, octets: bytes) -> int:
    """How many answers there are: each is looked at."""
    parser = RequestParser()
    connection = door.connection()
    answers = 0
    try:
        for attributes in parser.feed(octets):
            check_answer(connection.answer(attributes))
            answers += 1
    except ProtocolError as error:
        check_text(str(error), 300)
    return answers


def check_answer(answer: bytes) -> None:
    """`action=` and an empty line, and nothing else that Postfix could take for its own."""
    assert answer.startswith(b"action=")
    assert answer.endswith(b"\n\n")
    check_text(answer[:-2].decode("ascii"), max(MAX_HEADER, MAX_TEXT) + 40, is_ascii=True)


def test_the_facts_that_a_rule_can_show_are_all_here() -> None:
    """A new fact is tested as soon as it is in the catalogue; numbers and words of ours are harmless."""
    assert {"sender", "helo_name", "sasl_username", "ccert_subject", "tls_sni", "spf"} <= set(KNOWN)
    assert all(FACTS[name].type in FactType for name in KNOWN)
