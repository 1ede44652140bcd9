"""How the demo speaks: scenes, what was sent, what happened, the record, and whether it went as told.

Knows nothing of mail. Readable on a terminal and in a file, with and without colours, at 80 columns.
"""

import json
import sys
import textwrap
from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.highlighter import Highlighter, JSONHighlighter
from rich.rule import Rule
from rich.text import Text

from tests.lab.site import Record

WIDTH = 80
LABEL_WIDTH = 10
RECORD_KEYS = (
    "daemon",
    "queue_id",
    "login",
    "sender",
    "recipients",
    "author_domain",
    "results",
    "dmarc_policy",
    "verdict",
    "limits",
    "signatures",
    "added",
    "removed",
    "degraded",
)


class Report:
    """What is printed, and what did not go as told (`failures`)."""

    def __init__(self) -> None:
        self.console = Console(highlight=False, emoji=False, markup=False)
        self.console.width = min(WIDTH, self.console.width)
        self.failures: list[str] = []
        can_tick = (sys.stdout.encoding or "").lower().startswith("utf")
        self._right, self._wrong = ("✓", "✗") if can_tick else ("ok", "NOT SO:")
        self._rule = "─" if can_tick else "-"

    def heading(self, text: str) -> None:
        """The beginning of a part."""
        self.console.print()
        self.console.print(Rule(text, align="left", characters=self._rule, style="bold cyan"))

    def tell(self, text: str) -> None:
        """A paragraph, folded to the width."""
        self.console.print(*textwrap.wrap(text, self.console.width, break_on_hyphens=False), sep="\n")
        self.console.print()

    def row(self, label: str, value: str, highlighter: Highlighter | None = None) -> None:
        """A label and what belongs to it, of any length and number of lines."""
        for line in hang(value, self.console.width - LABEL_WIDTH - 3):
            text = Text(line)
            if highlighter:
                highlighter.highlight(text)
            self.console.print(
                Text.assemble("  ", (label.ljust(LABEL_WIDTH), "bold"), " ", text), soft_wrap=True
            )
            label = ""

    def record(self, record: Record) -> None:
        """A line of the record, only what a reader wants to see of it."""
        self.row("record", abridge(record, RECORD_KEYS), JSONHighlighter())

    def check(self, is_so: bool, text: str) -> None:
        """What was to happen: told as right, or as wrong and remembered."""
        if not is_so:
            self.failures.append(text)
        mark, style = (self._right, "green") if is_so else (self._wrong, "bold red")
        self.console.print(Text(f"  {mark} {text}", style=style))

    def remark(self, text: str) -> None:
        """What is to be known of the line above."""
        for line in textwrap.wrap(text, self.console.width - 4, break_on_hyphens=False):
            self.console.print(Text(f"    {line}", style="dim"))


def hang(text: str, width: int) -> Iterator[str]:
    """The lines of a text, each folded to the width with what follows set in by its own indent and two."""
    for line in text.splitlines() or [""]:
        indent = " " * (len(line) - len(line.lstrip()))
        folded = textwrap.wrap(line, width, subsequent_indent=f"{indent}  ", break_on_hyphens=False)
        yield from folded or [""]


def abridge(record: Record, keys: Sequence[str]) -> str:
    """The record as JSON with these keys only, each in a line; a list of tables has one in each line."""
    members = [f'"{key}": {_value(record[key])}' for key in keys if key in record]
    return "{" + ",\n ".join(members) + "}"


def _value(value: object) -> str:
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return "[\n   " + ",\n   ".join(_short(one) for one in value) + "]"
    return _short(value)


def _short(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
