"""Every rule that a page of the documentation shows is right: a reader may paste it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from mailreeve_policyd.rules import Ruleset
from mailreeve_policyd.rules.outside import Outside
from mailreeve_policyd.rules.verbs import Verb
from tests.policyd.live_names import Server, rules_with

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
PASSAGE = re.compile(r"(?:^    .*\n|^\n(?=    ))+", re.MULTILINE)
STATEMENT = re.compile(r"^(?:at|set|table|text) [a-z\"]", re.MULTILINE)
VERBS = "|".join([*(verb.value for verb in Verb), "limit"])
RULE = re.compile(rf"^(?:observe )?[a-z][a-z0-9-]*: +(?:{VERBS}) ", re.MULTILINE)
OUTSIDE = Outside(live=Server(), country_of=lambda _: None, asn_of=lambda _: None)
FILES = {
    "vip.txt": "192.0.2.9\n",
    "quotas.csv": "bob,500 recipients/hour\n",
    "roles.csv": "newsletter,bulk\n",
    "most.csv": "newsletter,50000\n",
    "senders.csv": "bob,bob@example.org sales@example.org\n",
    "languages.csv": "bob,de\n",
    "users.csv": "bob,bob@example.org\n",
    **{path.name: path.read_text() for path in (ROOT / "contrib/recipes").iterdir()},
}
DEFINITIONS = {  # what a fragment names and its page defined above
    "vip": 'set vip = file "vip.txt"\n',
    "quotas": 'table quotas = file "quotas.csv"\n',
    "languages": 'table languages = file "languages.csv"\n',
    "local_domains": 'set local_domains = "example.org"\n',
}
FEWEST = {
    "rules.md": 10,
    "recipes.md": 12,
    "limits.md": 2,
    "sets-and-tables.md": 6,
    "notices.md": 1,
    "arc.md": 1,
}


def passages(page: Path) -> Iterator[str]:
    """The indented passages of a page that are rules, as they would stand in a file."""
    for found in PASSAGE.findall(page.read_text()):
        text = re.sub(r"^    ", "", found.strip("\n"), flags=re.MULTILINE)
        if STATEMENT.search(text):
            yield text
        elif RULE.search(text):
            yield f"at end-of-message {{\n{text}\n}}\n"  # where most facts are known


SHOWN = [(page.name, text) for page in PAGES for text in passages(page)]


def whole(text: str) -> str:
    """The passage with the names that it uses and does not define."""
    wanted = [
        line
        for name, line in DEFINITIONS.items()
        if re.search(rf"\b{name}\b", text) and not re.search(rf"^(?:set|table) +{name}\b", text, re.MULTILINE)
    ]
    return "".join(wanted) + text


@pytest.mark.parametrize(("page", "text"), SHOWN, ids=[f"{page}-{i}" for i, (page, _) in enumerate(SHOWN)])
def test_a_rule_that_is_shown_is_right(page: str, text: str) -> None:
    """With its expect lines, where it has some."""
    assert isinstance(rules_with(whole(text), OUTSIDE, FILES), Ruleset), page


def test_the_rules_are_found() -> None:
    """Pages that show rules are not passed over because they are written otherwise."""
    found = [page for page, _ in SHOWN]

    assert {page: found.count(page) >= least for page, least in FEWEST.items()} == dict.fromkeys(FEWEST, True)
