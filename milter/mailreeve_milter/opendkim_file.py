"""The lines of OpenDKIM's table files, in their two forms: `file:` and `refile:` (opendkim(8), DATA SETS).

Knows lines, keys and values; what they mean, opendkim.py knows. A `#` begins a comment wherever it stands,
the key ends at the first white space, the value is the rest of the line. In a `refile:` the keys are
patterns in which `*` stands for any characters.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mailreeve_policyd.errors import ConfigError
from mailreeve_policyd.escape import decode_wire, escape
from mailreeve_policyd.regular_file import open_regular

AUTHOR = "%"
"""Stands for the author's domain, in names of keys, domains, paths and identities."""

MAX_TABLE_OCTETS = 64 * 1024 * 1024
"""A million lines; more is another file."""

_REGULAR_EXPRESSION = frozenset("?[](){}|^$\\")
"""OpenDKIM's program takes these for a regular expression, its manual does not."""


@dataclass(frozen=True, slots=True)
class Line:
    """A line with a key; `number` counts from 1. The value may be empty."""

    number: int
    key: str
    value: str
    is_indented: bool = False


@dataclass(frozen=True, slots=True)
class TableFile:
    """A table as it was read. `status` is the file's, for who must know who else can read it."""

    path: Path
    has_patterns: bool
    lines: tuple[Line, ...]
    status: os.stat_result

    def error(self, line: Line, problem: str, hint: str) -> ConfigError:
        """A mistake in a line."""
        return ConfigError(str(self.path), str(line.number), problem, hint)


def read_table(told: str, folder: Path) -> TableFile:
    """The table that opendkim.conf names so: `file:PATH`, `refile:PATH` or `/PATH`.

    `folder` is where a relative path starts.

    Raises:
        ConfigError: it cannot be read, or a line is not what OpenDKIM would take it for.
    """
    kind, colon, name = told.partition(":")
    has_patterns = bool(colon) and kind == "refile"
    path = (folder / (name if colon and kind in ("file", "refile") else told)).absolute()
    try:
        with open_regular(path) as stream:
            status = os.fstat(stream.fileno())
            octets = stream.read(MAX_TABLE_OCTETS + 1)
    except OSError as error:
        hint = "the daemon's user must be able to read OpenDKIM's tables"
        raise ConfigError(str(path), "", f"cannot be read: {error.strerror}", hint) from None
    if len(octets) > MAX_TABLE_OCTETS:
        raise ConfigError(str(path), "", f"is larger than {MAX_TABLE_OCTETS} octets: no table of keys")
    return parse_table(octets, path, status, has_patterns=has_patterns)


def parse_table(octets: bytes, path: Path, status: os.stat_result, *, has_patterns: bool) -> TableFile:
    """The octets of a table; `path` and `status` are those of its file. Raises as `read_table`."""
    table = TableFile(path, has_patterns, tuple(_lines(decode_wire(octets))), status)
    for line in table.lines:
        _check_key(table, line)
    return table


def _lines(text: str) -> Iterator[Line]:
    for number, raw in enumerate(text.split("\n"), start=1):
        told = raw.partition("#")[0].rstrip()
        if not told:
            continue
        key, *rest = told.split(maxsplit=1)
        yield Line(number, key, rest[0] if rest else "", is_indented=told[0].isspace())


def _check_key(table: TableFile, line: Line) -> None:
    """A pattern that OpenDKIM would read otherwise, or not at all."""
    if table.has_patterns and line.is_indented:
        raise table.error(
            line, "begins with white space, so that OpenDKIM passes over it", "remove the space, or the line"
        )
    if table.has_patterns and (signs := _REGULAR_EXPRESSION & set(line.key)):
        raise table.error(
            line,
            f"{escape(line.key)!r} holds {' '.join(sorted(signs))}, which OpenDKIM's manual does not know",
            "only * is a wildcard; write several lines",
        )
