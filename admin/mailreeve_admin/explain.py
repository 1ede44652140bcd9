"""What the rules make of a message that a person describes, by the code that decides real mail.

The same compiled rules and the same Policy.decide, over a store that is only looked at. Knows how the
description becomes a transaction for each stage, and at which moments each door asks; prints nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from mailreeve_milter.answers import respond
from mailreeve_policyd.escape import escape
from mailreeve_policyd.facts import FACTS, Door, Fact, FactType, FactValue
from mailreeve_policyd.judgement import OnUnknown, Step
from mailreeve_policyd.limits import Charge, Charged, LimitStore, Usage, charge_one_by_one
from mailreeve_policyd.policy import Policy
from mailreeve_policyd.postfix import format_answer
from mailreeve_policyd.rules import Ruleset
from mailreeve_policyd.rules.conditions import Clause
from mailreeve_policyd.rules.given import bound_from, transaction_from
from mailreeve_policyd.rules.nodes import Given, Number, Subject, Text, Value, ValueList
from mailreeve_policyd.rules.outside import BOUND_FACTS, Outside
from mailreeve_policyd.rules.ruleset import Rule
from mailreeve_policyd.rules.scope import Scope, shown
from mailreeve_policyd.rules.source import Mistake, Place, suggest
from mailreeve_policyd.smtp import Stage
from mailreeve_policyd.transaction import Transaction
from mailreeve_policyd.verdict import Action, Verdict

MAX_FACTS = 100
MAX_VALUE = 4096
"""Of what is typed: more than any MTA sends."""

_NOWHERE = Place(1, 1)
_ATTRIBUTE = re.compile(r'attribute\("?([^"=]+)"?\)\Z')

_TOGETHER = (Stage.CONNECT, Stage.HELO, Stage.MAIL, Stage.RCPT)
"""What Postfix has decided at RCPT in one request (smtpd_delay_reject, its default)."""

# Facts that every message has: where one is asked and not given, nobody can say what the stage decides.
# Each with those that say it, too.
_EXPECTED: Mapping[str, frozenset[str]] = {
    "client_address": frozenset(("client_address",)),
    "client_network": frozenset(("client_address", "client_network")),
    "client_country": frozenset(("client_address", "client_country")),
    "client_asn": frozenset(("client_address", "client_asn")),
    "recipient": frozenset(("recipient",)),
    "recipient_domain": frozenset(("recipient", "recipient_domain")),
    "spf": frozenset(("spf",)),
    "spf_helo": frozenset(("spf_helo",)),
    "iprev": frozenset(("iprev",)),
    "dkim": frozenset(("dkim", "dkim_domains")),
    "dkim_domains": frozenset(("dkim", "dkim_domains")),
    "dmarc": frozenset(("dmarc",)),
    "dmarc_policy": frozenset(("dmarc", "dmarc_policy")),
    "header_from": frozenset(("header_from",)),
    "header_from_domain": frozenset(("header_from", "header_from_domain")),
}
_OF_ONE_RECIPIENT = frozenset(("recipient", "recipient_domain"))
"""After rcpt they are absent where there are several, and so need not be given."""


Asking = tuple[Door, Stage, tuple[Stage, ...]]
"""A door, the moment at which it is asked, and the blocks that run then, in order."""


class LookingStore:
    """A LimitStore that answers as another would, and counts nothing."""

    def __init__(self, store: LimitStore) -> None:
        self._store = store

    def charge(self, charges: Sequence[Charge]) -> tuple[Usage, ...]:
        """What charging would answer."""
        return self._store.usage(charges)

    def charge_each(self, calls: Sequence[Sequence[Charge]]) -> list[Charged]:
        """What charging each alone would answer."""
        return charge_one_by_one(self, calls)

    def usage(self, charges: Sequence[Charge]) -> tuple[Usage, ...]:
        """LimitStore.usage."""
        return self._store.usage(charges)

    def close(self) -> None:
        """Close the other."""
        self._store.close()


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a rule's condition: what it came to, and the facts that a comparison asked, with values."""

    text: str
    held: bool | None
    depth: int
    facts: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Told:
    """One rule: what became of it, and why."""

    rule: Rule
    step: Step
    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class Moment:
    """What one door is asked at one moment, and what it answers; `stages` are the blocks that run."""

    door: Door
    stage: Stage
    stages: tuple[Stage, ...]
    rules: tuple[Told, ...]
    verdict: Verdict

    @property
    def answer(self) -> str:
        """In the words of the door's protocol."""
        if self.door is Door.POLICY:
            return format_answer(self.verdict, self.stage).octets.decode("ascii").strip()
        response = respond(self.verdict)
        text = f"{response.answer.value} {response.reply}" if response.reply else response.answer.value
        if self.verdict.action is Action.HOLD:
            text += f" (quarantine at end-of-message: {self.verdict.reason or ''})"
        return text


@dataclass(frozen=True, slots=True)
class Left:
    """A stage that cannot be decided by what was given, and the facts that are missing."""

    stage: Stage
    missing: tuple[str, ...]


def parse_facts(words: Sequence[str]) -> tuple[Given, ...]:
    """`sasl_username=bob client_address=203.0.113.9`; several values of a list have commas between them.

    Raises:
        Mistake: there is no such fact, or it cannot have this value.
    """
    if len(words) > MAX_FACTS:
        raise Mistake(_NOWHERE, f"more than {MAX_FACTS} facts")
    return tuple(_parse_fact(word) for word in words)


def moments_of(
    doors: Mapping[Stage, Door], ruleset: Ruleset, facts: Sequence[Given], stage: Stage | None = None
) -> tuple[list[Asking], list[Left]]:
    """When which door runs which blocks for such a message, and which stages cannot be decided.

    With `stage` that one alone, decided with what is not given absent.
    """
    if stage is not None:
        return [(doors[stage], stage, (stage,))] if stage in doors else [], []
    given = {fact.subject.name for fact in facts}
    ours = [each for each in Stage if each in doors and ruleset.rules_at(each)]
    left = [Left(each, missing) for each in ours if (missing := _missing(ruleset, each, given))]
    decided = [each for each in ours if each not in {one.stage for one in left}]
    early = tuple(each for each in decided if each in _TOGETHER and doors[each] is Door.POLICY)
    moments: list[Asking] = (
        [(Door.POLICY, Stage.RCPT if Stage.RCPT in early else early[-1], early)] if early else []
    )
    moments += [(doors[each], each, (each,)) for each in decided if each not in early]
    return sorted(moments, key=lambda moment: moment[1].position), left


def explain(
    ruleset: Ruleset,
    store: LimitStore,
    moments: Sequence[Asking],
    facts: Sequence[Given],
    on_unknown: OnUnknown = OnUnknown.DEFER,
) -> list[Moment]:
    """What happens at these moments, up to the first that refuses. Counts nothing.

    Raises:
        Mistake: a fact has a value that it cannot have.
    """
    told: list[Moment] = []
    for door, stage, stages in moments:
        known = _known(facts, door, stage)
        scope = scope_of(door, stage, facts)
        bound = bound_from(known, scope)
        asked = ruleset.given(bound) if bound and ruleset.given is not None else ruleset
        policy = Policy(asked, LookingStore(store), door, on_unknown)
        transaction = transaction_from(known, scope)
        explanation = policy.explain(transaction, verdict := policy.decide(transaction, stages), stages)
        rules = [rule for each in stages for rule in asked.rules_at(each)]
        told.append(Moment(door, stage, stages, _tell(rules, explanation.steps, transaction), verdict))
        if verdict.action.refuses or verdict.action is Action.DISCARD:
            break
    return told


def scope_of(door: Door, stage: Stage, facts: Sequence[Given]) -> Scope:
    """Where the facts are read: those that the outside would say are what was given."""
    said: dict[str, FactValue] = dict.fromkeys(
        (each.subject.name for each in facts if each.subject.name in BOUND_FACTS), ""
    )
    return Scope(stage, door, {}, {}, Outside(given=said))


def _known(facts: Sequence[Given], door: Door, stage: Stage) -> tuple[Given, ...]:
    """What of the message the door knows by then."""
    return tuple(each for each in facts if _is_known(each.subject, door, stage))


def _is_known(subject: Subject, door: Door, stage: Stage) -> bool:
    if subject.is_attribute:
        return door is Door.POLICY
    first = FACTS[subject.name].known_from.get(door)
    return first is not None and first <= stage


def _missing(ruleset: Ruleset, stage: Stage, given: set[str]) -> tuple[str, ...]:
    asked = {fact.name for rule in ruleset.rules_at(stage) for fact in rule.facts}
    return tuple(
        name
        for name, said_by in _EXPECTED.items()
        if name in asked
        and given.isdisjoint(said_by)
        and not (name in _OF_ONE_RECIPIENT and stage is not Stage.RCPT)
    )


def _parse_fact(word: str) -> Given:
    name, equals, text = word.partition("=")
    attribute = _ATTRIBUTE.match(name)
    if not equals:
        raise Mistake(_NOWHERE, f"{escape(word)!r} gives no value", "write sasl_username=bob")
    if len(text) > MAX_VALUE:
        raise Mistake(_NOWHERE, f"the value of {escape(name)} is longer than {MAX_VALUE} characters")
    if attribute is not None:
        return Given(Subject(_NOWHERE, attribute[1], is_attribute=True), Text(_NOWHERE, text))
    fact = FACTS.get(name)
    if fact is None:
        hint = suggest(name, FACTS) or "docs/rules.md lists the facts"
        raise Mistake(_NOWHERE, f"there is no fact {escape(name)!r}", hint)
    return Given(Subject(_NOWHERE, name), _value(fact, text))


def _value(fact: Fact, text: str) -> Value | ValueList:
    if fact.type is FactType.NUMBER and text.isascii() and text.isdigit() and len(text) <= 15:
        return Number(_NOWHERE, int(text))
    if fact.type is FactType.LIST:
        return ValueList(_NOWHERE, tuple(Text(_NOWHERE, each.strip()) for each in text.split(",")))
    return Text(_NOWHERE, text)


def _tell(rules: Sequence[Rule], steps: Sequence[Step], transaction: Transaction) -> tuple[Told, ...]:
    return tuple(
        Told(rule, step, tuple(_parts(rule, transaction))) for rule, step in zip(rules, steps, strict=True)
    )


def _parts(rule: Rule, transaction: Transaction) -> Iterator[Part]:
    if rule.clause is not None:
        yield from _asked(rule.clause, transaction, 0)


def _asked(clause: Clause, transaction: Transaction, depth: int) -> Iterator[Part]:
    values = {fact.name: shown(fact, transaction) for fact in clause.facts}
    yield Part(clause.text, clause.test(transaction), depth, tuple(values.items()))
    for part in clause.parts:
        yield from _asked(part, transaction, depth + 1)
