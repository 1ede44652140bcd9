"""`mailreeve rules explain` and `list`: what the rules make of a message, by the code that decides mail."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mailreeve_admin.explain import explain, moments_of, parse_facts, scope_of
from mailreeve_policyd.config import load_configuration
from mailreeve_policyd.facts import FACTS, Door, FactType
from mailreeve_policyd.launch import load_rules
from mailreeve_policyd.limits_memory import MemoryStore
from mailreeve_policyd.limits_open import open_store
from mailreeve_policyd.policy import Policy
from mailreeve_policyd.rules.given import bound_from, transaction_from
from mailreeve_policyd.rules.nodes import Given
from mailreeve_policyd.smtp import Stage
from tests.admin.command import Ran, mailreeve, write_site
from tests.policyd.rules_text import MIDNIGHT, SPLIT, moment, ruleset_of

RULES = """\
set office = 192.0.2.0/24, 2001:db8::/32
set vip = file "vip.txt"
table quotas = file "quotas.csv"
at rcpt {
    office:  accept                                 if client_address in office and not sasl_username
    stop:    reject "5.7.1 no"                      if sender_domain is "evil.example" or size > 1000
    day:     limit quotas[sasl_username] or 3 recipients/day per sasl_username
    observe many: limit 1 recipients/day per client_address  else hold "many"
    mark:    add-header "X-Seen: {recipient}"       if recipient_domain is "example.org"
}
at end-of-message {
    forged:  reject "5.7.26 fails DMARC"            if dmarc is fail and not spf is pass
    hold-it: hold "doubtful"                        if dmarc is fail
}
"""
FILES = {"vip.txt": "bob\nann\n", "quotas.csv": "bob,2 recipients/day\n"}


def write(folder: Path) -> Path:
    """A site with these rules."""
    for name, text in FILES.items():
        (folder / name).write_text(text)
    return write_site(folder, RULES)


def ask(config: Path, *words: str) -> Ran:
    """`mailreeve rules explain`."""
    return mailreeve("rules", "explain", "--config", config, *words)


def told(config: Path, *words: str) -> Any:
    """The same, for programs."""
    ran = ask(config, "--json", *words)
    assert ran.status == 0, ran.err
    return json.loads(ran.out)


BOB = ("sasl_username=bob", "client_address=203.0.113.9", "recipient=ann@example.org")


def test_it_says_rule_by_rule_what_held_and_what_the_door_answers(tmp_path: Path) -> None:
    """Clause by clause with the facts' values, and the line that Postfix gets."""
    ran = ask(write(tmp_path), "--", *BOB)

    assert ran.status == 0
    assert (
        ran.out
        == """\
rcpt office (line 5)  accept  did not hold
    client_address in office and not sasl_username: no
      client_address in office: no (client_address=203.0.113.9)
      not sasl_username: no
        sasl_username: yes (sasl_username=bob)
rcpt stop (line 6)  reject  did not hold
    sender_domain is "evil.example" or size > 1000: no
      sender_domain is "evil.example": no (sender_domain=(none))
      size > 1000: no (size=(none))
rcpt day (line 7)  limit, else defer  within its limit: 1 of 2
rcpt observe many (line 8)  limit, else hold  within its limit: 1 of 1
rcpt mark (line 9)  add-header  held
    recipient_domain is "example.org": yes (recipient_domain=example.org)
=> rcpt: continue, by no rule
   adds X-Seen: ann@example.org
   policyd answers: action=PREPEND X-Seen: ann@example.org

end-of-message: not decided, its rules ask spf, dmarc (give it, or `--stage end-of-message` to decide without)
"""
    )


def test_the_milter_answers_at_its_stages(tmp_path: Path) -> None:
    """With evidence given, in the words of its protocol; a hold is a quarantine."""
    config = write(tmp_path)

    rcpt, end = told(config, "--", *BOB, "dmarc=fail", "spf=fail", "header_from=x@example.net")["moments"]
    assert (rcpt["door"], end["door"]) == ("policyd", "milter")
    assert end["answer"] == "reject 550 5.7.26 fails DMARC"
    assert [each["outcome"] for each in end["rules"]] == ["held", "not reached"]
    (_, held) = told(config, "--", *BOB, "dmarc=fail", "spf=pass")["moments"]
    assert held["answer"] == "continue (quarantine at end-of-message: doubtful)"


def test_what_is_refused_goes_no_further(tmp_path: Path) -> None:
    """Later stages are named as not reached."""
    ran = ask(write(tmp_path), "--", *BOB, "sender=x@evil.example", "dmarc=pass", "spf=pass")

    assert "policyd answers: action=REJECT 5.7.1 no" in ran.out
    assert ran.out.endswith("end-of-message: not reached\n")


def test_a_limit_is_looked_at_and_not_charged(tmp_path: Path) -> None:
    """What the daemons counted, however often one asks; an exceeded one says so."""
    config = write(tmp_path)
    configuration = load_configuration(config)
    store = open_store(configuration)
    policy = Policy(load_rules(configuration), store, Door.POLICY)
    bob = moment(Stage.RCPT, instance=None, login="bob", recipient="ann@example.org")
    policy.decide(bob)

    for _ in range(3):
        assert told(config, "--", *BOB)["moments"][0]["limits"][0]["used"] == 2

    policy.decide(bob)
    (answer,) = told(config, "--", *BOB)["moments"]
    assert (answer["rule"], answer["limits"][0]["exceeded"]) == ("day", True)
    store.close()


def test_a_blocked_key_is_told_to_the_administrator_alone(tmp_path: Path) -> None:
    """The answer gives nothing away, the explanation does."""
    config = write(tmp_path)
    mailreeve("limits", "block", "bob", "--config", config)

    (answer,) = told(config, "--", *BOB)["moments"]

    assert answer["answer"] == "action=REJECT 5.7.1 Refused by local policy"
    assert answer["effects"] == ["day: its key is blocked by the administrator"]


def test_one_stage_is_decided_with_what_is_not_given_absent(tmp_path: Path) -> None:
    """`--stage` asks no more facts."""
    (end,) = told(write(tmp_path), "--stage", "end-of-message", "--", "dmarc=fail")["moments"]

    assert end["answer"] == "reject 550 5.7.26 fails DMARC"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("sasl_usernam=bob",), "there is no fact 'sasl_usernam': did you mean `sasl_username`?"),
        (("bob",), "'bob' gives no value: write sasl_username=bob"),
        ((*BOB, "spf=good"), "`spf` is one of"),
        (("client_address=bob", "recipient=ann@example.org"), "write 192.0.2.1 or 2001:db8::1"),
        ((*BOB, "sasl_username=ann"), "`sasl_username` is given twice"),
        ((*BOB, "size=many"), "`size` is a number"),
    ],
)
def test_what_means_nothing_is_told_with_what_would(
    tmp_path: Path, words: tuple[str, ...], says: str
) -> None:
    """With the nearest name, and the exit status of wrong usage."""
    ran = ask(write(tmp_path), "--", *words, *(("dmarc=pass",) if "spf=good" in words else ()))

    assert ran.status == 64
    assert says in ran.err


def test_an_unknown_stage_is_told_with_the_nearest(tmp_path: Path) -> None:
    """As everywhere."""
    ran = ask(write(tmp_path), "--stage", "rcp", "--", *BOB)

    assert ran.status == 64
    assert "there is no stage 'rcp': did you mean `rcpt`?" in ran.err


def test_where_a_client_is_can_be_said(tmp_path: Path) -> None:
    """Facts that files outside know are taken as they are given."""
    rules = 'at rcpt {\n    far: reject "5.7.1 far" if client_network is "198.51.100.0/24"\n}\n'
    ruleset = ruleset_of(rules)
    facts = parse_facts(["client_network=198.51.100.0/24", "recipient=ann@example.org"])
    moments, left = moments_of(SPLIT, ruleset, facts)

    (answer,) = explain(ruleset, MemoryStore(lambda: MIDNIGHT), moments, facts)

    assert left == []
    assert answer.verdict.rule == "far"


VALUES = {
    "sasl_username": ("bob", "Ann", "x\\y"), "client_address": ("192.0.2.1", "203.0.113.9", "2001:db8::1"),
    "sender": ("x@evil.example", "b@example.net"), "size": ("5", "5000"),
    "recipient": ("ann@example.org", "c@example.net"), "spf": ("pass", "fail", "temperror"),
    "dmarc": ("fail", "pass", "temperror", "none"), "helo_name": ("mx.example.net",),
}  # fmt: skip

RANDOM_FACTS = st.fixed_dictionaries(
    {}, optional={name: st.sampled_from(each) for name, each in VALUES.items()}
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    facts=RANDOM_FACTS, before=st.integers(0, 4), stage=st.sampled_from([Stage.RCPT, Stage.END_OF_MESSAGE])
)
def test_what_is_explained_is_what_is_decided(facts: dict[str, str], before: int, stage: Stage) -> None:
    """For any message and any state of the limits: the verdict of Policy.decide, and nothing is counted."""
    ruleset, store = ruleset_of(RULES, files=FILES), MemoryStore(lambda: MIDNIGHT)
    door = SPLIT[stage]
    policy = Policy(ruleset, store, door)
    words = [
        f"{name}={value}"
        for name, value in facts.items()
        if FACTS[name].known_from[door if name != "dmarc" else Door.MILTER] <= stage
    ]
    givens = parse_facts(words)
    transaction = transaction_from(givens, scope_of(door, stage, givens))
    for _ in range(before):
        policy.decide(transaction)

    explained = [explain(ruleset, store, [(door, stage, (stage,))], givens)[0] for _ in range(2)]

    decided = policy.decide(transaction)
    assert explained[0].verdict == explained[1].verdict == decided
    outcomes = {each.rule.name: each.step.outcome.value for each in explained[0].rules}
    if decided.rule is not None:
        assert outcomes[decided.rule] in ("held", "exceeded", "cannot be known")


@pytest.mark.parametrize("name", list(FACTS))
def test_every_fact_can_be_given(name: str) -> None:
    """At a stage and door that know it; it reads back as it was typed."""
    fact = FACTS[name]
    value = {
        FactType.NUMBER: "7", FactType.NETWORK_ADDRESS: "192.0.2.1", FactType.MAILBOX: "ann@example.org",
        FactType.DOMAIN: "example.org", FactType.LIST: "example.org,example.com",
        FactType.WORD: "pass" if "pass" in fact.words else "reject", FactType.TEXT: "word",
    }[fact.type]  # fmt: skip
    door, stage = next(iter(fact.known_from.items()))
    givens: tuple[Given, ...] = parse_facts([f"{name}={value}"])
    scope = scope_of(door, stage, givens)

    bound = bound_from(givens, scope)
    transaction = transaction_from(givens, scope)

    found = bound.get(name) or fact.read(transaction)
    assert ",".join(found) if isinstance(found, tuple) else str(found) == value


def test_list_tells_the_rules_in_order_and_the_sizes_of_sets(tmp_path: Path) -> None:
    """With stage, action, keys, and whether a rule only watches."""
    config = write(tmp_path)

    ran = mailreeve("rules", "list", "--config", config)

    assert (
        ran.out
        == """\
rcpt            office (line 5)  accept
rcpt            stop (line 6)  reject
rcpt            day (line 7)  limit, else defer  per sasl_username
rcpt            observe many (line 8)  limit, else hold  per client_address
rcpt            mark (line 9)  add-header
end-of-message  forged (line 12)  reject
end-of-message  hold-it (line 13)  hold
set             office  here: 2 entries
set             vip  file "vip.txt": 2 entries
table           quotas  file "quotas.csv": 1 rows
"""
    )
    listed = json.loads(mailreeve("rules", "list", "--json", "--config", config).out)
    assert [each["rule"] for each in listed["rules"]][:2] == ["office", "stop"]
    assert listed["named"][2] == {"kind": "table", "name": "quotas", "source": 'file "quotas.csv"', "size": 1}
