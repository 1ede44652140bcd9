"""Named sets and lists: entries as they were written, and what they become for a fact of a given type.

A set has no type of its own: a file of lines serves addresses as well as logins. So entries are read
for the type of the fact that is looked up, and an entry that cannot be one is a mistake told there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from mailreeve_policyd.errors import ConfigError, ProtocolError
from mailreeve_policyd.escape import escape
from mailreeve_policyd.facts import FactType
from mailreeve_policyd.rules.networks import IPNetwork, NetworkSet, network_around, parse_network
from mailreeve_policyd.rules.nodes import Number, SetNode, Text, Value, Word
from mailreeve_policyd.rules.source import Mistake, Place, quote
from mailreeve_policyd.smtp import parse_domain, parse_mailbox
from mailreeve_policyd.transaction import parse_address

MAX_SET_FILE_BYTES = 64 * 1024 * 1024
"""A set file lies in each worker's memory, some five times its size: 64 MiB are about two million entries."""

MAX_PATH_SHOWN = 4 * 4096
"""A path is shown whole, to be found: Linux takes 4096 octets (PATH_MAX), escaped at most four times that."""

ReadFile = Callable[[Path, str, int], str]
"""Path, the name to show, the largest size in bytes; raises ConfigError. source.read_text is the real one."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry: its text, and how to tell that it is wrong."""

    text: str
    fail: Callable[[str, str | None], Exception]


@dataclass(frozen=True, slots=True)
class NamedSet:
    """A set of the rules file."""

    name: str
    entries: tuple[Entry, ...]

    def with_entries(self, entries: Iterable[Entry]) -> NamedSet:
        """The set with more entries."""
        return NamedSet(self.name, (*self.entries, *entries))


def entry_of(value: Value) -> Entry:
    """An entry that stands in the rules file itself."""

    def fail(problem: str, hint: str | None) -> Exception:
        return Mistake(value.at, problem, hint)

    return Entry(str(value.value) if isinstance(value, Number) else value.text, fail)


def load_set(node: SetNode, folder: Path, read_file: ReadFile) -> NamedSet:
    """The set that a statement describes; a file's path is relative to the rules file's folder.

    Raises:
        Mistake: the backend is unknown, or the file is missing.
        ConfigError: the file is no text.
    """
    if node.backend is None:
        return NamedSet(node.name.text, tuple(entry_of(value) for value in node.entries))
    if node.argument is None:  # pragma: no cover -- the grammar gives both or none
        raise ValueError(node)
    check_backend(node.backend, "set")
    path, text = read_beside(node.argument, folder, read_file)
    entries = tuple(Entry(line, _failure_in(path, number)) for number, line in lines_of(text) if line)
    return NamedSet(node.name.text, entries)


def check_backend(backend: Word, kind: str) -> None:
    """Raises Mistake unless a set or table can come from there."""
    if backend.text == "file":
        return
    hint = f'write `{kind} NAME = file "..."`'
    if backend.text in ("redis", "sql", "ldap"):
        problem = f"a {kind} from {backend.text} is not yet supported"
        raise Mistake(backend.at, problem, f"{hint}; it is read at each reload")
    quoted = f', or a text in quotes: "{backend.text[:40]}"' if kind == "set" else ""
    raise Mistake(backend.at, f"unknown source {quote(backend.text)}", hint + quoted)


def read_beside(name: Text, folder: Path, read_file: ReadFile) -> tuple[Path, str]:
    """A file that the rules file names, with its path."""
    path = folder / name.text
    try:
        return path, read_file(path, str(path), MAX_SET_FILE_BYTES)
    except ConfigError as error:
        if error.place:
            raise
        problem = f"the file `{escape(str(path), MAX_PATH_SHOWN)}` {error.problem}"
        raise Mistake(name.at, problem, "a path is relative to the folder of the rules file") from error


def lines_of(text: str) -> Iterable[tuple[int, str]]:
    """The lines of a set or table file with their numbers; comments (#) and the space around are dropped."""
    for number, line in enumerate(text.split("\n"), 1):
        yield number, line.partition("#")[0].strip()


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


def _domain_entry(entry: Entry) -> str:
    try:
        return parse_domain(entry.text)
    except ProtocolError as error:
        raise entry.fail(f"{quote(entry.text)} is no domain", "write it as example.org") from error


def _network_entry(entry: Entry) -> IPNetwork:
    try:
        return parse_network(entry.text)
    except ValueError as error:
        around = network_around(entry.text)
        hint = f"write {around}" if around else "write 192.0.2.0/24 or 2001:db8::/32"
        raise entry.fail(f"{quote(entry.text)} is no network", hint) from error


def _number_entry(entry: Entry) -> int:
    if entry.text.isascii() and entry.text.isdigit() and len(entry.text) <= 15:
        return int(entry.text)
    raise entry.fail(f"{quote(entry.text)} is no number", None)


def texts_for(fact_type: FactType, entries: Iterable[Entry]) -> frozenset[str]:
    """Entries as texts that a TEXT, MAILBOX or DOMAIN fact is compared with."""
    if fact_type is FactType.DOMAIN:
        return frozenset(_domain_entry(entry) for entry in entries)
    normal = normal_mailbox if fact_type is FactType.MAILBOX else normal_text
    return frozenset(normal(entry.text) for entry in entries)


def networks_for(entries: Iterable[Entry]) -> NetworkSet:
    """Entries as networks."""
    return NetworkSet(_network_entry(entry) for entry in entries)


def numbers_for(entries: Iterable[Entry]) -> frozenset[int]:
    """Entries as numbers."""
    return frozenset(_number_entry(entry) for entry in entries)


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
