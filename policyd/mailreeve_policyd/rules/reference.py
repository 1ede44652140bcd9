"""The generated part of docs/rules.md: facts, stages, actions, straight from the tables the compiler uses."""

from __future__ import annotations

from mailreeve_policyd.facts import FACTS, Door, Fact
from mailreeve_policyd.rules.verbs import VERBS

_HEAD = ("| fact | type | policy daemon | milter | what it is |", "|---|---|---|---|---|")


def facts_reference() -> str:
    """The table of all facts, in Markdown, ending in a line end."""
    return "\n".join((*_HEAD, *(_row(fact) for fact in FACTS.values()))) + "\n"


def _row(fact: Fact) -> str:
    known = [
        f"from {fact.known_from[door].value}" if door in fact.known_from else "never"
        for door in (Door.POLICY, Door.MILTER)
    ]
    words = f" ({', '.join(sorted(fact.words))})" if fact.words else ""
    cells = [f"`{fact.name}`", fact.type.value, *known, f"{fact.summary}{words}"]
    return f"| {' | '.join(cells)} |"


def actions_reference() -> str:
    """The table of all actions, in Markdown, ending in a line end."""
    rows = [f"| `{verb.value}` | {summary} |" for verb, summary in VERBS.items()]
    head = ("| action | what it does |", "|---|---|")
    limit = "| `limit` | count; once exceeded, do what stands after `else` (by default defer 4.7.1) |"
    return "\n".join((*head, *rows, limit)) + "\n"
