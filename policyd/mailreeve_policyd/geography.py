"""Where an address is, by files in MaxMind's format: the country, and the autonomous system.

https://maxmind.github.io/MaxMind-DB/. Knows maxminddb. A file lies in memory as a whole, not mapped: one that
is written in place would otherwise end the process that reads it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import Any, Generic, TypeVar

import maxminddb

from mailreeve_policyd.config import Configuration
from mailreeve_policyd.errors import ConfigError
from mailreeve_policyd.regular_file import open_regular
from mailreeve_policyd.transaction import IPAddress
from mailreeve_policyd.watched_files import WatchedFiles, stamp_of

MAX_FILE_BYTES = 512 * 1024 * 1024
"""The largest such files, of cities, have some 120 MB; a larger one is another file."""

REMEMBERED_ADDRESSES = 4096
"""Addresses of which the answer is remembered: one takes some 50 us to find."""

MAX_COUNTRY = 2
"""Letters of a country code (ISO 3166-1 alpha-2)."""

AnswerT = TypeVar("AnswerT")


class Places(Generic[AnswerT]):
    """What one file says of addresses. Safe from any thread.

    `read_record` takes what is looked for out of a record, or gives None. `files` says when to read the
    file again.

    Raises:
        ConfigError: the file cannot be read or is none; `place` names the option.
    """

    def __init__(
        self, path: Path, told: tuple[str, str], read_record: Callable[[Mapping[str, Any]], AnswerT | None]
    ) -> None:
        self._path = path
        self._told = told
        self._read_record = read_record
        stamps = {path: stamp_of(path)}  # before it is read
        self._find = self._open()
        self.files = WatchedFiles(stamps, self._prepare)

    def find(self, address: IPAddress | None) -> AnswerT | None:
        """What the file says of an address; None for none, and where it says nothing."""
        return None if address is None else self._find(address)

    def _open(self) -> Callable[[IPAddress], AnswerT | None]:
        reader = _open_reader(self._path, *self._told)
        takes_ipv6 = reader.metadata().ip_version == 6
        read_record = self._read_record

        @lru_cache(maxsize=REMEMBERED_ADDRESSES)
        def find(address: IPAddress) -> AnswerT | None:
            if address.version == 6 and not takes_ipv6:
                return None
            try:
                record = reader.get(address)
            except (maxminddb.InvalidDatabaseError, ValueError):
                return None  # a damaged part of the file says nothing
            return read_record(record) if isinstance(record, Mapping) else None

        return find

    def _prepare(self, changed: frozenset[Path]) -> Callable[[], None]:
        del changed  # there is one file
        find = self._open()

        def put_in_force() -> None:
            self._find = find

        return put_in_force


def _open_reader(path: Path, file: str, option: str) -> maxminddb.Reader:
    try:
        with open_regular(path) as stream:
            raw = stream.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        hint = "a file in MaxMind's format, such as GeoLite2-Country.mmdb of geoipupdate"
        raise ConfigError(file, option, f"{path} cannot be read: {error.strerror}", hint) from error
    if len(raw) > MAX_FILE_BYTES:
        raise ConfigError(file, option, f"{path} is larger than {MAX_FILE_BYTES} bytes")
    try:
        return maxminddb.open_database(BytesIO(raw), maxminddb.MODE_FD)
    except (maxminddb.InvalidDatabaseError, ValueError) as error:
        hint = "it ends in .mmdb, and not in .tar.gz or .csv"
        raise ConfigError(file, option, f"{path} is no file in MaxMind's format", hint) from error


def open_countries(configuration: Configuration) -> Places[str] | None:
    """What `[geoip] country` names; None where it names nothing. Raises ConfigError as `Places`."""
    name = configuration.settings.geoip.country
    told = (str(configuration.path), "geoip.country")
    return Places(configuration.resolve(name), told, _country) if name else None


def open_asns(configuration: Configuration) -> Places[int] | None:
    """What `[geoip] asn` names; None where it names nothing. Raises ConfigError as `Places`."""
    name = configuration.settings.geoip.asn
    told = (str(configuration.path), "geoip.asn")
    return Places(configuration.resolve(name), told, _asn) if name else None


def _country(record: Mapping[str, Any]) -> str | None:
    """Where the address is, else where it is registered. DB-IP and GeoLite2 both write it so."""
    for name in ("country", "registered_country"):
        found = record.get(name)
        code = found.get("iso_code") if isinstance(found, Mapping) else None
        if isinstance(code, str) and len(code) == MAX_COUNTRY and code.isascii() and code.isalpha():
            return code.upper()
    return None


def _asn(record: Mapping[str, Any]) -> int | None:
    found = record.get("autonomous_system_number")
    return found if isinstance(found, int) and 0 < found < 2**32 else None
