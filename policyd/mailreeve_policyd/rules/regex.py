"""Patterns for `matches`, by RE2: its time grows with the text alone, whatever the pattern (no backtracking).

The text comes from the wire and the pattern from somebody in a hurry; Python's `re` would let the two
together stop a worker. RE2 also bounds the memory of a pattern. Only this file knows it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mailreeve_policyd.rules.source import Mistake, Place, quote

MAX_PATTERN_CHARACTERS = 1000
"""What stands on one line and is meant to be read."""

MAX_PATTERN_MEMORY = 8 * 1_048_576
"""Bytes that one compiled pattern and its automaton may take; RE2 refuses more. With too few for its states
it takes some 60 ns for each step and each character instead of one."""

MAX_PROGRAM_STEPS = 2500
r"""Of the compiled pattern: `\pL` takes some 1,200, `.{1,250}` some 2,300."""

MAX_TEXT = 8192
"""Characters: no door takes a longer line. With the steps it bounds what the worst pattern takes, which is
linear in both: some tenths of a second, where usual ones take microseconds."""


def compile_pattern(at: Place, pattern: str, ignore_case: bool) -> Callable[[str], bool]:
    """A search for the pattern anywhere in a text; a text beyond MAX_TEXT matches nothing.

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
    if compiled.programsize > MAX_PROGRAM_STEPS:
        problem = f"this pattern takes {compiled.programsize} steps, and may take {MAX_PROGRAM_STEPS}"
        raise Mistake(at, problem, "repeat less, or use several patterns")
    search = compiled.search

    def matches(text: str) -> bool:
        if len(text) > MAX_TEXT:
            return False
        return search(text if text.isascii() else text.encode("utf-8", "replace").decode()) is not None

    return matches


def _engine() -> Any:
    import re2  # noqa: PLC0415 -- a shared library that most rules files never need

    return re2
