"""Which rules can hold at all: one look-up for all rules that compare one fact with constants.

Most rules of a long file name one login, domain or network, and most mail is none of theirs. What a rule's
condition needs so that it is not false is its triggers; an index asks each fact once, and leaves out the
rules whose triggers it does not find. Leaves out only what is false: what a rule that is asked says, and
their order, is not its affair. Knows conditions and facts; knows no rule, no verdict and no limit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from mailreeve_policyd.facts import Fact, FactType, FactValue
from mailreeve_policyd.rules.membership import ancestors
from mailreeve_policyd.rules.networks import parse_network
from mailreeve_policyd.rules.nodes import (
    AllOf,
    AnyOf,
    Comparison,
    Condition,
    Network,
    Operator,
    Text,
    ValueList,
)
from mailreeve_policyd.rules.scope import Scope
from mailreeve_policyd.rules.sets import entry_of, normal_text, texts_for
from mailreeve_policyd.transaction import Transaction

FEWEST_RULES = 3
"""That compare one fact in one way: for fewer the look-up costs as much as to ask them."""

MAX_TRIGGERS = 64
"""Of one rule. Who names more has them in a set, which is one look-up already."""

_TEXTS = (FactType.TEXT, FactType.MAILBOX, FactType.DOMAIN)

_Read = Callable[[Transaction], FactValue | None]


class _Kind(Enum):
    """How a fact is compared with a trigger's value."""

    EQUAL = "equal"
    UNDER = "under"
    NETWORK = "network"


_KINDS = {Operator.IS: _Kind.EQUAL, Operator.IN: _Kind.EQUAL, Operator.UNDER: _Kind.UNDER}
"""Of texts."""


@dataclass(frozen=True, slots=True)
class Trigger:
    """A condition may hold where this fact is this text, lies under this domain or in this network."""

    fact: Fact
    kind: _Kind
    value: str

    @property
    def question(self) -> tuple[str, _Kind]:
        """What is looked up once for all triggers that have it in common."""
        return self.fact.name, self.kind


Triggers = tuple[Trigger, ...]


def triggers_of(condition: Condition | None, scope: Scope) -> Triggers | None:
    """If none of these is met, the condition is False, never unknown. None: it must be asked each time.

    The condition has been compiled in this scope before: its mistakes were found then.
    """
    found = _triggers(condition, scope)
    return found if found is not None and len(found) <= MAX_TRIGGERS else None


def _triggers(condition: Condition | None, scope: Scope) -> Triggers | None:
    if isinstance(condition, Comparison):
        return _of_comparison(condition, scope)
    if isinstance(condition, AnyOf):
        found: list[Trigger] = []
        for part in condition.parts:
            triggers = _triggers(part, scope)
            if triggers is None:
                return None
            found += triggers
        return tuple(found)
    if isinstance(condition, AllOf):
        # one part that is false settles it, whatever the others say
        each = [triggers for part in condition.parts if (triggers := _triggers(part, scope)) is not None]
        return min(each, key=len, default=None)
    return None


def _of_comparison(node: Comparison, scope: Scope) -> Triggers | None:
    if node.subject.table is not None:
        return None
    literals, fact = _literals(node.right), scope.fact(node.subject)
    if literals is None or fact.is_live:
        return None
    kind = _kind(node.operator, fact.type)
    if kind is None:
        return None
    values: Iterable[str] = [literal.text for literal in literals]
    if kind is not _Kind.NETWORK:
        entries = [entry_of(literal) for literal in literals]
        values = texts_for(FactType.DOMAIN if kind is _Kind.UNDER else fact.type, entries)
    return tuple(Trigger(fact, kind, value) for value in values)


def _kind(operator: Operator, fact_type: FactType) -> _Kind | None:
    if fact_type is FactType.NETWORK_ADDRESS:
        return _Kind.NETWORK if operator is Operator.IN else None
    return _KINDS.get(operator) if fact_type in _TEXTS else None


def _literals(right: object) -> list[Text | Network] | None:
    """What stands in the rule itself, if nothing else does."""
    values: Sequence[object] = right.values if isinstance(right, ValueList) else (right,)
    literals = [value for value in values if isinstance(value, Text | Network)]
    return literals if len(literals) == len(values) else None


# -- looking up ----------------------------------------------------------------------------------------


_Positions = tuple[int, ...]
_LookUp = Callable[[Transaction], Iterable[_Positions]]


class RuleIndex:
    """Of the rules of a block, each known by its triggers, those that can hold. Safe from any thread."""

    __slots__ = ("_always", "_look_ups")

    def __init__(self, rules: Sequence[Triggers | None]) -> None:
        counted = Counter(question for each in rules if each for question in {one.question for one in each})
        by_question: dict[tuple[str, _Kind], list[tuple[Trigger, int]]] = {}
        always = []
        for position, triggers in enumerate(rules):
            if triggers is None or any(counted[one.question] < FEWEST_RULES for one in triggers):
                always.append(position)
                continue
            for one in triggers:
                by_question.setdefault(one.question, []).append((one, position))
        self._always = tuple(always)
        self._look_ups = tuple(_look_up(found) for found in by_question.values())

    def candidates(self, transaction: Transaction) -> _Positions:
        """The positions of all rules that may hold, or be unknown, in their order."""
        found: list[int] = []
        for look_up in self._look_ups:
            for positions in look_up(transaction):
                found += positions
        return tuple(sorted({*self._always, *found})) if found else self._always


def _look_up(found: Sequence[tuple[Trigger, int]]) -> _LookUp:
    first = found[0][0]
    by_value: dict[str, _Positions] = {}
    for trigger, position in found:
        by_value[trigger.value] = (*by_value.get(trigger.value, ()), position)
    return _LOOK_UPS[first.kind](first.fact.read, by_value)


def _equal(read: _Read, by_value: Mapping[str, _Positions]) -> _LookUp:
    def look_up(transaction: Transaction) -> Iterable[_Positions]:
        value = read(transaction)
        if value is None:
            return ()
        positions = by_value.get(normal_text(value if isinstance(value, str) else str(value)))
        return () if positions is None else (positions,)

    return look_up


def _under(read: _Read, by_value: Mapping[str, _Positions]) -> _LookUp:
    def look_up(transaction: Transaction) -> Iterable[_Positions]:
        value = read(transaction)
        if value is None:
            return ()
        return [by_value[domain] for domain in ancestors(value) if domain in by_value]

    return look_up


def _within(read: _Read, by_value: Mapping[str, _Positions]) -> _LookUp:
    v4: dict[int, dict[int, _Positions]] = {}
    v6: dict[int, dict[int, _Positions]] = {}
    for text, positions in by_value.items():
        network: IPv4Network | IPv6Network = parse_network(text)
        shift = network.max_prefixlen - network.prefixlen
        by_shift = v4 if network.version == 4 else v6
        members = by_shift.setdefault(shift, {})
        bits = int(network.network_address) >> shift
        members[bits] = (*members.get(bits, ()), *positions)  # one network may be written in several ways

    def look_up(transaction: Transaction) -> Iterable[_Positions]:
        value = read(transaction)
        if not isinstance(value, IPv4Address | IPv6Address):
            return ()
        bits = int(value)
        by_shift = v4 if isinstance(value, IPv4Address) else v6
        return [members[bits >> shift] for shift, members in by_shift.items() if bits >> shift in members]

    return look_up


_LOOK_UPS: Mapping[_Kind, Callable[[_Read, Mapping[str, _Positions]], _LookUp]] = {
    _Kind.EQUAL: _equal,
    _Kind.UNDER: _under,
    _Kind.NETWORK: _within,
}
