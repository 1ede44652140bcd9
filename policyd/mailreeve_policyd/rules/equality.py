"""Is a fact there, and is it what the rule says: a fact by itself, `is`, `is not`, words of a closed set."""

from __future__ import annotations

from collections.abc import Callable

from mailreeve_policyd.facts import CANNOT_KNOW, Fact, FactType, FactValue
from mailreeve_policyd.rules.comparing import TEXTS, Comparing, normal_of
from mailreeve_policyd.rules.logic import Test, all_of, negate
from mailreeve_policyd.rules.lookups import as_constant
from mailreeve_policyd.rules.nodes import Network, Number, Subject, Text, Value, ValueList, Word
from mailreeve_policyd.rules.sets import address_at, entry_of, texts_for
from mailreeve_policyd.rules.source import Mistake, one_of, quote, suggest
from mailreeve_policyd.transaction import Transaction


def present(comparing: Comparing) -> Test:
    """`sasl_username` by itself: is it there, and not empty."""
    read = comparing.fact.read

    def test(transaction: Transaction) -> bool | None:
        value = read(transaction)
        return value not in {None, "", ()}

    return test


def compile_is(comparing: Comparing) -> Test:
    """`is`: one of the fact's words, a constant, or what a table says."""
    if comparing.fact.type is FactType.WORD:
        return word_in(comparing.fact, frozenset((word_of(comparing, comparing.node.right),)))
    return _equals(comparing, wanted_when_there=True)


def compile_is_not(comparing: Comparing) -> Test:
    """`is not`: there, and another; False where the fact is absent."""
    if comparing.fact.type is FactType.WORD:
        among = word_in(comparing.fact, frozenset((word_of(comparing, comparing.node.right),)))
        return all_of([present(comparing), negate(among)])
    return _equals(comparing, wanted_when_there=False)


def _equals(comparing: Comparing, wanted_when_there: bool) -> Test:
    if isinstance(comparing.node.right, Subject):
        return _equals_table(comparing, comparing.node.right, wanted_when_there)
    read, right = comparing.fact.read, _constant(comparing)
    if comparing.fact.type in TEXTS:
        return _equals_text(read, str(right), wanted_when_there)
    normal = normal_of(comparing.fact.type)

    def test(transaction: Transaction) -> bool | None:
        value = read(transaction)
        return value is not None and (normal(value) == right) is wanted_when_there

    return test


def _equals_text(
    read: Callable[[Transaction], FactValue | None], right: str, wanted_when_there: bool
) -> Test:
    """What most rules do, without a call for each step: `normal_text` is written out."""

    def test(transaction: Transaction) -> bool | None:
        value = read(transaction)
        if value is None:
            return False
        text = value if isinstance(value, str) else str(value)
        return (text.lower() == right) is wanted_when_there

    return test


def _equals_table(comparing: Comparing, right: Subject, wanted_when_there: bool) -> Test:
    """Is the fact what stands in a table; where nothing does there is nothing to compare with."""
    kind, read = comparing.fact.type, comparing.fact.read
    if kind is FactType.LIST:
        raise comparing.wrong_operator()
    find, normal = comparing.scope.lookup(right, as_constant(kind)), normal_of(kind)

    def test(transaction: Transaction) -> bool | None:
        value = read(transaction)
        if value is None:
            return False
        other = find(transaction)
        return other is not None and (normal(value) == other) is wanted_when_there

    return test


def _constant(comparing: Comparing) -> str | int:
    """The right side of `is`, in the form in which the fact is compared."""
    right, kind = comparing.node.right, comparing.fact.type
    if kind in TEXTS:
        if isinstance(right, Text):
            if not right.text:
                name = comparing.node.subject.name
                raise Mistake(
                    right.at, f"{quote(comparing.fact.name)} is absent, never empty", f"write `not {name}`"
                )
            return next(iter(texts_for(kind, [entry_of(right)])))
        raise comparing.wrong_value("a text in quotes")
    if kind is FactType.NETWORK_ADDRESS:
        if isinstance(right, Text | Network):
            return address_at(right.at, right.text)
        raise comparing.wrong_value("an address")
    if kind is FactType.NUMBER:
        if isinstance(right, Number):
            return right.value
        raise comparing.wrong_value("a number")
    raise comparing.wrong_operator()


def word_of(comparing: Comparing, value: Value | ValueList | Subject | None) -> str:
    """A word of the fact's closed set; Mistake, with the nearest one, where it is none."""
    fact = comparing.fact
    if not isinstance(value, Word | Text):
        raise comparing.wrong_value("one of its words")
    if value.text not in fact.words:
        words = sorted(fact.words)
        problem = f"{quote(value.text)} is no word of {quote(fact.name)}"
        raise Mistake(value.at, problem, suggest(value.text, words) or f"its words: {one_of(words)}")
    return value.text


def word_in(fact: Fact, words: frozenset[str]) -> Test:
    """Is the fact one of the words; None where it cannot be known now."""
    read = fact.read

    def test(transaction: Transaction) -> bool | None:
        value = read(transaction)
        if value in words:
            return True
        return None if value == CANNOT_KNOW else False

    return test
