"""docs/log-messages.md: every line that the daemons can write, with what it means and what to do."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
PAGE = REPOSITORY / "docs" / "log-messages.md"
SOURCES = sorted(
    file for root in ("policyd", "milter", "admin") for file in (REPOSITORY / root).rglob("*.py")
)
LEVELS = {"debug", "info", "warning", "error", "exception", "critical"}


def log_calls(file: Path) -> Iterator[ast.Call]:
    """The calls of a logger, by whatever name it goes: log, _log, self._log."""
    for node in ast.walk(ast.parse(file.read_text())):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        owner = node.func.value
        name = (
            owner.id
            if isinstance(owner, ast.Name)
            else owner.attr
            if isinstance(owner, ast.Attribute)
            else ""
        )
        if node.func.attr in LEVELS and name.lstrip("_") in ("log", "logger"):
            yield node


CALLS = [(file, call) for file in SOURCES for call in log_calls(file)]


def place(file: Path, call: ast.Call) -> str:
    return f"{file.relative_to(REPOSITORY)}:{call.lineno}"


def event_of(file: Path, call: ast.Call) -> str:
    """The text before values stand in it; a line end and backticks as the page can show them."""
    first = call.args[0]
    assert isinstance(first, ast.Constant), f"{place(file, call)}: the event is no plain text"
    return str(first.value).replace("\n", " / ").replace("`", "'")


def documented() -> dict[str, str]:
    """The level of each event in the page's tables."""
    rows = [line.strip("| ").split(" | ") for line in PAGE.read_text().splitlines() if line.startswith("| `")]
    return {event.strip("`"): level for event, level, _meaning, _what_to_do in rows}


def test_there_are_log_calls() -> None:
    """A search that finds nothing must not look like success."""
    assert len(CALLS) > 40


@pytest.mark.parametrize(("file", "call"), CALLS, ids=[place(file, call) for file, call in CALLS])
def test_the_page_tells_what_a_line_of_the_log_means(file: Path, call: ast.Call) -> None:
    """Its event is a plain text, so that it stays the same, and stands in docs/log-messages.md."""
    event = event_of(file, call)
    told = documented()
    assert event in told, f"{place(file, call)}: docs/log-messages.md does not tell of `{event}`"
    assert isinstance(call.func, ast.Attribute)
    assert call.func.attr.replace("exception", "error") == told[event], place(file, call)


def test_the_page_tells_of_no_line_that_is_not_written() -> None:
    """What was taken out of the program is taken out of the page."""
    written = {event_of(file, call) for file, call in CALLS} | {"%d lines of this log were lost"}
    assert set(documented()) <= written, set(documented()) - written
