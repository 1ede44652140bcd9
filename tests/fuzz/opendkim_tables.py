"""Any octets are OpenDKIM tables that can be asked for any author, or a ConfigError with file and line."""

import os
from pathlib import Path
from typing import NoReturn

from mailreeve_milter.dkim.crypto import PrivateKey
from mailreeve_milter.key_file import KeyFiles
from mailreeve_milter.opendkim import OpenDkimTables, SigningTable
from mailreeve_milter.opendkim_file import parse_table
from mailreeve_milter.opendkim_keys import KeyTable
from mailreeve_policyd.errors import ConfigError
from mailreeve_policyd.smtp import parse_mailbox

WORDS = (
    b"*@example.org one\n",
    b"example.org one\n",
    b".example.org one:@%\n",
    b"* %\n",
    b"one example.org:s1:",
    b"%:s1:",
    b"# ",
    b"MC4CAQAwBQYDK2VwBCIEI",
    b":ed25519-sha256",
)

_TABLE = Path("/etc/opendkim/table")
_STATUS = os.stat_result((0o100600, 0, 0, 1, 0, 0, 0, 0, 0, 0))
_AUTHORS = tuple(
    map(parse_mailbox, ("bob@example.org", "Bob@mail.example.org", "a@b.example", "*@x.example"))
)


class _NoFiles(KeyFiles):
    def load(self, path: Path, where: tuple[str, str]) -> NoReturn:
        raise ConfigError(*where, f"{path} cannot be read: No such file or directory")

    def check(self, key: PrivateKey, path: Path, found: os.stat_result, where: tuple[str, str]) -> None:
        """Any length of key will do."""


def check(data: bytes) -> None:
    """See the module. An empty line parts the tables; no path is looked for."""
    signing, _, keys = data.replace(b"/", b"_").partition(b"\n\n")
    for has_patterns in (False, True):
        tables = _read(signing, keys, has_patterns=has_patterns)
        if isinstance(tables, str):
            assert tables.startswith(f"{_TABLE}:")
            continue
        for author in _AUTHORS:
            tables.keys_for(author)


def _read(signing: bytes, keys: bytes, *, has_patterns: bool) -> OpenDkimTables | str:
    try:
        requests = SigningTable(parse_table(signing, _TABLE, _STATUS, has_patterns=has_patterns))
        table = KeyTable(parse_table(keys, _TABLE, _STATUS, has_patterns=has_patterns))
        table.load({request.key_name for request in requests}, _NoFiles())
    except ConfigError as error:
        return str(error)
    return OpenDkimTables(requests, table, multiple=True)
