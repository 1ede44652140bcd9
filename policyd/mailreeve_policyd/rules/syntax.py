"""What the parser could not read, told as a person would: the place, the mistake, what would be right.

Each `_tell_*` knows one mistake that administrators make and gives None for any other.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from lark import Token, UnexpectedInput

from mailreeve_policyd.rules.situation import Situation, situation_of, what_may_stand, what_stands
from mailreeve_policyd.rules.slips import (
    foreign_word,
    tell_action,
    tell_bare_text,
    tell_comma,
    tell_expect,
    tell_foreign,
    tell_name,
    tell_number,
    tell_set,
)
from mailreeve_policyd.rules.source import Mistake, Place, nearest, one_of, quote

_OPERATORS = (
    *("is", "in", "has", "under", "matches", "and", "or", "if", "else", "not", "on-unknown"),
    *("spoofable", "warn", "on-unavailable", "text"),
)

_STATEMENTS = ("set", "table", "text", "reply-language", "at", "expect")
_SPOKEN_STATEMENTS = tuple(f"`{word}`" for word in _STATEMENTS)

_CODE = re.compile(r"[0-9]+\.[0-9.]+")
_WORDS_THEN_COLON = re.compile(r"[A-Za-z_][\w-]*(?:[ \t]+[\w-]+)+(?=[ \t]*:)")


def check_characters(text: str) -> None:
    """A rules file holds printable characters, spaces, tabs and line ends.

    Raises:
        Mistake: it holds another: a control, a no-break space, a mark that turns the direction of text.
    """
    if text.translate(_DROP_SPACE).isprintable():
        return
    for number, line in enumerate(text.split("\n"), 1):
        for column, character in enumerate(line, 1):
            if not character.isprintable() and character not in "\t\r":
                problem = f"the character U+{ord(character):04X} may not stand in a rules file"
                raise Mistake(Place(number, column), problem, "retype this place with plain spaces")


_DROP_SPACE = {ord(character): None for character in "\t\r\n"}


def syntax_mistake(error: UnexpectedInput, text: str) -> Mistake:
    """The mistake behind an exception of Lark's for this text."""
    situation = situation_of(error, text)
    for tell in _TELLERS:
        mistake = tell(situation)
        if mistake is not None:
            return mistake
    return situation.mistake(f"unexpected {what_stands(situation)}", what_may_stand(situation.expected))


def _tell_open_block(here: Situation) -> Mistake | None:
    starts_statement = here.kind == "$END" or (
        here.begins_line
        and here.word in ("at", "set", "table", "text", "expect", "reply-language")
        and not here.rest.strip().endswith(":")
    )
    if here.block is None or not starts_statement or not {"LABEL", "RBRACE"} & here.expected:
        return None
    opened, words = here.block
    problem = f"the block {quote(words + ' {')} of line {opened.line} is not closed"
    return here.mistake(problem, "a `}` is missing before this place")


def _tell_end(here: Situation) -> Mistake | None:
    if here.kind != "$END":
        return None
    return here.mistake("the file ends in the middle of a statement", what_may_stand(here.expected))


def _tell_condition_first(here: Situation) -> Mistake | None:
    if not re.search(r":\s*(if|when|unless)\b[^\n:]*\Z", here.before):
        return None
    return here.mistake("a rule names its action first", "write `NAME: ACTION if CONDITION`")


def _tell_else(here: Situation) -> Mistake | None:
    if here.word != "else":
        return None
    hint = "write `NAME: limit N unit/period per KEY else ACTION if CONDITION`; for other actions, two rules"
    return here.mistake("`else` belongs to a limit and stands before `if`", hint)


def _tell_on_unknown(here: Situation) -> Mistake | None:
    if here.word != "on-unknown":
        return None
    return here.mistake("`on-unknown` ends a rule with a condition", "write `if CONDITION on-unknown defer`")


def _tell_limit_parts(here: Situation) -> Mistake | None:
    if here.word not in ("spoofable", "warn", "on-unavailable", "on", "unavailable") or not here.may_end_rule:
        return None
    hint = "write `limit ... per KEY spoofable warn at 80% else ACTION on-unavailable WORD if CONDITION`"
    return here.mistake(f"{quote(here.word)} is a part of a limit, and they have one order", hint)


def _tell_percent(here: Situation) -> Mistake | None:
    if here.expected == {"PERCENT"}:
        return here.mistake("a limit warns at a share of its maximum", "write `warn at 80%`")
    if here.previous and getattr(here.previous[-1], "type", "") == "WARN":
        return here.mistake(f"unexpected {what_stands(here)} after `warn`", "write `warn at 80%`")
    return None


def _tell_wordings(here: Situation) -> Mistake | None:
    if not here.in_text or here.block is None:
        return None
    begun = here.previous[-1] if here.previous else None
    if isinstance(begun, Token) and begun.value in ("at", "set", "table", "expect"):
        at, (opened, words) = Place(begun.line or 1, begun.column or 1), here.block
        problem = f"the block {quote(words + ' {')} of line {opened.line} is not closed"
        return Mistake(at, problem, "a `}` is missing before this place")
    hint = 'write `text "daily-limit" { en "..." de "..." }`'
    return here.mistake(f"unexpected {what_stands(here)} in a text of several languages", hint)


def _tell_late_if(here: Situation) -> Mistake | None:
    if here.word not in ("if", "per") or here.word.upper() in here.expected:
        return None
    if here.word == "per" and "SLASH" in here.expected:
        return here.mistake("a limit names its period after a slash", "write `60 recipients/minute per KEY`")
    return None


def _tell_limit(here: Situation) -> Mistake | None:
    if here.expected == {"LSQB"}:
        hint = "write `limit 60 recipients/minute per KEY` or `limit TABLE[KEY] per KEY`"
        return here.mistake("a limit begins with a number or a table", hint)
    if "PER" in here.expected:
        hint = "write `per sasl_username`, or another fact, after the period"
        return here.mistake("a limit says `per` what it counts", hint)
    match here.previous:
        case (Token(type="NUMBER") as number, Token(type="NAME", value="per") as word):
            hint = f"write `{number[:15]} recipients/hour per KEY`"
            at = Place(word.line or 1, word.column or 1)
            return Mistake(at, "a limit says what it counts and in what time", hint)
    if here.rest.startswith("/") and "DISTINCT" in here.expected:
        return here.mistake(
            "a limit says what it counts", "write `60 messages/minute` or `60 recipients/minute`"
        )
    return None


def _tell_bare_entry(here: Situation) -> Mistake | None:
    match here.previous:
        case (Token(type="EQUAL"), Token(type="NAME") as word) if here.expected == {"STRING"}:
            at = Place(word.line or 1, word.column or 1)
            return Mistake(
                at, f"unexpected {quote(word)}", f'write `"{word[:40]}"` in quotes, or `file "..."`'
            )
    return None


def _tell_open_parenthesis(here: Situation) -> Mistake | None:
    if here.parenthesis is None or "RPAR" not in here.expected or here.kind in ("", "EQUAL", "ORDER"):
        return None
    hint = "a comma or `)` is missing before this place" if "COMMA" in here.expected else "a `)` is missing"
    return here.mistake(f"unexpected {what_stands(here)}: the `(` of line {here.parenthesis} is open", hint)


def _tell_brace(here: Situation) -> Mistake | None:
    if here.expected != {"LBRACE"}:
        return None
    if getattr(here.previous[0], "type", "") == "TEXT":
        hint = 'write `text "daily-limit" { en "..." de "..." }`'
        return here.mistake("the languages of a text stand in braces", hint)
    return here.mistake("the rules of a block stand in braces", "write `at STAGE {`")


def _tell_outside(here: Situation) -> Mistake | None:
    if not {"AT", "SET"} <= here.expected or here.kind not in ("NAME", "RBRACE"):
        return None
    if here.kind == "RBRACE":
        return here.mistake("this `}` closes nothing", "each `at STAGE {` has one `}`")
    if re.match(r"[\w-]+[ \t]*:", here.rest):
        return here.mistake("a rule stands outside a block", "write it inside `at STAGE { ... }`")
    if "_" in here.word and re.match(r"\w+[ \t]*=", here.rest):
        hint = "this is no main.cf: rules stand in `at STAGE { ... }`"
        return here.mistake(f"unexpected {quote(here.word)}", hint)
    near = nearest(here.word, _STATEMENTS)
    hint = f"did you mean `{near}`?" if near else f"here may stand {one_of(_SPOKEN_STATEMENTS)}"
    return here.mistake(f"unexpected {quote(here.word)}", hint)


def _tell_stage(here: Situation) -> Mistake | None:
    if here.expected != {"AT"}:
        return None
    return here.mistake("the stage is missing", "write `expect ACTION at STAGE with ...`")


def _tell_not_in(here: Situation) -> Mistake | None:
    if here.word != "not" or not {"IS", "IN"} <= here.expected:
        return None
    return here.mistake("unexpected `not`", "write `not FACT in ...` or `FACT is not ...`")


def _tell_missing_colon(here: Situation) -> Mistake | None:
    if not here.may_end_rule or here.kind != "NAME":
        return None
    if getattr(here.previous[-1], "value", "") == "observe":
        right = "write `observe NAME: ACTION`"
        return here.mistake("`observe` stands before the name of a rule", right)
    several = _WORDS_THEN_COLON.match(here.rest)
    if several and here.begins_line:
        name = "-".join(several.group().split())
        return here.mistake("a rule's name is one word", f"write {quote(name)}")
    foreign = foreign_word(here.word)
    if foreign and not here.begins_line:
        return here.mistake(f"unexpected {quote(here.word)}", foreign)
    near = nearest(here.word, _OPERATORS)
    if near and not here.begins_line:
        return here.mistake(f"unexpected {quote(here.word)}", f"did you mean `{near}`?")
    hint = f"write `{here.word[:40]}: ...`, if a rule begins here"
    return here.mistake(f"a colon is missing after {quote(here.word)}", hint)


def _tell_unfinished_rule(here: Situation) -> Mistake | None:
    match = re.search(r"([\w-]+)[ \t]*\Z", here.before)
    if here.kind != "COLON" or match is None:
        return None
    name = match.group(1)
    at = Place(here.at.line, match.start() + 1)
    return Mistake(at, f"something is missing before the rule {quote(name)}", "finish the rule above it")


def _tell_text_place(here: Situation) -> Mistake | None:
    if here.kind != "STRING" or not here.may_end_rule:
        return None
    if re.search(r'"[ \t]*\Z', here.before):
        return here.mistake("an action has one text", "join the two texts")
    return here.mistake("a text stands right after its action", 'write `NAME: reject "..." if CONDITION`')


def _tell_code(here: Situation) -> Mistake | None:
    if not _CODE.match(here.rest) or not {"STRING", "LABEL"} <= here.expected:
        return None
    return here.mistake("the code of a reply stands inside its text", 'write `reject "5.7.1 the reason"`')


def _tell_open_text(here: Situation) -> Mistake | None:
    if here.kind or not here.rest.startswith('"'):
        return None
    if here.rest.count('"') > 1:
        hint = 'in a text write \\" for a quote and \\\\ for a backslash'
        return here.mistake("this text holds a backslash that escapes nothing", hint)
    return here.mistake("this text is not closed on its line", 'add a `"`')


def _tell_open_pattern(here: Situation) -> Mistake | None:
    if "REGEX" not in here.expected:
        return None
    hint = "write `matches /pattern/`, or `/pattern/i` for letters of either case"
    return here.mistake("a pattern stands between slashes, on one line", hint)


_TELLERS: tuple[Callable[[Situation], Mistake | None], ...] = (
    _tell_open_block,
    _tell_end,
    _tell_bare_entry,
    _tell_open_parenthesis,
    _tell_wordings,
    tell_name,
    tell_number,
    tell_action,
    tell_bare_text,
    tell_set,
    tell_expect,
    _tell_brace,
    _tell_condition_first,
    _tell_limit_parts,
    _tell_percent,
    _tell_else,
    _tell_on_unknown,
    _tell_late_if,
    _tell_limit,
    _tell_outside,
    _tell_stage,
    _tell_not_in,
    _tell_missing_colon,
    _tell_unfinished_rule,
    _tell_text_place,
    _tell_code,
    _tell_open_text,
    _tell_open_pattern,
    tell_foreign,
    tell_comma,
)
