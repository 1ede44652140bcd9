"""docs/sets-and-tables.md: what a reader may copy is right."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from mailreeve_policyd.live_redis import SET_PREFIX, TABLE_PREFIX
from mailreeve_policyd.rules.outside import Outside
from mailreeve_policyd.settings import Settings
from tests.policyd.live_names import Server, rules_with

PAGE = (Path(__file__).parents[2] / "docs" / "sets-and-tables.md").read_text()
PASSAGES = [
    re.sub(r"^    ", "", passage.strip("\n"), flags=re.MULTILINE)
    for passage in re.findall(r"(?:^    .*\n|^\n(?=    ))+", PAGE, re.MULTILINE)
]
RULES = [passage for passage in PASSAGES if re.search(r"^(at|set|table) ", passage, re.MULTILINE)]
SETTINGS = [passage for passage in PASSAGES if passage.startswith("[")]
FILES = {
    "vip.txt": "192.0.2.9\n",
    "quotas.csv": "bob,500 recipients/hour\n",
    "roles.csv": "newsletter,bulk\n",
    "most.csv": "newsletter,50000\n",
    "senders.csv": "bob,bob@example.org sales@example.org\n",
}
OUTSIDE = Outside(live=Server(), country_of=lambda _: None, asn_of=lambda _: None)


@pytest.mark.parametrize("rules", RULES, ids=range(len(RULES)))
def test_the_rules_of_the_page_are_right(rules: str) -> None:
    """With their expect lines."""
    named = "" if "set   vip" in rules or "in vip" not in rules else 'set vip = file "vip.txt"\n'
    rules_with(named + rules, OUTSIDE, FILES)


def test_the_table_of_the_page_is_right() -> None:
    """Row by row."""
    (rows,) = [passage for passage in PASSAGES if passage.startswith("# quotas.csv")]
    text = 'table q = file "q.csv"\nat rcpt { a: limit q[sasl_username] per sasl_username }'

    rules_with(text, Outside(), {"q.csv": rows})


@pytest.mark.parametrize("settings", SETTINGS, ids=range(len(SETTINGS)))
def test_the_settings_of_the_page_are_right(settings: str) -> None:
    """By their names and types."""
    msgspec.toml.decode(settings, type=Settings)


def test_the_keys_of_the_page_are_those_that_are_asked() -> None:
    """Letter by letter."""
    commands = re.findall(r"\b(SADD|SREM|HSET|HDEL) ([a-z:]+:)[a-z]", PAGE)

    assert {prefix for verb, prefix in commands if verb.startswith("S")} == {SET_PREFIX}
    assert {prefix for verb, prefix in commands if verb.startswith("H")} == {TABLE_PREFIX}
