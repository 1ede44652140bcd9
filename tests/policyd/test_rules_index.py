"""An index of rules leaves out only rules whose condition is false."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from mailreeve_policyd.judgement import OnUnknown
from mailreeve_policyd.rules import Ruleset
from mailreeve_policyd.rules.index import RuleIndex
from mailreeve_policyd.smtp import Stage
from mailreeve_policyd.transaction import Transaction
from tests.policyd.rules_text import at_rcpt, moment, ruleset_of

COMPARISONS = st.sampled_from(
    (
        'sasl_username is "Ann@example.org"',
        'sasl_username is "bob@example.org"',
        'sasl_username in ("ann@example.org", "BOB@example.org")',
        'sasl_username is not "ann@example.org"',
        "sasl_username",
        'sender_domain is "example.org"',
        'sender_domain in ("example.org", "example.net")',
        'sender_domain under "org"',
        'helo_name under ("example.org", "net")',
        'helo_name is "mx.example.org"',
        "helo_name matches /^mx/",
        "client_address in 192.0.2.0/24",
        'client_address in (192.0.2.0/25, "192.0.2.1", 2001:db8::/32)',
        "client_address in ::ffff:192.0.2.0/120",
        "client_address is 192.0.2.1",
        'spf is "fail"',
        "spf in (pass, temperror)",
        "size > 1000",
    )
)


def _joined(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    several = st.lists(inner, min_size=2, max_size=3)
    return (
        several.map(lambda parts: f"({' and '.join(parts)})")
        | several.map(lambda parts: f"({' or '.join(parts)})")
        | inner.map(lambda part: f"not {part}")
    )


CONDITIONS = st.recursive(COMPARISONS, _joined, max_leaves=4)
BODIES = st.sampled_from(('warn "seen"', "accept", 'reject "no"', "limit 5 messages/hour per sasl_username"))
RULES = st.lists(st.tuples(BODIES, CONDITIONS), min_size=1, max_size=14)
MOMENTS = st.builds(
    moment,
    login=st.sampled_from((None, "ann@example.org", "BOB@example.org", "eve@example.org")),
    sender=st.sampled_from(("", "a@example.org", "a@sub.example.net", "a@[192.0.2.1]")),
    helo=st.sampled_from((None, "mx.example.org", "MX.example.net", "not a name")),
    client=st.sampled_from((None, "192.0.2.1", "192.0.2.200", "2001:db8::1", "203.0.113.1")),
    results=st.sampled_from(({}, {"spf": "pass"}, {"spf": "fail"}, {"spf": "temperror"})),
    size=st.sampled_from((None, 10, 5000)),
)


def asking_each(ruleset: Ruleset) -> Ruleset:
    """The same rules, each asked at every transaction."""
    return replace(
        ruleset, indexes={stage: RuleIndex([None] * len(rules)) for stage, rules in ruleset.blocks.items()}
    )


@settings(max_examples=100, deadline=None)
@given(RULES, st.lists(MOMENTS, min_size=1, max_size=4))
def test_an_index_changes_no_judgement(rules: list[tuple[str, str]], moments: list[Transaction]) -> None:
    """Whatever the conditions, the rules say the same with their index as when each of them is asked."""
    lines = (f"r{number}: {body} if {condition}" for number, (body, condition) in enumerate(rules))
    ruleset = ruleset_of(at_rcpt(*lines))
    plain = asking_each(ruleset)

    for one in moments:
        for on_unknown in OnUnknown:
            assert ruleset.judge(one, [Stage.RCPT], on_unknown) == plain.judge(one, [Stage.RCPT], on_unknown)


def candidates(one: Transaction, *conditions: str) -> tuple[int, ...]:
    """Which of these rules are asked about a transaction."""
    lines = (f'r{number}: warn "seen" if {condition}' for number, condition in enumerate(conditions))
    return ruleset_of(at_rcpt(*lines)).indexes[Stage.RCPT].candidates(one)


LOGINS = [f'sasl_username is "u{number}@example.org"' for number in range(5)]


def test_of_many_rules_for_one_login_each_only_its_own_is_asked() -> None:
    """Rules that compare one fact with constants are found by one look-up."""
    assert candidates(moment(login="U3@example.org"), *LOGINS) == (3,)
    assert candidates(moment(login="eve@example.org"), *LOGINS) == ()


def test_what_cannot_be_looked_up_is_always_asked_in_its_place() -> None:
    """Patterns, numbers and `not` are asked at every transaction; the order of the file stays."""
    others = ("size > 5", "not helo_name", "sasl_username matches /^u/")

    assert candidates(moment(login="u4@example.org"), others[0], *LOGINS, *others[1:]) == (0, 5, 6, 7)


def test_networks_that_are_written_differently_are_one() -> None:
    """An IPv4-mapped network is the IPv4 network, and rules for both are found."""
    networks = ("192.0.2.0/24", "::ffff:192.0.2.0/120", "198.51.100.0/24", "2001:db8::/32")
    conditions = [f"client_address in {network}" for network in networks]

    assert candidates(moment(client="192.0.2.7"), *conditions) == (0, 1)
    assert candidates(moment(client="2001:db8::7"), *conditions) == (3,)
