"""Tables: a key and what stands under it, from a file or asked live; a limit, a word, a number, a text.

A table has no type of its own. Its values are read for what a rule wants of them (a `Finder`): in a file
all of them at once, so that a wrong one is a mistake in its line; in Redis each when it comes, and a wrong
one cannot be known.
"""

from __future__ import annotations

import csv
import logging
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from mailreeve_policyd.errors import ConfigError, ProtocolError, StoreError
from mailreeve_policyd.escape import escape
from mailreeve_policyd.facts import FactType
from mailreeve_policyd.live import LiveNames
from mailreeve_policyd.rules.nodes import TableNode
from mailreeve_policyd.rules.sets import (
    MAX_LINE,
    ReadFile,
    check_backend,
    lines_of,
    live_name,
    normal_mailbox,
    normal_text,
    read_beside,
)
from mailreeve_policyd.rules.source import Mistake, Place, quote
from mailreeve_policyd.smtp import parse_domain
from mailreeve_policyd.transaction import parse_address

MAX_PARSED = 10_000
"""Values of a live table that are kept as what they were read for; then all are read anew."""

MAX_TOLD = 1000
"""Keys of a live table whose wrong values are told: a log is read by people."""

ValueT = TypeVar("ValueT")
ValueT_co = TypeVar("ValueT_co", covariant=True)

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a table, with its number; 0 for what an expect line gives."""

    key: str
    value: str
    line: int


class Table:
    """A table whose rows are known, in the order of their file, keys and values as written."""

    __slots__ = ("_at", "_by_type", "_first", "_keys", "_lines", "_path", "_values", "name")

    def __len__(self) -> int:
        return len(self._keys)

    def __init__(self, name: str, path: Path, rows: Iterable[Row], at: Place | None = None) -> None:
        self.name = name
        self._path = path
        self._at = at
        self._keys: list[str] = []
        self._values: list[str] = []
        self._lines = array("I")
        self._by_type: dict[FactType, Mapping[str, str]] = {}
        self._first: dict[str, Row] = {}  # a file of many thousands of lines says few different things
        for row in rows:
            self._keys.append(row.key)
            self._values.append(self._first.setdefault(row.value, row).value)
            self._lines.append(row.line)

    @property
    def rows(self) -> Iterator[Row]:
        """All rows."""
        return map(Row, self._keys, self._values, self._lines)

    def with_rows(self, rows: Mapping[str, str], at: Place) -> Table:
        """The table where these values stand under these keys; what is wrong with one stands `at`."""
        given = {normal_mailbox(key) for key in rows}
        kept = (row for row in self.rows if normal_mailbox(row.key) not in given)
        return Table(self.name, self._path, (*kept, *(Row(key, rows[key], 0) for key in rows)), at)

    def error(self, row: Row, problem: str, hint: str | None = None) -> Exception:
        """A mistake in one row."""
        if row.line == 0 and self._at is not None:
            return Mistake(self._at, problem, hint)
        return ConfigError(str(self._path), str(row.line), problem, hint)

    def finder(self, fact_type: FactType, read: Callable[[str], ValueT]) -> Finder[ValueT]:
        """What stands under a fact of this type. Raises as `read` does, and for keys, in the row's name."""
        by_key = self._by_type.get(fact_type)
        if by_key is None:
            by_key = self._by_type[fact_type] = self._values_for(fact_type)
        return _FileFinder(by_key, {value: self._read(row, read) for value, row in self._first.items()})

    def _read(self, row: Row, read: Callable[[str], ValueT]) -> ValueT:
        try:
            return read(row.value)
        except Mistake as mistake:
            raise self.error(row, mistake.problem, mistake.hint) from mistake

    def _values_for(self, fact_type: FactType) -> Mapping[str, str]:
        """The values by their keys in the fact's own form; each key stands once."""
        found: dict[str, str] = {}
        lines: dict[str, int] = {}
        for row in self.rows:
            try:
                key = row_key(fact_type, row.key)
            except ProtocolError as error:
                raise self.error(row, f"{quote(row.key)} is no {fact_type.value}") from error
            first = lines.setdefault(key, row.line)
            if first != row.line:
                raise self.error(row, f"{quote(row.key)} stands in line {first} already")
            found[row.key if row.key == key else key] = row.value
        return found


@dataclass(frozen=True, slots=True)
class LiveTable:
    """A table of the rules file that is asked where it lives; `key` is its name there.

    `told` are the keys whose wrong values the log has.
    """

    name: str
    key: str
    live: LiveNames
    told: set[str] = field(default_factory=set, compare=False)

    def finder(self, fact_type: FactType, read: Callable[[str], ValueT]) -> Finder[ValueT]:
        """What stands under a fact, read when it comes."""
        del fact_type  # its values come in the form in which they are asked
        return _LiveFinder(self, read)


class Finder(Protocol[ValueT_co]):
    """What stands in a table under a key, read for what a rule wants of it."""

    def find(self, key: str) -> ValueT_co | None:
        """The value; None where nothing stands there. `key` is in the form in which facts compare.

        Raises:
            StoreError: it cannot be known now; of a live table alone.
        """


class _FileFinder(Generic[ValueT]):
    """A Finder over what is known."""

    __slots__ = ("_by_key", "_known")

    def __init__(self, by_key: Mapping[str, str], known: Mapping[str, ValueT]) -> None:
        self._by_key = by_key
        self._known = known

    def find(self, key: str) -> ValueT | None:
        """Finder.find."""
        value = self._by_key.get(key)
        return None if value is None else self._known[value]


class _LiveFinder(Generic[ValueT]):
    """A Finder that asks. A value that is none of what is wanted cannot be known: it is told once a key."""

    def __init__(self, table: LiveTable, read: Callable[[str], ValueT]) -> None:
        self._table = table
        self._read = read
        self._known: dict[str, ValueT] = {}

    def find(self, key: str) -> ValueT | None:
        """Finder.find."""
        value = self._table.live.value(self._table.key, key)
        if value is None:
            return None
        known = self._known.get(value)
        return known if known is not None else self._read_anew(key, value)

    def _read_anew(self, key: str, value: str) -> ValueT:
        try:
            found = self._read(_bounded(value))
        except Mistake as mistake:
            self._tell(key, mistake)
            raise StoreError(f"the table {self._table.name} holds a wrong value") from mistake
        if len(self._known) >= MAX_PARSED:
            self._known.clear()
        self._known[value] = found
        return found

    def _tell(self, key: str, mistake: Mistake) -> None:
        told = self._table.told
        if key in told or len(told) >= MAX_TOLD:
            return
        told.add(key)
        hint = f" ({mistake.hint})" if mistake.hint else ""
        name = escape(self._table.key)
        log.error("the table %s in Redis, under %s: %s%s", name, escape(key), mistake.problem, hint)


def _bounded(value: str) -> str:
    if not 0 < len(value) <= MAX_LINE:
        raise Mistake(Place(1, 1), f"a value has from 1 to {MAX_LINE} characters")
    return value


def row_key(fact_type: FactType, key: str) -> str:
    """A key as a fact of this type is looked up. Raises ProtocolError where it can be none."""
    if fact_type is FactType.NETWORK_ADDRESS:
        address = parse_address(key)
        if address is None:
            raise ProtocolError("not an address")
        return str(address)
    if fact_type is FactType.DOMAIN:
        return parse_domain(key)
    return normal_mailbox(key) if fact_type is FactType.MAILBOX else normal_text(key)


def load_table(
    node: TableNode, folder: Path, read_file: ReadFile, live: LiveNames | None = None
) -> Table | LiveTable:
    """The table that a statement describes.

    Raises:
        Mistake: the backend is unknown or not configured, or the file is missing.
        ConfigError: a line is no entry.
    """
    if node.backend.text == "redis":
        return LiveTable(node.name.text, *live_name(node.backend, node.argument, live))
    check_backend(node.backend, "table")
    path, text = read_beside(node.argument, folder, read_file)
    rows = (Row(*_split(path, number, line), number) for number, line in lines_of(path, text))
    return Table(node.name.text, path, rows)


def _split(path: Path, number: int, line: str) -> tuple[str, str]:
    """Key and value: RFC 4180, one record a line."""
    fields = _fields(line)
    if len(fields) == 2 and all(fields):
        return fields[0], fields[1]
    hint = "write `bob@example.org,500 recipients/hour`"
    if len(fields) > 2:
        hint = 'what holds a comma stands in quotes: bob,"one, two"'
    raise ConfigError(str(path), str(number), f"{quote(line)} is no entry of a table", hint)


def _fields(line: str) -> list[str]:
    if '"' not in line:
        return [field.strip() for field in line.split(",")]
    try:
        return [field.strip() for field in next(csv.reader([line], skipinitialspace=True, strict=True))]
    except csv.Error:
        return []
