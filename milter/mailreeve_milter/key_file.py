"""Private keys in files as operators keep them: read once each, refused where others could have read them.

Knows files and their permissions; what a key is, the room dkim/ knows. Whoever calls has the rights of the
account that the daemon becomes (launch.load_as_the_daemon): a reload can read what the start could.
"""

from __future__ import annotations

import logging
import os
import stat
from pathlib import Path

from mailreeve_milter.dkim.crypto import (
    MIN_RSA_BITS,
    NEW_RSA_BITS,
    KeyFormatError,
    PrivateKey,
    key_bits,
    key_type,
    load_private_key,
)
from mailreeve_policyd.errors import ConfigError
from mailreeve_policyd.regular_file import open_regular

MAX_KEY_FILE_OCTETS = 65_536
"""An RSA key of 16384 bits in PEM form has 12,500: more is another file."""

log = logging.getLogger(__name__)


class KeyFiles:
    """The key files of one reading of the configuration; each is read once."""

    def __init__(self) -> None:
        self._loaded: dict[Path, PrivateKey] = {}

    def load(self, path: Path, where: tuple[str, str]) -> PrivateKey:
        """The key in a file; `where` is the file and the place that name it, for the error.

        Short RSA keys (under 2048 bits) are taken with a warning in the log.

        Raises:
            ConfigError: the file cannot be read by the daemon's user, or can be read or changed by
                others, or holds no usable key.
        """
        if path not in self._loaded:
            self._loaded[path] = _KeyFile(path, where).load()
        return self._loaded[path]

    def check(self, key: PrivateKey, path: Path, found: os.stat_result, where: tuple[str, str]) -> None:
        """A key that stands in another file, such as a table, is held to the same.

        Raises:
            ConfigError: as `load`.
        """
        check_access(path, found, where)
        check_length(key, f"{path}:{where[1]}", where)


class _KeyFile:
    """One key file, and how to speak of it."""

    def __init__(self, path: Path, where: tuple[str, str]) -> None:
        self._path = path
        self._where = where

    def load(self) -> PrivateKey:
        try:
            key = load_private_key(self._read())
        except KeyFormatError as error:
            raise self._error(
                f"{self._path}: {error}",
                "PEM with an RSA (PKCS#1, PKCS#8) or Ed25519 (PKCS#8) key, no password",
            ) from None
        check_length(key, str(self._path), self._where)
        return key

    def _error(self, problem: str, hint: str) -> ConfigError:
        return ConfigError(*self._where, problem, hint)

    def _read(self) -> bytes:
        try:
            with open_regular(self._path) as stream:
                check_access(self._path, os.fstat(stream.fileno()), self._where)
                return stream.read(MAX_KEY_FILE_OCTETS)
        except OSError as error:
            raise self._error(
                f"{self._path} cannot be read: {error.strerror}",
                "`mailreeve keys new DOMAIN` makes keys; the daemon's user must be able to read them, and to "
                "enter their folder",
            ) from None


def check_access(path: Path, found: os.stat_result, where: tuple[str, str]) -> None:
    """A private key is for its owner, and for a group that may read it; others must not even see it.

    Raises:
        ConfigError: it is not so.
    """
    if found.st_mode & (stat.S_IRWXO | stat.S_IWGRP):
        raise ConfigError(
            *where,
            f"others can read or change {path} (mode {stat.S_IMODE(found.st_mode):04o})",
            f"chmod 0600 {path}; if it was exposed, make a new key and remove the old one from DNS",
        )


def check_length(key: PrivateKey, name: str, where: tuple[str, str]) -> None:
    """Receivers ignore RSA keys under 1024 bits (RFC 8301 section 3.2); under 2048 the log warns.

    Raises:
        ConfigError: it is too short.
    """
    if key_type(key) != "rsa":
        return
    bits = key_bits(key)
    if bits < MIN_RSA_BITS:
        raise ConfigError(
            *where,
            f"{name}: an RSA key of {bits} bits is worth nothing to receivers",
            f"make one of {NEW_RSA_BITS}: `mailreeve keys new DOMAIN`",
        )
    if bits < NEW_RSA_BITS:
        log.warning("%s: an RSA key of %d bits; RFC 8301 recommends %d", name, bits, NEW_RSA_BITS)
