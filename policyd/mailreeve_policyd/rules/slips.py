"""What people write who know other languages, or begin with this one, and what it is here.

Like syntax.py: each `tell_*` knows one slip and gives None for any other. Knows no Lark but its tokens.
"""

from __future__ import annotations

import re

from lark import Token

from mailreeve_policyd.rules.situation import Situation
from mailreeve_policyd.rules.source import Mistake, Place, nearest, quote
from mailreeve_policyd.rules.verbs import SYNONYMS, Verb

_QUOTES = "`\u00ab\u00b4\u00bb\u2018\u2019\u201a\u201c\u201d\u201e\u201f"
_DASHES = "\u2010\u2011\u2012\u2013\u2014\u2212"
"""What word processors make of `"` and `-`."""

_FOREIGN = (
    ("==", "write `is`"), ("!=", "write `is not`"), ("<>", "write `is not`"), ("=~", "write `matches /.../`"),
    ("&&", "write `and`"), ("||", "write `or`"), ("!", "write `not`"), ("=", "write `is`"),
    ("'", 'texts stand in double quotes: "..."'), (";", "nothing ends a rule: the next name does"),
    ("//", "a comment begins with #"), ("/*", "a comment begins with #"), ("--", "a comment begins with #"),
    *((mark, 'texts stand in straight double quotes: "..."') for mark in _QUOTES),
    *((dash, "write a plain `-`") for dash in _DASHES),
)  # fmt: skip
"""What other languages write, longest first, and what this one does."""

_FOREIGN_WORDS = {
    "unless": "write `if not ...`", "when": "write `if`", "where": "write `if`", "equals": "write `is`",
    "contains": "write `matches /.../`; for a list `has`", "like": "write `matches /.../`",
    "and": "a rule does one thing: write two rules", "or": "a rule does one thing: write two rules",
    "then": "write `NAME: ACTION if CONDITION`",
}  # fmt: skip

_SPOKEN_PERIODS = {
    "s": "seconds", "sec": "seconds", "m": "minutes", "min": "minutes", "h": "hours", "hr": "hours",
    "hrs": "hours", "d": "days", "w": "days",
}  # fmt: skip

_DOTTED = r"[\w.@+*-]"


def foreign_word(word: str) -> str | None:
    """What a word of another language is here."""
    return _FOREIGN_WORDS.get(word.lower())


def tell_foreign(here: Situation) -> Mistake | None:
    """Signs."""
    if here.rest.startswith("=") and "EQUAL" in here.expected:
        return here.mistake(f"unexpected {quote(here.rest[:2])}", "write `=`")
    for written, hint in _FOREIGN:
        if here.rest.startswith(written):
            return here.mistake(f"unexpected {quote(written)}", hint)
    return None


def tell_number(here: Situation) -> Mistake | None:
    """`5MB`, `24h`, `1,000`, `1000.5`."""
    number = re.search(r"(?<![\w.])([0-9]{1,3})\Z", here.before)
    if number and (thousands := re.match(r"(?:[,'][0-9]{3})+(?![0-9])", here.rest)):
        digits = number[1] + re.sub(r"[^0-9]", "", thousands[0])
        return here.mistake("a number has no separators", f"write {digits}")
    if here.kind:
        return None
    if (fraction := re.match(r"[0-9]+\.[0-9]+(?![0-9.])", here.rest)) is not None:
        return here.mistake(f"{quote(fraction[0])} is no whole number", "a limit counts whole units")
    match = re.match(r"([0-9][0-9_]*)([A-Za-z_]\w*)", here.rest)
    if match is None:
        return None
    period = _SPOKEN_PERIODS.get(match[2].lower())
    hint = "write all digits: 5 MB are 5000000 bytes"
    if here.before.endswith("/") and period:
        hint = f"write `/{match[1]} {period}`" if match[2] != "w" else "write `/7 days`"
    return here.mistake(f"{quote(match[0])} is no number", hint)


def tell_action(here: Situation) -> Mistake | None:
    """A number behind what is no limit: `limt 60 messages/hour`, `reject 550`."""
    match = re.search(r":[ \t]*([A-Za-z_-]+)[ \t]+\Z", here.before)
    if here.kind != "NUMBER" or match is None:
        return None
    word = match[1]
    if word in [verb.value for verb in Verb]:
        return here.mistake(f"a text stands behind `{word}`", f'write `{word} "..."` in quotes')
    near = SYNONYMS.get(word.lower()) or nearest(word, ["limit", *(verb.value for verb in Verb)])
    at = Place(here.at.line, match.start(1) + 1)
    return Mistake(at, f"unknown action {quote(word)}", f"did you mean `{near or 'limit'}`?")


def tell_bare_text(here: Situation) -> Mistake | None:
    """`is example.org`, `is bob@example.org`, `under *.example.org`: a text without its quotes."""
    if here.rest[:1] not in (".", "@", "*", "+"):
        return None
    begin = re.search(rf"{_DOTTED}*\Z", here.before)
    end = re.match(rf"{_DOTTED}+", here.rest)
    if begin is None or end is None or not re.search(r"\w", begin[0] + end[0]):
        return None
    word, at = begin[0] + end[0], Place(here.at.line, begin.start() + 1)
    if word.startswith("*."):
        return Mistake(
            at, f"unexpected {quote(word)}", f'for a domain with all below it write `under "{word[2:62]}"`'
        )
    return Mistake(at, f"{quote(word)} is a text", f'write it in quotes: "{word[:60]}"')


def tell_name(here: Situation) -> Mistake | None:
    """`my.rule: ...`, `1st: ...`."""
    match = re.match(r"([\w.+@/-]+)[ \t]*:(?!:)", here.rest)
    if match is None or not here.begins_line or not here.may_end_rule:
        return None
    if match[1][0].isdigit():
        return here.mistake("a rule's name begins with a letter", f"write `r{match[1][:40]}`")
    right = re.sub(r"[^A-Za-z0-9_-]+", "-", match[1])
    return here.mistake(
        f"{quote(match[1])} is no name: letters, digits, `-` and `_`", f"write {quote(right)}"
    )


def tell_set(here: Situation) -> Mistake | None:
    """`set = ...`, `set office: ...`."""
    begun = here.previous[-1] if here.previous else None
    if here.kind == "EQUAL" and isinstance(begun, Token) and begun.type in ("SET", "TABLE"):
        return here.mistake(f"a {begun} has a name", f"write `{begun} NAME = ...`")
    match = re.search(r"\A[ \t]*(set|table)[ \t]+([\w-]+)[ \t]*\Z", here.before)
    if here.kind == "COLON" and match is not None:
        return here.mistake("unexpected `:`", f"write `{match[1]} {match[2][:40]} = ...`")
    return None


def tell_expect(here: Situation) -> Mistake | None:
    """`with FACT is ...`, `with ... and ...`."""
    if here.word == "is" and "EQUAL" in here.expected:
        return here.mistake("unexpected `is`: an expect line gives facts", "write `FACT = VALUE`")
    if here.word == "and" and {"COMMA", "AFTER"} <= here.expected:
        return here.mistake("unexpected `and`: facts are given one after another", "write a comma")
    return None


def tell_comma(here: Situation) -> Mistake | None:
    """One that is missing between entries, or one too many behind them."""
    begun = here.previous[-1] if here.previous else None
    if here.kind in ("STRING", "NETWORK", "NUMBER") and "COMMA" in here.expected:
        return here.mistake(f"unexpected {quote(here.word)}", "a comma is missing before this place")
    if isinstance(begun, Token) and begun.type == "COMMA":
        stands = quote(here.word or here.rest[:1])
        return here.mistake(f"unexpected {stands} behind a comma", "add an entry, or drop the comma")
    return None
