"""How the demo speaks: scenes, what was sent, what happened, the record, and whether it went as told.

Knows nothing of mail. Readable on a terminal and in a file, with and without colours, at 80 columns.
"""

import json
import sys
from collections.abc import Sequence

from rich.console import Console
from rich.highlighter import JSONHighlighter
from rich.padding import Padding
from rich.rule import Rule
from rich.table import Table
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
        self.console.print(Rule(f"{text} ", align="left", characters=self._rule, style="bold cyan"))

    def tell(self, text: str) -> None:
        """A paragraph."""
        self.console.print(text)

    def row(self, label: str, value: str | Text) -> None:
        """A label and what belongs to it, of any length and number of lines."""
        text = Text(value) if isinstance(value, str) else value
        text.overflow = "fold"
        grid = Table.grid(padding=(0, 1))
        grid.add_column(width=LABEL_WIDTH, style="bold")
        grid.add_column(ratio=1)
        grid.add_row(label, text)
        self.console.print(Padding(grid, (0, 0, 0, 2)))

    def record(self, record: Record) -> None:
        """A line of the record, only what a reader wants to see of it."""
        self.row("record", JSONHighlighter()(Text(abridge(record, RECORD_KEYS))))

    def check(self, is_so: bool, text: str) -> None:
        """What was to happen: told as right, or as wrong and remembered."""
        if not is_so:
            self.failures.append(text)
        mark, style = (self._right, "green") if is_so else (self._wrong, "bold red")
        self.console.print(Text(f"  {mark} {text}", style=style))


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
