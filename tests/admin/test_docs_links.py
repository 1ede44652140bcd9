"""The documentation as a newcomer follows it: links lead somewhere, and what it names exists."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import pytest
import typer

from mailreeve_admin.cli import app
from mailreeve_policyd.config import options, parse_configuration

REPOSITORY = Path(__file__).parents[2]
DOCS = REPOSITORY / "docs"
PAGES = sorted([*DOCS.rglob("*.md"), REPOSITORY / "README.md", REPOSITORY / "CHANGELOG.md"])
PAGE_NAMES = [str(page.relative_to(REPOSITORY)) for page in PAGES]
each_page = pytest.mark.parametrize("page", PAGES, ids=PAGE_NAMES)

OPTIONS = {name.replace("[]", "") for name, _, _ in options()}
SECTIONS = {name.rpartition(".")[0] for name in OPTIONS} - {""}
RECORD = json.loads((DOCS / "reference" / "audit.schema.json").read_text("utf-8"))
FILES = {"limits.sqlite"}
KEY = '[[signing.keys]]\ndomain = "{}"\nselector = "{}"\nfile = "keys/one.pem"\n'
ELSEWHERE = {  # what a passage begins with, and what stands elsewhere in a file that has it
    "[arc.seal]": "[arc]\nverify = true\n",
    '[milter]\ndecides = ["connect"': "[policyd]\ndecides = []\n",
    '[[signing.keys]]\ndomain = "*"': '[[signing.rules]]\nlogins = ["*@customer.example"]\n',
    "[[signing.rules]]": "".join(
        KEY.format(*key)
        for key in (("example.org", "s1"), ("example.org", "news2026"), ("customer.example", "s1"))
    ),
}


def text_of(page: Path) -> str:
    return page.read_text("utf-8")


def words_of(page: Path) -> str:
    """The page without its indented passages, line ends as spaces."""
    return " ".join(line for line in text_of(page).splitlines() if not line.startswith("    "))


def anchor(heading: str) -> str:
    """As GitHub makes it: lower case, punctuation dropped, spaces as hyphens."""
    return re.sub(r"[^\w\- ]", "", heading.lower().strip()).replace(" ", "-")


def anchors_of(page: Path) -> set[str]:
    return {anchor(line.lstrip("#")) for line in text_of(page).splitlines() if line.startswith("#")}


@each_page
def test_links_lead_somewhere(page: Path) -> None:
    """Every relative link names a file that is there, and a heading in it where it names one."""
    for target, heading in re.findall(r"\]\(([^)#:\s]*)(?:#([^)]*))?\)", text_of(page)):
        file = page.parent / target if target else page
        assert file.exists(), target
        assert not heading or heading in anchors_of(file), f"{target}#{heading}"


@each_page
def test_tests_that_prove_something_are_there(page: Path) -> None:
    """What a page says is shown in a file of tests, or in a folder of vectors."""
    for named in re.findall(r"`(tests/[\w./-]+)`", text_of(page)):
        assert (REPOSITORY / named).exists(), named


def test_the_index_names_every_page() -> None:
    """Who has a problem finds the page by docs/README.md."""
    index = text_of(DOCS / "README.md")

    assert [page for page in PAGES if page.is_relative_to(DOCS) and page.name not in index] == [
        DOCS / "README.md"
    ]


def keys_of(schema: object) -> set[str]:
    """Every property that a JSON Schema names, at any depth."""
    if isinstance(schema, list):
        return set().union(*map(keys_of, schema))
    if not isinstance(schema, dict):
        return set()
    properties = schema.get("properties", {})
    return set(properties).union(*map(keys_of, schema.values()))


def named_options(page: Path) -> set[str]:
    """What the text calls `[section] option` or `section.option`."""
    found = re.findall(r"`\[+([a-z.]+)\]+ ([a-z_0-9]+)", words_of(page))
    found += re.findall(r"`([a-z]+(?:\.[a-z]+)*)\.([a-z_0-9]+)(?: = [^`]*)?`", words_of(page))
    return {f"{section}.{option}" for section, option in found if section in SECTIONS}


@each_page
def test_options_that_the_text_names_exist(page: Path) -> None:
    """By their section and name. On the page of the record `limits.used` is a key of a line."""
    keys = keys_of(RECORD) if page.name == "audit.md" else set()
    unknown = named_options(page) - OPTIONS - SECTIONS - FILES

    assert {name for name in unknown if name.rpartition(".")[2] not in keys} == set()


def test_options_are_found_in_the_text() -> None:
    """A search that finds nothing must not look like success."""
    assert "limits.store" in named_options(DOCS / "sets-and-tables.md")
    assert "dns.message_budget_seconds" in named_options(DOCS / "spf.md")


def passages(page: Path) -> list[str]:
    """Indented passages that begin with a section of mailreeve.toml (after a comment, perhaps)."""
    blocks = re.findall(r"(?:^(?:    .*)?\n)+", text_of(page) + "\n", re.MULTILINE)
    settings = re.compile(r"^\s*(#.*\n\s*)*\[+(" + "|".join(map(re.escape, sorted(SECTIONS))) + r")\]+\s")
    return [part for block in blocks for part in block.split("\n\n") if settings.match(part.strip("\n"))]


def named_in(table: dict[str, object], section: str = "") -> set[str]:
    """The options of a parsed passage; one that repeats is a list of tables."""
    found: set[str] = set()
    for key, value in table.items():
        name = f"{section}.{key}".lstrip(".")
        tables = value if isinstance(value, list) and value and isinstance(value[0], dict) else [value]
        for entry in tables:
            found |= named_in(entry, name) if isinstance(entry, dict) else {name}
    return found


@each_page
def test_settings_to_paste_exist(page: Path) -> None:
    """Each passage is TOML, and names options that there are."""
    for passage in passages(page):
        assert named_in(tomllib.loads(passage)) <= OPTIONS, passage


def with_what_stands_elsewhere(passage: str) -> str:
    """A passage as the file that it is pasted into."""
    plain = re.sub(r"^ *(?:#.*\n)?", "", passage.strip("\n"), flags=re.MULTILINE)
    return "".join(text for begin, text in ELSEWHERE.items() if plain.startswith(begin)) + plain


@each_page
def test_settings_to_paste_have_values_that_can_be(page: Path) -> None:
    """As `mailreeve config check` reads them."""
    for passage in passages(page):
        parse_configuration(with_what_stands_elsewhere(passage).encode(), DOCS / "mailreeve.toml")


def commands() -> set[str]:
    """`check`, `limits show` and so on."""
    program = typer.main.get_command(app)
    groups = getattr(program, "commands", {})
    return {
        f"{name} {below}".strip()
        for name, group in groups.items()
        for below in ["", *getattr(group, "commands", {})]
    }


@each_page
def test_commands_that_are_named_exist(page: Path) -> None:
    """`mailreeve limits show` is one; what stands behind a command is its affair."""
    known = commands()
    groups = {name.split()[0] for name in known if " " in name}
    named = re.compile(r"(?:`|^    |bin/)mailreeve ([a-z]+)(?: ([a-z]+))?", re.MULTILINE)
    for first, second in named.findall(text_of(page)):
        assert first in known, first
        assert first not in groups or not second or f"{first} {second}" in known, f"{first} {second}"
