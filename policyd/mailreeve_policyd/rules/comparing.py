"""One comparison of a rule while it is compiled, with the fact that it asks; the forms that values then have.

Knows which operators are meant for which facts, to tell who wrote another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from mailreeve_policyd.facts import Fact, FactType, FactValue
from mailreeve_policyd.rules.nodes import Comparison, Subject, Value, ValueList, Word
from mailreeve_policyd.rules.scope import Scope
from mailreeve_policyd.rules.sets import NamedSet, normal_text
from mailreeve_policyd.rules.source import Mistake, Place, quote

TEXTS = (FactType.TEXT, FactType.MAILBOX, FactType.DOMAIN)
"""The types of facts that compare as texts do, without case."""

_EQUALITY = "`is`, `is not`, `in`"
_APPLICABLE = {
    FactType.TEXT: f"{_EQUALITY}, `under`, `matches`",
    FactType.MAILBOX: f"{_EQUALITY}, `matches`",
    FactType.DOMAIN: f"{_EQUALITY}, `under`, `matches`",
    FactType.NETWORK_ADDRESS: f"{_EQUALITY} (a network or a set)",
    FactType.NUMBER: f"{_EQUALITY}, `<`, `<=`, `>`, `>=`",
    FactType.WORD: _EQUALITY,
    FactType.LIST: "`has`",
}
_ARTICLES = {
    FactType.TEXT: "a text", FactType.MAILBOX: "an address", FactType.DOMAIN: "a domain",
    FactType.NETWORK_ADDRESS: "a network address", FactType.NUMBER: "a number", FactType.WORD: "a word",
    FactType.LIST: "a list",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Comparing:
    """One comparison to compile, with the fact that it asks."""

    fact: Fact
    node: Comparison
    scope: Scope

    @property
    def at(self) -> Place:
        """Where the comparison stands: its right side, or the fact where it has none."""
        right = self.node.right
        return right.at if right is not None else self.node.subject.at

    def wrong_operator(self) -> Mistake:
        """What to raise for an operator that is not for this type of fact."""
        kind = self.fact.type
        problem = (
            f"`{self.node.operator.value}` is not for {quote(self.fact.name)}, which is {_ARTICLES[kind]}"
        )
        return Mistake(self.node.subject.at, problem, f"compare it with {_APPLICABLE[kind]}")

    def wrong_value(self, wanted: str) -> Mistake:
        """What to raise where `wanted` should stand to the right."""
        name, kind = quote(self.fact.name), _ARTICLES[self.fact.type]
        return Mistake(
            self.at, f"{name} is {kind} and can only be compared with {wanted}", _hint_for(self.node.right)
        )

    def literals(self, wanted: str, kinds: tuple[type, ...]) -> list[Value]:
        """What stands in the rule itself to the right of `in` or `under`."""
        found: list[Value] = [value for value in values_of(self.node.right) if not isinstance(value, Word)]
        for value in found:
            if not isinstance(value, kinds):
                raise Mistake(value.at, f"{quote(self.fact.name)} is compared with {wanted}")
        return found

    def known_sets(self) -> list[NamedSet]:
        """The sets named there, but those that are asked where they live."""
        named = [
            self.scope.named_set(value) for value in values_of(self.node.right) if isinstance(value, Word)
        ]
        return [each for each in named if isinstance(each, NamedSet)]


def _hint_for(value: Value | ValueList | Subject | None) -> str | None:
    if isinstance(value, Word):
        return f'a text stands in quotes: "{value.text[:40]}"; for a set write `in`'
    return None


def values_of(right: Value | ValueList | Subject | None) -> Iterable[Value]:
    """What stands to the right, one or several, in order; none where nothing does or a table is asked."""
    if right is None or isinstance(right, Subject):
        return ()
    return right.values if isinstance(right, ValueList) else (right,)


def _lowered(value: FactValue) -> str:
    return normal_text(str(value))


def itself(value: FactValue) -> FactValue:
    """The form of what compares as it is."""
    return value


def normal_of(kind: FactType) -> Callable[[FactValue], FactValue]:
    """What brings a fact's value into the form in which its type compares: texts without case, for one."""
    if kind in TEXTS:
        return _lowered
    return str if kind is FactType.NETWORK_ADDRESS else itself
