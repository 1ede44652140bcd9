"""The index of what holds us to the standards names tests and vectors that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parent.parent
VECTORS = TESTS / "vectors"
INDEX = (VECTORS / "STANDARDS.md").read_text("utf-8")
ROWS = [line for line in INDEX.splitlines() if line.startswith("| ") and not line.startswith("| Line")]


def exists(reference: str) -> bool:
    if "::" in reference:
        file, _, function = reference.partition("::")
        path = TESTS / file
        return path.is_file() and f"def {function}(" in path.read_text("utf-8")
    if ": " in reference:
        file, _, name = reference.partition(": ")
        path = VECTORS / file
        named = rf"(?m)^\s*{re.escape(name)}:|(?:name|mta): {re.escape(name)}(?:,|$)"
        return path.is_file() and re.search(named, path.read_text("utf-8")) is not None
    return (VECTORS / reference).is_dir() or (TESTS / reference).is_file()


@pytest.mark.parametrize("row", ROWS, ids=[row[2:50] for row in ROWS])
def test_every_line_is_held_by_something_that_exists(row: str) -> None:
    """Each row names at least one test or vector, and all that it names are there."""
    references = re.findall(r"`([^`]+)`", row.rsplit(" | ", maxsplit=1)[-1])

    assert references
    assert [reference for reference in references if not exists(reference)] == []
