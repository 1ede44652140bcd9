"""The generated pages: whole, and up to date in the repository."""

from __future__ import annotations

import re
from pathlib import Path

from mailreeve_admin import reference
from mailreeve_policyd.config import options, parse_configuration
from mailreeve_policyd.facts import FACTS

DOCS = Path(__file__).parent.parent.parent / "docs"


def test_the_pages_in_the_repository_are_up_to_date() -> None:
    """They say what the program says: `mailreeve config reference --write` makes them."""
    assert reference.stale_pages(DOCS / "reference") == []


def test_a_changed_page_is_noticed(tmp_path: Path) -> None:
    """A page that was edited by hand, or is missing, is named."""
    reference.write_pages(tmp_path)
    (tmp_path / reference.FACTS_PAGE).write_text("mine")
    (tmp_path / reference.EXAMPLE_FILE).unlink()

    assert reference.stale_pages(tmp_path) == [reference.EXAMPLE_FILE, reference.FACTS_PAGE]


def test_every_option_and_fact_stands_on_its_page() -> None:
    """No option is left out of the reference, none of the facts."""
    page = reference.format_configuration_page()
    for name, _, text in options():
        assert f"| `{name.rpartition('.')[2]}` |" in page
        assert text.replace("|", "\\|") in page
    facts = reference.format_facts_page()
    for name in FACTS:
        assert f"| `{name}` |" in facts


def test_the_example_file_is_a_configuration_as_it_stands() -> None:
    """All of it is comment and empty tables, so it means the defaults."""
    example = reference.format_example_file().encode()

    assert parse_configuration(example, Path("x")) == parse_configuration(b"", Path("x"))


def test_the_example_file_with_every_option_set_to_its_default_is_the_default() -> None:
    """What stands behind the # is written as TOML wants it. Of lists of tables there is none by default."""
    text = re.sub(r"^#\[\[.*?(?=^\[)", "", reference.format_example_file(), flags=re.MULTILINE | re.DOTALL)
    lines = text.splitlines()
    uncommented = "\n".join(re.sub(r"^#(\w+ = )", r"\1", line) for line in lines if '"..."' not in line)

    assert uncommented.count("\nlisten = ") == 2
    assert parse_configuration(uncommented.encode(), Path("x")) == parse_configuration(b"", Path("x"))
