"""Patterns of `matches`: hostile ones are refused or cost no more than the text is long (CWE-1333)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailreeve_policyd.rules.regex import MAX_PATTERN_CHARACTERS, PatternBounds, compile_pattern
from mailreeve_policyd.rules.source import Mistake, Place

HERE = Place(1, 1)

HOSTILE = [
    r"^(a+)+$",
    r"^(a|aa)+$",
    r"^(a|a?)+$",
    r"((a*)*)*b",
    r"(.*)*x(.*)*y(.*)*z",
    r"^(([a-z])+.)+[A-Z]([a-z])+$",
    r"(a?){350}(a){350}b",
    r"(x+x+)+y",
    r"([a-zA-Z]+)*$!",
    "(?i)(\u017f|s|S)+K",
]
"""Known from reports about engines that backtrack: some are exponential there in the length of the text."""


@pytest.mark.parametrize("pattern", HOSTILE)
@pytest.mark.parametrize("text", ["a" * 8191 + "!", "x" * 8192, "\u017f" * 8192, "\udcff" * 8192])
def test_a_hostile_pattern_ends_on_a_hostile_text(pattern: str, text: str) -> None:
    """Where an engine backtracks this test would not end."""
    assert compile_pattern(HERE, pattern, ignore_case=False)(text) in {True, False}


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("a" * (MAX_PATTERN_CHARACTERS + 1), "a pattern of more than 1000 characters"),
        ("(a?){500}(a){500}b", "this pattern takes 3505 steps, and may take 2500"),
        (r"((a{1000}){1000}){1000}", "not a pattern"),
        (r"(\pL{500}\pN{500}){10}", "not a pattern"),
        ("(" * 999, "not a pattern"),
        ("(?<=a)b", "not a pattern"),
        (r"(a)\1", "not a pattern"),
        ("[", "not a pattern"),
        ("*", "not a pattern"),
    ],
)
def test_a_pattern_that_would_take_memory_or_needs_backtracking_is_a_mistake(
    pattern: str, message: str
) -> None:
    """When the rules are read, and not when mail comes."""
    with pytest.raises(Mistake) as caught:
        compile_pattern(HERE, pattern, ignore_case=False)
    assert message in caught.value.problem


def test_what_is_looked_at_is_bounded() -> None:
    """A longer text than any door takes matches nothing."""
    matches = compile_pattern(HERE, "b", ignore_case=False)

    assert matches("a" * 8191 + "b")
    assert not matches("a" * 8192 + "b")


def test_an_administrator_may_choose_both_bounds() -> None:
    """Of the text's length, and of the pattern's size; a refusal names the setting."""
    bounds = PatternBounds(characters=300, steps=4000)
    matches = compile_pattern(HERE, "(a?){500}(a){500}b", ignore_case=False, bounds=bounds)

    assert not matches("a" * 299 + "b")
    assert not matches("a" * 999 + "b")
    assert compile_pattern(HERE, "b", ignore_case=False, bounds=bounds)("a" * 299 + "b")
    assert not compile_pattern(HERE, "b", ignore_case=False, bounds=bounds)("a" * 300 + "b")
    with pytest.raises(Mistake) as caught:
        compile_pattern(HERE, "(a?){800}(a){500}b", ignore_case=False, bounds=bounds)
    assert "may take 4000" in caught.value.problem
    assert "deciding.max_pattern_steps" in (caught.value.hint or "")


def test_letters_of_either_case_match_if_wanted() -> None:
    """Also where they are not ASCII."""
    assert compile_pattern(HERE, "^grüße$", ignore_case=True)("GRÜßE")
    assert not compile_pattern(HERE, "^grüße$", ignore_case=False)("GRÜßE")


@given(st.text(max_size=30), st.text(max_size=60))
def test_any_pattern_is_a_search_or_a_mistake(pattern: str, text: str) -> None:
    """Never another exception, whatever the text."""
    try:
        matches = compile_pattern(HERE, pattern, ignore_case=True)
    except Mistake:
        return
    assert matches(text) in {True, False}
