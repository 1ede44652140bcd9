"""Rules and conditions as text: what `rules explain` shows, clause by clause."""

from __future__ import annotations

from itertools import pairwise

from mailreeve_policyd.rules.nodes import (
    AllOf,
    AnyOf,
    Block,
    Comparison,
    Condition,
    Not,
    Number,
    Operator,
    Subject,
    Text,
    Value,
    ValueList,
)
from mailreeve_policyd.rules.source import Place, Source


def texts_of(block: Block, source: Source) -> list[str]:
    """The text of each rule of a block as it stands in the file, without comments behind it."""
    lines = source.text.split("\n")
    places = [*(node.at for node in block.rules), block.end]
    return [_between(lines, begin, end) for begin, end in pairwise(places)]


def _between(lines: list[str], begin: Place, end: Place) -> str:
    found = lines[begin.line - 1 : end.line]
    found[-1] = found[-1][: end.column - 1]
    found[0] = found[0][begin.column - 1 :]
    while len(found) > 1 and found[-1].strip()[:1] in ("", "#"):
        found.pop()
    return "\n".join(found).rstrip()


def format_condition(condition: Condition) -> str:
    """On one line; what is not told apart by the order of `not`, `and`, `or` stands in parentheses."""
    match condition:
        case Comparison():
            return _comparison(condition)
        case Not():
            return f"not {_inner(condition.inner, (AnyOf, AllOf))}"
        case AllOf():
            return " and ".join(_inner(part, (AnyOf,)) for part in condition.parts)
        case AnyOf():
            return " or ".join(format_condition(part) for part in condition.parts)


def _inner(condition: Condition, looser: tuple[type, ...]) -> str:
    text = format_condition(condition)
    return f"({text})" if isinstance(condition, looser) else text


def _comparison(comparison: Comparison) -> str:
    subject = _subject(comparison.subject)
    if comparison.operator is Operator.PRESENT or comparison.right is None:
        return subject
    right = _right(comparison.right)
    if comparison.operator is Operator.MATCHES and isinstance(comparison.right, Text):
        right = f"/{comparison.right.text.replace('/', chr(92) + '/')}/{'i' * comparison.ignore_case}"
    return f"{subject} {comparison.operator.value} {right}"


def _subject(subject: Subject) -> str:
    name = f"attribute({_quoted(subject.name)})" if subject.is_attribute else subject.name
    return f"{subject.table.text}[{name}]" if subject.table is not None else name


def _right(right: Value | ValueList | Subject) -> str:
    if isinstance(right, Subject):
        return _subject(right)
    if isinstance(right, ValueList):
        return f"({', '.join(_value(value) for value in right.values)})"
    return _value(right)


def _value(value: Value) -> str:
    if isinstance(value, Text):
        return _quoted(value.text)
    return str(value.value) if isinstance(value, Number) else value.text


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
