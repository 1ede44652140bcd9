"""Quota tables: a key and its own limit a line, `bob@example.org,500 recipients/hour`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mailreeve_policyd.errors import ConfigError
from mailreeve_policyd.limits import Limit, Unit
from mailreeve_policyd.rules.nodes import TableNode, Word
from mailreeve_policyd.rules.quota import parse_limit
from mailreeve_policyd.rules.sets import ReadFile, check_backend, lines_of, read_beside
from mailreeve_policyd.rules.source import Mistake, Place, quote


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a table, with its number."""

    key: str
    limit: Limit
    line: int


@dataclass(frozen=True, slots=True)
class Table:
    """A table of the rules file; rows in the order of their file, keys as written."""

    name: str
    path: Path
    rows: tuple[Row, ...]

    def units(self) -> Mapping[Unit, Row]:
        """Each unit that occurs, with the first row that has it."""
        first: dict[Unit, Row] = {}
        for row in self.rows:
            first.setdefault(row.limit.unit, row)
        return first

    def error(self, row: Row, problem: str, hint: str | None = None) -> ConfigError:
        """A mistake in one row."""
        return ConfigError(str(self.path), str(row.line), problem, hint)


def load_table(node: TableNode, folder: Path, read_file: ReadFile) -> Table:
    """The table that a statement describes.

    Raises:
        Mistake: the backend is unknown, or the file is missing.
        ConfigError: a line is no entry.
    """
    check_backend(node.backend, "table")
    path, text = read_beside(node.argument, folder, read_file)
    limits: dict[str, Limit] = {}  # a file of many thousands of lines says few different things
    rows = tuple(_row(path, number, line, limits) for number, line in lines_of(text) if line)
    return Table(node.name.text, path, rows)


def _row(path: Path, number: int, line: str, limits: dict[str, Limit]) -> Row:
    key, comma, written = line.rpartition(",")
    if not comma or not key.strip():
        hint = "write `bob@example.org,500 recipients/hour`"
        raise ConfigError(str(path), str(number), f"{quote(line)} is no entry of a table", hint)
    limit = limits.get(written)
    if limit is None:
        limit = limits[written] = _limit(path, number, written)
    return Row(key.strip(), limit, number)


def _limit(path: Path, number: int, written: str) -> Limit:
    try:
        return parse_limit(written, Word(Place(number, 1), ""))
    except Mistake as mistake:
        raise ConfigError(str(path), str(number), mistake.problem, mistake.hint) from mistake
