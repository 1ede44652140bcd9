"""Patterns for `matches`, by RE2: its time grows with the text alone, whatever the pattern (no backtracking).

The text comes from the wire and the pattern from somebody in a hurry; Python's `re` would let the two
together stop a worker. RE2 also bounds the memory of a pattern. Only this file knows it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mailreeve_policyd.rules.source import Mistake, Place, quote

MAX_PATTERN_CHARACTERS = 1000
"""What stands on one line and is meant to be read."""

MAX_PATTERN_MEMORY = 8 * 1_048_576
"""Bytes that one compiled pattern and its automaton may take; RE2 refuses more. With too few for its states
it takes some 60 ns for each step and each character instead of one."""


@dataclass(frozen=True, slots=True)
class PatternBounds:
    r"""How much work a pattern may be: its worst case is linear in both.

    With these values that is some tenths of a second, where usual patterns take microseconds. A longer text
    than `characters` matches nothing; by default no door takes a longer line. `steps` are those of the
    compiled pattern: `\pL` takes some 1,200, `.{1,250}` some 2,300.
    """

    characters: int = 8192
    steps: int = 2500


DEFAULT_BOUNDS = PatternBounds()


def compile_pattern(
    at: Place,
    pattern: str,
    ignore_case: bool,
    bounds: PatternBounds = DEFAULT_BOUNDS,
) -> Callable[[str], bool]:
    """A search for the pattern anywhere in a text of which `bounds` allow to be searched.

    Bytes that were no UTF-8 match as one character each.

    Raises:
        Mistake: RE2 cannot read it (it has no look-around and no back-references) or it is too large.
    """
    if len(pattern) > MAX_PATTERN_CHARACTERS:
        raise Mistake(at, f"a pattern of more than {MAX_PATTERN_CHARACTERS} characters", "use a set")
    re2 = _engine()
    options = re2.Options()
    options.case_sensitive = not ignore_case
    options.max_mem = MAX_PATTERN_MEMORY
    options.log_errors = False
    try:
        compiled = re2.compile(pattern, options)
    except re2.error as error:
        detail = error.args[0].decode("utf-8", "replace") if error.args else "unreadable"
        hint = "patterns are RE2's: no look-around, no back-references"
        raise Mistake(at, f"not a pattern: {quote(detail)}", hint) from error
    if compiled.programsize > bounds.steps:
        problem = f"this pattern takes {compiled.programsize} steps, and may take {bounds.steps}"
        raise Mistake(at, problem, "repeat less, use several patterns, or raise deciding.max_pattern_steps")
    search, most = compiled.search, bounds.characters

    def matches(text: str) -> bool:
        if len(text) > most:
            return False
        return search(text if text.isascii() else text.encode("utf-8", "replace").decode()) is not None

    return matches


def _engine() -> Any:
    import re2  # noqa: PLC0415 -- a shared library that most rules files never need

    return re2
