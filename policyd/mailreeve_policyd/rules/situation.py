"""Where parsing stopped, in the words of this grammar: Lark's two exceptions as one value.

Knows the names of the grammar's terminals; judges nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

from lark import Token, UnexpectedInput, UnexpectedToken

from mailreeve_policyd.rules.source import Mistake, Place, one_of, quote

_KEYWORDS = {
    "SET": "set", "TABLE": "table", "AT": "at", "EXPECT": "expect", "LIMIT": "limit", "PER": "per",
    "DISTINCT": "distinct", "ELSE": "else", "IF": "if", "AND": "and", "OR": "or", "NOT": "not", "IS": "is",
    "IN": "in", "HAS": "has", "UNDER": "under", "MATCHES": "matches", "WITH": "with", "WHERE": "where",
    "AFTER": "after", "ON_UNKNOWN": "on-unknown", "ATTRIBUTE": "attribute", "OBSERVE": "observe",
    "SPOOFABLE": "spoofable", "WARN": "warn at", "ON_UNAVAILABLE": "on-unavailable", "TEXT": "text",
    "REPLY_LANGUAGE": "reply-language",
}  # fmt: skip

_SPOKEN = {
    "LABEL": "the next rule (`name:`)", "NAME": "a word", "STRING": 'a text in quotes ("...")',
    "NUMBER": "a number", "NETWORK": "an address or network", "REGEX": "a pattern (/.../)",
    "ORDER": "`<`, `<=`, `>`, `>=`", "LBRACE": "`{`", "RBRACE": "`}`", "LPAR": "`(`", "RPAR": "`)`",
    "LSQB": "`[`", "RSQB": "`]`", "COLON": "`:`", "COMMA": "`,`", "EQUAL": "`=`", "SLASH": "`/`",
    "PERCENT": "`%`",
    "$END": "the end of the file",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Situation:
    """Where parsing stopped: what stands there, what could have, and the line up to it."""

    at: Place
    kind: str
    word: str
    rest: str
    before: str
    expected: frozenset[str]
    block: tuple[Place, str] | None
    previous: tuple[object, ...]
    parenthesis: int | None
    """The line of a `(` that is open."""

    @property
    def in_text(self) -> bool:
        """Is it inside the braces of a `text`?"""
        return self.block is not None and self.block[1].startswith("text ")

    @property
    def begins_line(self) -> bool:
        """Is it the first thing on its line?"""
        return not self.before.strip()

    @property
    def may_end_rule(self) -> bool:
        """Could the next rule begin here?"""
        return "LABEL" in self.expected

    def mistake(self, problem: str, hint: str | None = None) -> Mistake:
        """A mistake at this place."""
        return Mistake(self.at, problem, hint)


def situation_of(error: UnexpectedInput, text: str) -> Situation:
    """Where Lark stopped in this text, and why."""
    if isinstance(error, UnexpectedToken) and error.token.type != "$END":
        kind, word, offset = error.token.type, str(error.token), error.token.start_pos
        expected: Iterable[str] = error.expected
    elif isinstance(error, UnexpectedToken):
        kind, word, offset, expected = "$END", "", len(text.rstrip()), error.expected
    else:
        kind, word, offset = "", "", getattr(error, "pos_in_stream", None) or 0
        expected = getattr(error, "allowed", None) or ()
    line_start = text.rfind("\n", 0, offset) + 1
    line_end = text.find("\n", offset)
    rest = text[offset : line_end if line_end >= 0 else len(text)]
    place = Place(text.count("\n", 0, offset) + 1, offset - line_start + 1)
    stack = getattr(error.state, "value_stack", [])
    return Situation(
        place,
        kind,
        word,
        rest,
        before=text[line_start:offset],
        expected=frozenset(expected),
        block=_open_block(stack),
        previous=tuple(stack[-2:]),
        parenthesis=_open_parenthesis(stack),
    )


def _open_block(stack: list[object]) -> tuple[Place, str] | None:
    """The place and the words of what a `{` opened: `at rcpt`, `text "daily-limit"`."""
    for name, brace in pairwise(stack):
        if isinstance(brace, Token) and brace.type == "LBRACE" and isinstance(name, Token):
            keyword = "text" if name.type == "STRING" else "at"
            return Place(name.line or 1, name.column or 1), f"{keyword} {name}"
    return None


def _open_parenthesis(stack: list[object]) -> int | None:
    """The line of the innermost `(` without its `)`: one that is closed may still wait to become a list."""
    lines: list[int | None] = []
    for each in stack:
        if isinstance(each, Token) and each.type == "LPAR":
            lines.append(each.line)
        elif isinstance(each, Token) and each.type == "RPAR" and lines:
            lines.pop()
    return lines[-1] if lines else None


def what_stands(situation: Situation) -> str:
    """What is there, for a message."""
    if situation.kind == "$END":
        return "end of the file"
    return quote(situation.word or situation.rest[:1])


def what_may_stand(expected: Iterable[str]) -> str | None:
    """A hint that lists what could be there; None where nothing could."""
    spoken = [f"`{word}`" for terminal, word in _KEYWORDS.items() if terminal in expected]
    spoken += [words for terminal, words in _SPOKEN.items() if terminal in expected]
    return f"here may stand {one_of(spoken)}" if spoken else None
