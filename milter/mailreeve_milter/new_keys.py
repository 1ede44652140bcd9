"""New signing keys: files that their owner alone can read, records to publish, lines for mailreeve.toml.

RFC 6376 section 3.6.1. Knows files; what a key is, the room dkim/ knows.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from mailreeve_milter.dkim.crypto import (
    format_private_key,
    generate_ed25519_key,
    generate_rsa_key,
    key_type,
)
from mailreeve_milter.dkim.key_record import format_key_record
from mailreeve_milter.dkim.signature import format_key_name
from mailreeve_policyd.errors import ConfigError
from mailreeve_policyd.smtp import Domain

MAX_TXT_OCTETS = 255
"""A character-string of a TXT record (RFC 1035 section 3.3)."""


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key that was made: where its private half lies, and what to publish.

    `dns_value` is the record as one text, as web forms want it.
    """

    path: Path
    domain: Domain
    selector: Domain
    algorithm: str
    dns_value: str

    @property
    def dns_name(self) -> str:
        """The name of the TXT record, without its final dot."""
        return format_key_name(self.selector, self.domain)

    @property
    def dns_txt(self) -> str:
        """The record's strings, each of at most 255 octets, as a zone file has them."""
        parts = range(0, len(self.dns_value), MAX_TXT_OCTETS)
        return " ".join(f'"{self.dns_value[start : start + MAX_TXT_OCTETS]}"' for start in parts)

    @property
    def zone_line(self) -> str:
        """The whole record for a zone file."""
        return f"{self.dns_name}. IN TXT ( {self.dns_txt} )"

    @property
    def settings(self) -> str:
        """The lines for mailreeve.toml."""
        values = {"domain": self.domain, "selector": self.selector, "file": str(self.path)}
        lines = [f"{name} = {json.dumps(value, ensure_ascii=False)}" for name, value in values.items()]
        return "\n".join(["[[signing.keys]]", *lines]) + "\n"


@dataclass(frozen=True, slots=True)
class Selectors:
    """The names of a set of keys; the two differ."""

    rsa: Domain
    ed25519: Domain


def selectors_of(day: date) -> Selectors:
    """Algorithm and day: `r20261123`, `e20261123`."""
    return Selectors(Domain(f"r{day:%Y%m%d}"), Domain(f"e{day:%Y%m%d}"))


def new_keys(
    domain: Domain, directory: Path, owner: tuple[int, int] | None, selectors: Selectors
) -> tuple[NewKey, ...]:
    """Make an RSA and an Ed25519 key for a domain, each in a file of its own, mode 0600, on the disk.

    `owner` is uid and gid for the files and, where it is made here, the directory. Both files are written
    or none is; none is ever overwritten.

    Raises:
        ConfigError: such a file is there already, or cannot be written.
    """
    made: list[NewKey] = []
    try:
        _make_directory(directory, owner)
        for selector, key in (
            (selectors.rsa, generate_rsa_key()),
            (selectors.ed25519, generate_ed25519_key()),
        ):
            path = directory / f"{domain}.{selector}.pem"
            _write_new(path, format_private_key(key), owner)
            made.append(NewKey(path, domain, selector, f"{key_type(key)}-sha256", format_key_record(key)))
        _sync_directory(directory)
    except FileExistsError as error:
        _remove(made)
        raise ConfigError(
            str(error.filename),
            "",
            "is there already: keys are never overwritten",
            "one set a day is enough; `--selector NAME` names another",
        ) from None
    except OSError as error:
        _remove(made)
        raise ConfigError(
            str(error.filename or directory),
            "",
            f"cannot be written: {error.strerror}",
            "run this as root, or as the owner of the directory",
        ) from None
    return tuple(made)


def _make_directory(directory: Path, owner: tuple[int, int] | None) -> None:
    if directory.is_dir():
        return
    directory.mkdir(mode=0o700, parents=True)
    if owner is not None:
        os.chown(directory, *owner)


def _write_new(path: Path, octets: bytes, owner: tuple[int, int] | None) -> None:
    """The file belongs to its owner alone before the first octet is in it."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            if owner is not None:
                os.fchown(stream.fileno(), *owner)
            os.fchmod(stream.fileno(), 0o600)
            stream.write(octets)
            stream.flush()
            os.fsync(stream.fileno())
    except OSError:
        path.unlink(missing_ok=True)
        raise


def _sync_directory(directory: Path) -> None:
    """The names of the files, too, are on the disk."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(made: Iterable[NewKey]) -> None:
    for key in made:
        key.path.unlink(missing_ok=True)
