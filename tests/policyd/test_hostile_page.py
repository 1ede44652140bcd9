"""docs/security.md: each bound that it names is there, has that value, and a test."""

from __future__ import annotations

import re

import pytest

from mailreeve_policyd.config import options
from tests.lab.tree import REPOSITORY

PAGE = (REPOSITORY / "docs/security.md").read_text()
BOUNDS = re.findall(r"^\| (.+?) \| (.+?) \| (.*?) ?\| `(tests/\S+)` \|$", PAGE, re.MULTILINE)
OPTIONS = {name for name, _, _ in options()}
SOURCES = "\n".join(
    path.read_text() for room in ("policyd", "milter") for path in (REPOSITORY / room).rglob("*.py")
)


@pytest.mark.parametrize(("resource", "bound", "test"), [(row[0], row[1], row[3]) for row in BOUNDS])
def test_a_bound_is_what_the_page_says(resource: str, bound: str, test: str) -> None:
    """Settings exist, constants have the value that is told, and so does the test's file."""
    for name in re.findall(r"`([a-z_.]+)`", bound):
        assert name in OPTIONS or f"policyd.{name}" in OPTIONS, (resource, name)
    for name, value in re.findall(r"`([A-Z_]+)` = (\d+)", bound):
        found = re.findall(rf"^{name} = (.+)$", SOURCES, re.MULTILINE)
        assert value in {str(_number(text)) for text in found}, (resource, name, found)
    assert (REPOSITORY / test).exists()


def _number(text: str) -> int:
    """`65_536`, `(1 << 20) - 1`."""
    shifted = re.fullmatch(r"\(1 << (\d+)\) - 1", text)
    return (1 << int(shifted[1])) - 1 if shifted else int(text) if re.fullmatch(r"[\d_]+", text) else -1


def test_the_page_has_its_table() -> None:
    """The rows above are read from it."""
    assert len(BOUNDS) > 20


def test_files_that_the_page_names_are_there() -> None:
    """Tests, folders and other pages."""
    for name in re.findall(r"`(tests/[^`]+)`", PAGE):
        assert (REPOSITORY / name).exists(), name
    for link in re.findall(r"\]\(([^)#]+)\)", PAGE):
        assert (REPOSITORY / "docs" / link).exists(), link
