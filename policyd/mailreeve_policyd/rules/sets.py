"""Named sets and lists: entries as they were written, and what they become for a fact of a given type.

A set has no type of its own: a file of lines serves addresses as well as logins. So entries are read
for the type of the fact that is looked up, and an entry that cannot be one is a mistake told there.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar, overload

from mailreeve_policyd.errors import ConfigError, ProtocolError
from mailreeve_policyd.escape import escape
from mailreeve_policyd.facts import FactType
from mailreeve_policyd.live import LiveNames
from mailreeve_policyd.rules.networks import NetworkSet, network_around, parse_network
from mailreeve_policyd.rules.nodes import Number, SetNode, Text, Value, Word
from mailreeve_policyd.rules.source import Mistake, Place, quote
from mailreeve_policyd.smtp import parse_domain, parse_mailbox
from mailreeve_policyd.transaction import parse_address

MAX_SET_FILE_BYTES = 64 * 1024 * 1024
"""Of a set or table file: a million entries of the usual length are a third of it."""

MAX_ENTRIES = 1_000_000
"""Of one file. It lies in each worker's memory, some 200 octets an entry, and is read within seconds."""

MAX_LINE = 1000
"""Characters of a line: an address has 320 at most, what a table says of it stands in one reply."""

MAX_PATH_SHOWN = 4 * 4096
"""A path is shown whole, to be found: Linux takes 4096 octets (PATH_MAX), escaped at most four times that."""

MAX_LIVE_NAME = 100
"""Characters of a name in Redis: a key of a hundred is long already."""

ValueT = TypeVar("ValueT")

ReadFile = Callable[[Path, str, int], str]
"""Path, the name to show, the largest size in bytes; raises ConfigError. source.read_text is the real one."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry: its text, and how to tell that it is wrong."""

    text: str
    fail: Callable[[str, str | None], Exception]


class FileEntries(Sequence[Entry]):
    """The entries of a file, by their texts and lines: an object for each would take five times as much."""

    __slots__ = ("_lines", "_path", "_texts")

    def __init__(self, path: Path, texts: list[str], lines: array[int]) -> None:
        self._path = path
        self._texts = texts
        self._lines = lines

    @property
    def texts(self) -> Sequence[str]:
        """The entries, as they were written."""
        return self._texts

    def __len__(self) -> int:
        return len(self._texts)

    @overload
    def __getitem__(self, index: int) -> Entry: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Entry]: ...
    def __getitem__(self, index: int | slice) -> Entry | Sequence[Entry]:
        if isinstance(index, slice):
            return FileEntries(self._path, self._texts[index], self._lines[index])
        return Entry(self._texts[index], _failure_in(self._path, self._lines[index]))


class NamedSet:
    """A set of the rules file whose entries are known; what they are for a type of fact is found once."""

    __slots__ = ("_networks", "_numbers", "_texts", "entries", "name")

    def __init__(self, name: str, entries: Sequence[Entry]) -> None:
        self.name = name
        self.entries = entries
        self._texts: dict[FactType, frozenset[str]] = {}
        self._networks: NetworkSet | None = None
        self._numbers: frozenset[int] | None = None

    def with_entries(self, entries: Iterable[Entry]) -> NamedSet:
        """The set with more entries."""
        return NamedSet(self.name, (*self.entries, *entries))

    def texts(self, fact_type: FactType) -> frozenset[str]:
        """As `texts_for`."""
        found = self._texts.get(fact_type)
        if found is None:
            found = self._texts[fact_type] = texts_for(fact_type, self.entries)
        return found

    def networks(self) -> NetworkSet:
        """As `networks_for`."""
        if self._networks is None:
            self._networks = networks_for(self.entries)
        return self._networks

    def numbers(self) -> frozenset[int]:
        """As `numbers_for`."""
        if self._numbers is None:
            self._numbers = numbers_for(self.entries)
        return self._numbers


@dataclass(frozen=True, slots=True)
class LiveSet:
    """A set of the rules file that is asked where it lives; `key` is its name there."""

    name: str
    key: str
    live: LiveNames

    def has(self, *members: str) -> bool:
        """Is one of these in it? Raises StoreError if that cannot be known now."""
        return self.live.has(self.key, members)


def entry_of(value: Value) -> Entry:
    """An entry that stands in the rules file itself."""

    def fail(problem: str, hint: str | None) -> Exception:
        return Mistake(value.at, problem, hint)

    return Entry(str(value.value) if isinstance(value, Number) else value.text, fail)


def load_set(
    node: SetNode, folder: Path, read_file: ReadFile, live: LiveNames | None = None
) -> NamedSet | LiveSet:
    """The set that a statement describes; a file's path is relative to the rules file's folder.

    Raises:
        Mistake: the backend is unknown or not configured, or the file is missing.
        ConfigError: the file is no text, or too long.
    """
    if node.backend is None:
        return NamedSet(node.name.text, tuple(entry_of(value) for value in node.entries))
    if node.argument is None:  # pragma: no cover -- the grammar gives both or none
        raise ValueError(node)
    if node.backend.text == "redis":
        return LiveSet(node.name.text, *live_name(node.backend, node.argument, live))
    check_backend(node.backend, "set")
    path, text = read_beside(node.argument, folder, read_file)
    return NamedSet(node.name.text, _entries_in(path, text))


def _entries_in(path: Path, text: str) -> FileEntries:
    texts: list[str] = []
    lines = array("I")
    for number, line in lines_of(path, text):
        texts.append(line)
        lines.append(number)
    return FileEntries(path, texts, lines)


def check_backend(backend: Word, kind: str) -> None:
    """Raises Mistake unless a set or table can come from there."""
    if backend.text == "file":
        return
    hint = f'write `{kind} NAME = file "..."`, or `redis "..."`'
    if backend.text in ("sql", "ldap", "mysql", "pgsql", "sqlite"):
        problem = f"a {kind} cannot come from {backend.text}"
        raise Mistake(backend.at, problem, f"{hint}: a script keeps it in step")
    quoted = f', or a text in quotes: "{backend.text[:40]}"' if kind == "set" else ""
    raise Mistake(backend.at, f"unknown source {quote(backend.text)}", hint + quoted)


def live_name(backend: Word, name: Text, live: LiveNames | None) -> tuple[str, LiveNames]:
    """The name of a set or table in Redis, and whom to ask.

    Raises:
        Mistake: no Redis is configured, or the name is none.
    """
    if live is None:
        hint = 'in mailreeve.toml, under [live], write redis_url = "redis://127.0.0.1:6379/0"'
        raise Mistake(backend.at, "no Redis is configured", hint)
    if not 0 < len(name.text) <= MAX_LIVE_NAME or not name.text.isprintable():
        raise Mistake(name.at, f"{quote(name.text)} is no name in Redis", "the part after `mailreeve:set:`")
    return name.text, live


def path_of(name: Text, folder: Path) -> Path:
    """Where a file lies that the rules file names."""
    return folder / name.text


def read_beside(name: Text, folder: Path, read_file: ReadFile) -> tuple[Path, str]:
    """A file that the rules file names, with its path."""
    path = path_of(name, folder)
    try:
        return path, read_file(path, str(path), MAX_SET_FILE_BYTES)
    except ConfigError as error:
        if error.place:
            raise
        problem = f"the file `{escape(str(path), MAX_PATH_SHOWN)}` {error.problem}"
        raise Mistake(name.at, problem, "a path is relative to the folder of the rules file") from error


# a comment begins a line, or follows white space: `bob#1` is a login, and no Bob
_COMMENT = re.compile(r"(?:^|\s)#")


def lines_of(path: Path, text: str) -> Iterator[tuple[int, str]]:
    """The lines of a set or table file that say something, with their numbers.

    Comments (from a # on that begins the line or follows white space) and the space around are dropped.

    Raises:
        ConfigError: more than MAX_ENTRIES of them, or one longer than MAX_LINE.
    """
    entries = 0
    for number, raw in enumerate(text.split("\n"), 1):
        line = raw.strip()
        if "#" in line and (comment := _COMMENT.search(line)):
            line = line[: comment.start()].rstrip()
        if not line:
            continue
        entries += 1
        if len(line) > MAX_LINE:
            raise ConfigError(str(path), str(number), f"a line of more than {MAX_LINE} characters")
        if entries > MAX_ENTRIES:
            raise ConfigError(str(path), str(number), f"more than {MAX_ENTRIES} entries", "split the file")
        yield number, line


def _failure_in(path: Path, number: int) -> Callable[[str, str | None], Exception]:
    def fail(problem: str, hint: str | None) -> Exception:
        return ConfigError(str(path), str(number), problem, hint)

    return fail


# What an entry is for a fact of each type. Each raises what the entry says (Mistake or ConfigError).


def normal_text(text: str) -> str:
    """Logins, addresses and names compare without case (DESIGN.md section 4)."""
    return text.lower()


def normal_mailbox(text: str) -> str:
    """An address for comparison: its domain in A-labels, all without case."""
    return str(parse_mailbox(text)).lower()


def _read_each(
    entries: Sequence[Entry], read: Callable[[str], ValueT], mistake: Callable[[Entry], Exception]
) -> Iterator[ValueT]:
    """Each entry as `read` has it; no object is made for one of a file, unless it is wrong."""
    texts = entries.texts if isinstance(entries, FileEntries) else [entry.text for entry in entries]
    for position, text in enumerate(texts):
        try:
            yield read(text)
        except (ValueError, ProtocolError) as error:
            raise mistake(entries[position]) from error


def _no_domain(entry: Entry) -> Exception:
    hint = "write it as example.org"
    if entry.text.startswith("*."):
        hint = f'for a domain with all below it write `under "{escape(entry.text[2:], 60)}"`'
    return entry.fail(f"{quote(entry.text)} is no domain", hint)


def _no_network(entry: Entry) -> Exception:
    around = network_around(entry.text)
    hint = f"write {around}" if around else "write 192.0.2.0/24 or 2001:db8::/32"
    return entry.fail(f"{quote(entry.text)} is no network", hint)


def _no_number(entry: Entry) -> Exception:
    return entry.fail(f"{quote(entry.text)} is no number", None)


def _number(text: str) -> int:
    if text.isascii() and text.isdigit() and len(text) <= 15:
        return int(text)
    raise ValueError(text)


def texts_for(fact_type: FactType, entries: Sequence[Entry]) -> frozenset[str]:
    """Entries as texts that a TEXT, MAILBOX or DOMAIN fact is compared with."""
    if fact_type is FactType.DOMAIN:
        return frozenset(_read_each(entries, parse_domain, _no_domain))
    normal = _shared_mailbox if fact_type is FactType.MAILBOX else _shared_text
    return frozenset(_read_each(entries, normal, _no_domain))


def _shared_text(text: str) -> str:
    """The text itself where it is normal already: one object in memory and not two."""
    normal = normal_text(text)
    return text if text == normal else normal


def _shared_mailbox(text: str) -> str:
    normal = normal_mailbox(text)
    return text if text == normal else normal


def networks_for(entries: Sequence[Entry]) -> NetworkSet:
    """Entries as networks."""
    return NetworkSet(_read_each(entries, parse_network, _no_network))


def numbers_for(entries: Sequence[Entry]) -> frozenset[int]:
    """Entries as numbers."""
    return frozenset(_read_each(entries, _number, _no_number))


def address_at(at: Place, text: str) -> str:
    """One address, in the form in which facts have it.

    Raises:
        Mistake: it is none.
    """
    address = parse_address(text) if "/" not in text else None
    if address is None:
        hint = "write `in` for a network" if "/" in text else "write 192.0.2.1 or 2001:db8::1"
        raise Mistake(at, f"{quote(text)} is no address", hint)
    return str(address)
