"""Which keys sign for whom, key files as the operator keeps them, and new keys. RFC 6376 section 3.6.

Knows files, their permissions and the configuration; what a key is, the room dkim/ knows.
"""

from __future__ import annotations

import json
import logging
import os
import stat
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from mailreeve_milter.dkim.crypto import (
    MIN_RSA_BITS,
    NEW_RSA_BITS,
    KeyFormatError,
    PrivateKey,
    format_private_key,
    generate_ed25519_key,
    generate_rsa_key,
    key_bits,
    key_type,
    load_private_key,
)
from mailreeve_milter.dkim.key_record import format_key_record
from mailreeve_milter.dkim.sign import NEVER_SIGNED, SigningKey, SigningOptions
from mailreeve_milter.dkim.signature import format_key_name
from mailreeve_policyd.config import Configuration
from mailreeve_policyd.errors import ConfigError
from mailreeve_policyd.privileges import Account, find_account
from mailreeve_policyd.settings import Signing
from mailreeve_policyd.smtp import Domain, parse_domain

MAX_KEY_FILE_OCTETS = 65_536
"""An RSA key of 16384 bits in PEM form has 12,500: more is another file."""

MAX_TXT_OCTETS = 255
"""A character-string of a TXT record (RFC 1035 section 3.3)."""

log = logging.getLogger(__name__)


class SigningKeys:
    """All keys that were loaded, by the author domain that they sign for."""

    __slots__ = ("_by_domain",)

    def __init__(self, keys: Iterable[SigningKey] = ()) -> None:
        by_domain: dict[Domain, list[SigningKey]] = defaultdict(list)
        for key in keys:
            by_domain[key.domain].append(key)
        self._by_domain = {domain: tuple(of_domain) for domain, of_domain in by_domain.items()}

    def for_author(self, domain: Domain) -> tuple[SigningKey, ...]:
        """The keys of exactly this domain, in the order of the configuration; a subdomain has its own."""
        return self._by_domain.get(domain, ())

    @property
    def domains(self) -> tuple[Domain, ...]:
        """Every domain that has a key."""
        return tuple(self._by_domain)


def load_signing_keys(configuration: Configuration) -> SigningKeys:
    """Read every key file of `[[signing.keys]]`, once each: RSA takes 40 ms.

    Domains and selectors were checked when the configuration was read. Short RSA keys (under 2048
    bits) are taken with a warning in the log.

    Raises:
        ConfigError: a file cannot be read by the daemon's user, or can be read or changed by others,
            or holds no usable key.
    """
    loaded: dict[Path, PrivateKey] = {}
    keys = []
    for index, setting in enumerate(configuration.settings.signing.keys):
        entry = _Entry(configuration, f"signing.keys[{index}]", setting)
        if entry.file not in loaded:
            loaded[entry.file] = entry.load()
        keys.append(
            SigningKey(parse_domain(setting.domain), parse_domain(setting.selector), loaded[entry.file])
        )
    return SigningKeys(keys)


def signing_options(configuration: Configuration) -> SigningOptions:
    """How to sign, from `[signing]`.

    Raises:
        ConfigError: `oversign` names a field that must not be signed, or no field name.
    """
    names = []
    for text in configuration.settings.signing.oversign:
        name = text.lower()
        if not name or not all("!" <= character <= "~" and character not in ":;" for character in name):
            problem, hint = f"{text!r} is no header field name", "write names such as Subject"
        elif name.encode() in NEVER_SIGNED:
            problem, hint = f"{text} changes on the way and must not be signed", "remove it from the list"
        else:
            names.append(name.encode())
            continue
        raise ConfigError(str(configuration.path), "signing.oversign", problem, hint)
    return SigningOptions(oversign=tuple(names))


@dataclass(frozen=True, slots=True)
class _Entry:
    """One table of [[signing.keys]], and how to speak of it."""

    configuration: Configuration
    place: str
    setting: Signing.Key

    @property
    def file(self) -> Path:
        return self.configuration.resolve(self.setting.file)

    def error(self, problem: str, hint: str) -> ConfigError:
        return ConfigError(str(self.configuration.path), f"{self.place}.file", problem, hint)

    def load(self) -> PrivateKey:
        pem = self._read()
        try:
            key = load_private_key(pem)
        except KeyFormatError as error:
            raise self.error(
                f"{self.file}: {error}",
                "PEM with an RSA (PKCS#1, PKCS#8) or Ed25519 (PKCS#8) key, no password",
            ) from None
        self._check_length(key)
        return key

    def _read(self) -> bytes:
        try:
            # a pipe in the file's place must not make the daemon wait for somebody to write
            with os.fdopen(os.open(self.file, os.O_RDONLY | os.O_NONBLOCK), "rb") as stream:
                self._check_access(os.fstat(stream.fileno()))
                return stream.read(MAX_KEY_FILE_OCTETS)
        except OSError as error:
            raise self.error(
                f"{self.file} cannot be read: {error.strerror}",
                "`mailreeve keys new DOMAIN` makes keys; the daemon's user must be able to read them",
            ) from None

    def _check_access(self, found: os.stat_result) -> None:
        """A private key is for its owner, and for a group that may read it; others must not even see it."""
        if not stat.S_ISREG(found.st_mode):
            raise self.error(f"{self.file} is no regular file", "name the file of the key")
        if found.st_mode & (stat.S_IRWXO | stat.S_IWGRP):
            raise self.error(
                f"others can read or change {self.file} (mode {stat.S_IMODE(found.st_mode):04o})",
                f"chmod 0600 {self.file}; if it was exposed, make a new key and remove the old one from DNS",
            )
        settings = self.configuration.settings
        account = find_account(settings.user, settings.group, str(self.configuration.path))
        if account and os.geteuid() == 0 and not _can_read(account, found):
            raise self.error(f"{account.name} cannot read {self.file}", f"chown {account.name} {self.file}")

    def _check_length(self, key: PrivateKey) -> None:
        if key_type(key) != "rsa":
            return
        bits = key_bits(key)
        if bits < MIN_RSA_BITS:
            raise self.error(
                f"{self.file}: an RSA key of {bits} bits is worth nothing to receivers",
                f"make one of {NEW_RSA_BITS}: `mailreeve keys new {self.setting.domain}`",
            )
        if bits < NEW_RSA_BITS:
            log.warning("%s: an RSA key of %d bits; RFC 8301 recommends %d", self.file, bits, NEW_RSA_BITS)


def _can_read(account: Account, found: os.stat_result) -> bool:
    """May the account, which the daemon becomes, read a file of this owner and mode?"""
    if account.user == found.st_uid:
        return bool(found.st_mode & stat.S_IRUSR)
    groups = os.getgrouplist(account.name, account.group)
    return found.st_gid in groups and bool(found.st_mode & stat.S_IRGRP)


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


def new_keys(
    domain: Domain, directory: Path, owner: tuple[int, int] | None, today: date
) -> tuple[NewKey, ...]:
    """Make an RSA and an Ed25519 key for a domain, each in a file of its own, mode 0600, on the disk.

    `owner` is uid and gid for the files and, where it is made here, the directory. Selectors say
    algorithm and day (`r20261123`). Both files are written or none is; none is ever overwritten.

    Raises:
        ConfigError: such a file is there already, or cannot be written.
    """
    made: list[NewKey] = []
    try:
        _make_directory(directory, owner)
        for letter, key in (("r", generate_rsa_key()), ("e", generate_ed25519_key())):
            selector = Domain(f"{letter}{today:%Y%m%d}")
            path = directory / f"{domain}.{selector}.pem"
            _write_new(path, format_private_key(key), owner)
            made.append(NewKey(path, domain, selector, f"{key_type(key)}-sha256", format_key_record(key)))
        _sync_directory(directory)
    except FileExistsError as error:
        _remove(made)
        raise ConfigError(
            str(error.filename), "", "is there already: keys are never overwritten", "one set a day is enough"
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
