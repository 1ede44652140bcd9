"""What a rule may name where it stands: the facts that its stage's door knows there, the sets, the tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial

from mailreeve_policyd.errors import StoreError
from mailreeve_policyd.escape import escape, escape_ascii
from mailreeve_policyd.facts import CANNOT_KNOW, FACTS, Door, Fact, FactType, FactValue
from mailreeve_policyd.rules.language import Language
from mailreeve_policyd.rules.lookups import Lookup, ValueT, lookup, lookup_fact
from mailreeve_policyd.rules.nodes import Subject, TextNode, Word
from mailreeve_policyd.rules.outside import Outside, bind
from mailreeve_policyd.rules.sets import LiveSet, NamedSet
from mailreeve_policyd.rules.source import Mistake, one_of, quote, suggest
from mailreeve_policyd.rules.tables import LiveTable, Table
from mailreeve_policyd.smtp import Stage
from mailreeve_policyd.transaction import Transaction

MAX_ATTRIBUTE_NAME = 100
"""Characters of `attribute("...")`: Postfix's longest is 24."""

_NOTHING = Outside()

_DOORS = {Door.POLICY: "the policy daemon", Door.MILTER: "the milter"}


@dataclass(frozen=True, slots=True)
class Scope:
    """Where a rule stands, and what it may name there."""

    stage: Stage
    door: Door
    sets: Mapping[str, NamedSet | LiveSet]
    tables: Mapping[str, Table | LiveTable]
    outside: Outside = _NOTHING
    texts: Mapping[str, TextNode] = field(default_factory=dict)
    language: Language | None = None
    """None where the file does not say."""

    def fact(self, subject: Subject) -> Fact:
        """The fact that is asked, if its door knows it at this stage.

        Raises:
            Mistake: it is unknown there, or everywhere.
        """
        if subject.table is not None:
            return self.table_fact(subject.table, subject)
        if subject.is_attribute:
            fact = _attribute(subject)
        elif subject.name in FACTS:
            fact = FACTS[subject.name]
        else:
            raise _unknown_fact(subject)
        first = fact.known_from.get(self.door)
        if first is None or first > self.stage:
            raise self._not_known(subject, fact, first)
        return bind(fact, subject, self.outside)

    def table_fact(self, table: Word, subject: Subject) -> Fact:
        """What stands in a table under a fact. Raises as `fact`, `table` and `lookup_fact`."""
        key = replace(subject, table=None)
        return lookup_fact(subject, self.fact(key), self.table(table))

    def lookup(self, subject: Subject, read: Callable[[str], ValueT]) -> Lookup[ValueT]:
        """The same, read as something else. Raises as `table_fact`, and as `lookup` for what it reads."""
        if subject.table is None:  # pragma: no cover -- the grammar gives a table here
            raise ValueError(subject)
        return lookup(subject, self.fact(replace(subject, table=None)), self.table(subject.table), read)

    def _not_known(self, subject: Subject, fact: Fact, first: Stage | None) -> Mistake:
        door, name = _DOORS[self.door], quote(fact.name)
        if first is not None:
            problem = f"{name} is not known at {self.stage.value}"
            return Mistake(subject.at, problem, f"it is known from {first.value} on")
        problem = f"{name} is not known to {door}, which decides {self.stage.value}"
        other, stage = next(iter(fact.known_from.items()))
        if other is Door.MILTER and stage is Stage.END_OF_MESSAGE:
            right = "let the milter decide it" if self.stage is stage else f"ask it `at {stage.value}`"
            return Mistake(subject.at, problem, f"it needs the message: {right}")
        return Mistake(subject.at, problem, f"{_DOORS[other]} knows it, from {stage.value} on")

    def named_set(self, word: Word) -> NamedSet | LiveSet:
        """The set of this name.

        Raises:
            Mistake: there is none.
        """
        found = self.sets.get(word.text)
        if found is None:
            hint = (
                suggest(word.text, self.sets) or f"write `set {word.text[:40]} = ...` at the top of the file"
            )
            raise Mistake(word.at, f"there is no set {quote(word.text)}", hint)
        return found

    def table(self, word: Word) -> Table | LiveTable:
        """The table of this name.

        Raises:
            Mistake: there is none.
        """
        found = self.tables.get(word.text)
        if found is None:
            hint = suggest(word.text, self.tables) or f'write `table {word.text[:40]} = file "..."`'
            raise Mistake(word.at, f"there is no table {quote(word.text)}", hint)
        return found


def _unknown_fact(subject: Subject) -> Mistake:
    name = quote(subject.name)
    hint = suggest(subject.name, FACTS)
    owners = [fact.name for fact in FACTS.values() if subject.name in fact.words]
    if owners and not hint:
        hint = f"{name} is a word of {one_of(owners)}: write `{owners[0]} in (a, b)`"
    return Mistake(subject.at, f"unknown fact {name}", hint or 'a newer attribute is `attribute("name")`')


def _attribute(subject: Subject) -> Fact:
    name = subject.name
    if not 0 < len(name) <= MAX_ATTRIBUTE_NAME or not name.isascii() or not name.isprintable():
        raise Mistake(subject.at, f"{quote(name)} is no name of an attribute", 'write `attribute("tls_sni")`')
    read = partial(_read_attribute, name)
    known_from = {Door.POLICY: Stage.CONNECT}
    return Fact(f'attribute("{name}")', FactType.TEXT, "an attribute that Postfix sent", known_from, read)


def _read_attribute(name: str, transaction: Transaction) -> FactValue | None:
    return transaction.attributes.get(name) or None


def is_unknown(fact: Fact, transaction: Transaction) -> bool:
    """Is there something of this fact that cannot be known now?"""
    if fact.maybe is not None:
        return bool(fact.maybe(transaction))
    if fact.is_live:
        return not _answers(fact, transaction)
    return fact.type is FactType.WORD and fact.read(transaction) == CANNOT_KNOW


def _answers(fact: Fact, transaction: Transaction) -> bool:
    try:
        fact.read(transaction)
    except StoreError:
        return False
    return True


def shown(fact: Fact, transaction: Transaction, ascii_only: bool = False) -> str:
    """A fact's value for a person or a reply: escaped, bounded.

    `(none)` where it is absent, `(unknown)` where a store cannot say.
    """
    try:
        value = fact.read(transaction)
    except StoreError:
        return "(unknown)"
    if value is None or value in ("", ()):
        return "(none)"
    text = ", ".join(value) if isinstance(value, tuple) else str(value)
    return escape_ascii(text) if ascii_only else escape(text)
