"""OpenDKIM's KeyTable: names to keys, `NAME DOMAIN:SELECTOR:KEY` a line (opendkim.conf(5)).

Knows key files and their lines; who asks for a name, opendkim.py knows.
"""

from __future__ import annotations

import base64
import binascii
import glob
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mailreeve_milter.dkim.crypto import KeyFormatError, PrivateKey, key_type, load_private_key_der
from mailreeve_milter.dkim.sign import SigningKey
from mailreeve_milter.key_file import KeyFiles
from mailreeve_milter.opendkim_file import AUTHOR, Line, TableFile
from mailreeve_policyd.address_pattern import Glob, parse_glob
from mailreeve_policyd.errors import ProtocolError
from mailreeve_policyd.escape import escape
from mailreeve_policyd.smtp import Domain, is_under, parse_domain

log = logging.getLogger(__name__)

# the algorithm that versions of OpenDKIM since 2026 allow behind the key
_ALGORITHM = re.compile(r"(?P<key>.*):(?P<algorithm>(?:rsa|ed25519)-sha(?:1|256))\Z", re.DOTALL)
_PEM_LINE = re.compile(r"-----(?:BEGIN|END) [A-Z ]*-----")


@dataclass(frozen=True, slots=True)
class KeyEntry:
    """A line of the KeyTable: one key, or one for each author domain that a file was found for.

    `domain` None means the author's.
    """

    domain: Domain | None
    selector: Domain
    private_key: PrivateKey | None
    by_author: Mapping[Domain, PrivateKey] = field(default_factory=dict)

    def key_for(self, author_domain: Domain, identity: str) -> SigningKey | None:
        """The key for an author of this domain, with an i= if `identity` asks for one that may be."""
        private_key = self.private_key or self.by_author.get(author_domain)
        if private_key is None:
            return None
        domain = self.domain or author_domain
        return SigningKey(domain, self.selector, private_key, _within(domain, identity, author_domain))


def _within(domain: Domain, identity: str, author_domain: Domain) -> str:
    """The i= that a line asks for; none where it would lie outside of d=."""
    told = identity.replace(AUTHOR, author_domain)
    try:
        return told if told and is_under(parse_domain(told.rpartition("@")[2]), domain) else ""
    except ProtocolError:
        return ""


class KeyTable:
    """The KeyTable: the lines by their names, and the keys of those lines that are asked for."""

    def __init__(self, file: TableFile) -> None:
        self.file = file
        self._entries: dict[int, KeyEntry] = {}
        self._exact: dict[str, Line] = {}
        self._patterns: list[tuple[Glob, Line]] = []
        for line in file.lines:
            if file.has_patterns and "*" in line.key:
                self._patterns.append((parse_glob(line.key, minds_case=True), line))
            else:
                self._exact.setdefault(line.key, line)

    def entry(self, name: str) -> KeyEntry | None:
        """The first line with this name."""
        line = self._line(name)
        return self._entries.get(line.number) if line else None

    def load(self, names: set[str], files: KeyFiles) -> None:
        """Load the keys of all names that can be asked for; a line that nobody asks for is left unread."""
        wanted = {line.number: line for name in names if (line := self._line(name))}
        if AUTHOR in names:
            candidates = [*self._exact.values(), *(line for _, line in self._patterns)]
            wanted |= {line.number: line for line in candidates if _may_be_domain(line.key)}
        for number, line in sorted(wanted.items()):
            self._entries[number] = _EntryReader(self.file, line, files).read()
        if unread := len(self.file.lines) - len(wanted):
            log.warning("%s: %d keys are not used by the signing table", self.file.path, unread)

    def _line(self, name: str) -> Line | None:
        found = [line for pattern, line in self._patterns if pattern.matches(name)]
        if name in self._exact:
            found.append(self._exact[name])
        return min(found, key=lambda line: line.number, default=None)


def _may_be_domain(key: str) -> bool:
    try:
        return bool(parse_domain(key.replace("*", "a")))
    except ProtocolError:
        return False


@dataclass(frozen=True, slots=True)
class _EntryReader:
    """One line of the KeyTable on its way to keys: `domain:selector:key`, and perhaps `:algorithm`."""

    file: TableFile
    line: Line
    files: KeyFiles

    def read(self) -> KeyEntry:
        parts = self.line.value.split(":", 2)
        if len(parts) < 3 or not all(parts):
            raise self.file.error(self.line, "is no key", "NAME DOMAIN:SELECTOR:/path/to/key.private")
        domain, selector, source, algorithm = *parts[:2], *self._split_algorithm(parts[2])
        entry = self._load(*self._names(domain, selector), source)
        for key in (entry.private_key, *entry.by_author.values()):
            if key and algorithm and f"{key_type(key)}-sha256" != algorithm:
                raise self.file.error(self.line, f"the key is not for {algorithm}", "remove the algorithm")
        return entry

    def _split_algorithm(self, text: str) -> tuple[str, str]:
        """The key, and the algorithm or nothing."""
        match = _ALGORITHM.match(text)
        if match is None:
            return text, ""
        if match["algorithm"] == "rsa-sha1":
            raise self.file.error(
                self.line, "rsa-sha1 is no longer accepted by anybody (RFC 8301)", "remove the algorithm"
            )
        return match["key"], match["algorithm"]

    def _names(self, domain: str, selector: str) -> tuple[Domain | None, Domain]:
        try:
            return None if domain == AUTHOR else parse_domain(domain), parse_domain(selector)
        except ProtocolError:
            raise self.file.error(
                self.line,
                f"not a domain and a selector: {escape(domain)!r}, {escape(selector)!r}",
                "NAME DOMAIN:SELECTOR:/path/to/key.private",
            ) from None

    def _load(self, domain: Domain | None, selector: Domain, source: str) -> KeyEntry:
        if not source.startswith(("/", "./", "../")):
            return KeyEntry(domain, selector, self._load_inline(source))
        if AUTHOR in source and domain is None:
            return KeyEntry(None, selector, None, self._load_by_author(source))
        return KeyEntry(domain, selector, self._load_file(source.replace(AUTHOR, domain or AUTHOR)))

    def _load_file(self, path: str) -> PrivateKey:
        where = (str(self.file.path), str(self.line.number))
        return self.files.load((self.file.path.parent / path).absolute(), where)

    def _load_by_author(self, path: str) -> dict[Domain, PrivateKey]:
        """The files that exist with a domain in the place of each %, the same everywhere."""
        path = str((self.file.path.parent / path).absolute())
        parts = path.removeprefix("/").split(AUTHOR)
        first, *others = (re.escape(part) for part in parts)
        wanted = re.compile(f"/{first}([^/]+)" + r"\1".join(others))
        keys: dict[Domain, PrivateKey] = {}
        for name in sorted(map(str, Path("/").glob("*".join(map(glob.escape, parts))))):
            match = wanted.fullmatch(name)
            if match and _is_domain(match[1]):
                keys[Domain(match[1])] = self._load_file(name)
        if not keys:
            log.warning("%s:%d: no file of a domain is there: %s", self.file.path, self.line.number, path)
        return keys

    def _load_inline(self, text: str) -> PrivateKey:
        """Base64 of DER, perhaps between the lines of PEM; the table itself is then the key file."""
        where = (str(self.file.path), str(self.line.number))
        try:
            octets = base64.b64decode("".join(_PEM_LINE.sub("", text).split()), validate=True)
            key = load_private_key_der(octets)
        except (binascii.Error, ValueError, KeyFormatError):
            raise self.file.error(
                self.line, "neither a path nor a private key", "a path begins with /, ./ or ../"
            ) from None
        self.files.check(key, self.file.path, self.file.status, where)
        return key


def _is_domain(text: str) -> bool:
    try:
        return parse_domain(text) == text
    except ProtocolError:
        return False
