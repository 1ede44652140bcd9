"""OpenDKIM's KeyTable and SigningTable, read as they are (opendkim.conf(5)): which keys sign for an author.

Everything that a table names is found and loaded when it is read; nothing is opened for a message. What
OpenDKIM would only tell when mail comes, such as a name without a key, is a ConfigError here.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mailreeve_milter.dkim.sign import SigningKey
from mailreeve_milter.key_file import KeyFiles
from mailreeve_milter.opendkim_file import AUTHOR, Line, TableFile, read_table
from mailreeve_milter.opendkim_keys import KeyTable
from mailreeve_policyd.address_pattern import Glob, parse_glob
from mailreeve_policyd.errors import ProtocolError
from mailreeve_policyd.escape import escape
from mailreeve_policyd.smtp import Domain, Mailbox, parse_domain

MAX_IDENTITY_CHARACTERS = 320
"""An address: a local part of 64, the @ and a domain of 255 (RFC 5321 section 4.5.3.1)."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Request:
    """A line of the SigningTable: who signs, by the name that the KeyTable has for it, and its i=."""

    line: Line
    key_name: str
    identity: str


class OpenDkimTables:
    """Both tables. `multiple` is MultipleSignatures."""

    def __init__(self, requests: SigningTable, keys: KeyTable, *, multiple: bool) -> None:
        self._requests = requests
        self._keys = keys
        self._multiple = multiple

    def keys_for(self, author: Mailbox) -> tuple[SigningKey, ...]:
        """The keys that sign this author's mail, each once; none if the tables do not name him."""
        found: dict[tuple[str, str], SigningKey] = {}
        if author.domain is None:
            return ()
        for request in self._requests.for_author(author.local_part, author.domain):
            name = author.domain if request.key_name == AUTHOR else request.key_name
            entry = self._keys.entry(name)
            if key := entry.key_for(author.domain, request.identity) if entry else None:
                found.setdefault((key.domain, key.selector), key)
            if not self._multiple:
                break
        return tuple(found.values())


def load_tables(
    key_table: str, signing_table: str, folder: Path, files: KeyFiles, *, multiple: bool
) -> OpenDkimTables:
    """Read both tables, as opendkim.conf names them, and every key that can be asked for.

    Raises:
        ConfigError: a file cannot be read, a line has a mistake or names a key that there is not, or
            a key cannot be used; with the file and the line.
    """
    requests = SigningTable(read_table(signing_table, folder))
    keys = KeyTable(read_table(key_table, folder))
    names = {request.key_name for request in requests}
    keys.load(names, files)
    for request in requests:
        if request.key_name != AUTHOR and keys.entry(request.key_name) is None:
            raise requests.file.error(
                request.line,
                f"the key table has no key named {escape(request.key_name)!r}",
                f"its keys stand in {keys.file.path}; one name a line, case matters",
            )
    return OpenDkimTables(requests, keys, multiple=multiple)


class SigningTable:
    """The SigningTable. Authors are compared without case."""

    def __init__(self, file: TableFile) -> None:
        self.file = file
        self._requests = [_parse_request(file, line) for line in file.lines]
        self._exact: dict[str, list[int]] = defaultdict(list)
        self._patterns: list[tuple[Glob, int]] = []
        for position, request in enumerate(self._requests):
            if file.has_patterns:
                self._add_pattern(request.line.key.lower(), position)
            else:
                self._add_address(request.line, position)

    def __iter__(self) -> Iterator[_Request]:
        return iter(self._requests)

    def for_author(self, local_part: str, domain: Domain) -> Iterator[_Request]:
        """The lines that are for an author, in the order in which OpenDKIM tries them."""
        if not self.file.has_patterns:
            for address in _addresses(local_part.lower(), domain):
                yield from (self._requests[position] for position in self._exact.get(address, ()))
            return
        address = f"{local_part}@{domain}"
        positions = [position for pattern, position in self._patterns if pattern.matches(address)]
        for position in sorted([*positions, *self._exact.get(domain, ())]):
            yield self._requests[position]

    def _add_pattern(self, pattern: str, position: int) -> None:
        """Most patterns are `*@domain`: those are looked up, for tables with thousands of them."""
        local_part, at, domain = pattern.rpartition("@")
        host = _a_labels(domain)
        if at and local_part == "*" and "*" not in host:
            self._exact[host].append(position)
        else:
            self._patterns.append((parse_glob(f"{local_part}{at}{host}"), position))

    def _add_address(self, line: Line, position: int) -> None:
        local_part, at, domain = line.key.lower().rpartition("@")
        if "*" in line.key and (local_part, domain) != (local_part.replace("*", ""), "*"):
            raise self.file.error(
                line,
                f"{escape(line.key)!r} is a pattern, and this is a file without patterns",
                "name the table as refile:PATH",
            )
        address = f"{local_part}{at}{_a_labels(domain)}"
        if address in self._exact:
            earlier = self._requests[self._exact[address][0]].line.number
            log.warning(
                "%s:%d has no effect: line %d is for the same author", self.file.path, line.number, earlier
            )
            return
        self._exact[address].append(position)


def _addresses(local_part: str, domain: Domain) -> Iterator[str]:
    """What OpenDKIM looks for in a table without patterns, one after the other."""
    yield f"{local_part}@{domain}"
    yield domain
    rest = domain.partition(".")[2]
    while rest:
        yield f"{local_part}@.{rest}"
        yield f".{rest}"
        rest = rest.partition(".")[2]
    yield f"{local_part}@*"
    yield "*"


def _a_labels(host: str) -> str:
    """A domain with U-labels as mail has it; anything else as it is."""
    if host.isascii():
        return host
    stem = host.lstrip("*.")
    try:
        return host.removesuffix(stem) + parse_domain(stem)
    except ProtocolError:
        return host


def _parse_request(file: TableFile, line: Line) -> _Request:
    key_name, _, identity = line.value.partition(":")
    if not key_name:
        raise file.error(line, "names no key", "PATTERN KEYNAME, with a KEYNAME of the key table")
    if identity and ("@" not in identity or len(identity) > MAX_IDENTITY_CHARACTERS):
        raise file.error(
            line, f"no address for i=: {escape(identity)!r}", "KEYNAME:@example.org or KEYNAME:@%"
        )
    return _Request(line, key_name, identity)
