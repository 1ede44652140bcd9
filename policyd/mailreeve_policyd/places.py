"""The folders in which the daemons make files, looked at before anything starts. Changes nothing.

Whoever calls has the rights of the account that will write there (launch.load_as_the_daemon): what it may
not do would otherwise be met by the workers, one request after the other.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from mailreeve_policyd.config import Configuration
from mailreeve_policyd.errors import ConfigError
from mailreeve_policyd.limits_open import FILE_NAME, uses_state_dir
from mailreeve_policyd.listen import Address, UnixAddress


def check_places(configuration: Configuration, *, counts: bool) -> None:
    """Can the record be written, and, if the rules have limits (`counts`), their embedded store?

    Raises:
        ConfigError: a folder is missing, or it or a file in it may not be written.
    """
    if counts and uses_state_dir(configuration):
        folder = configuration.resolve(configuration.settings.state_dir)
        _check_folder(configuration, "state_dir", folder)
        for path in _store_files(folder):
            _check_file(configuration, "state_dir", path)
    if configuration.settings.audit.to == "file":
        path = configuration.resolve(configuration.settings.audit.file)
        _check_folder(configuration, "audit.file", path.parent)
        _check_file(configuration, "audit.file", path)


def check_sockets(configuration: Configuration, addresses: Iterable[Address]) -> None:
    """Can sockets be made at these addresses, by this process with the rights that it has now?

    For who asks without starting anything: `bind` finds the same, and who starts a daemon as root binds
    with root's rights.

    Raises:
        ConfigError: a folder is missing or may not be written.
    """
    for address in addresses:
        if isinstance(address, UnixAddress):
            _check_folder(configuration, str(address), address.path.parent)


def _store_files(folder: Path) -> Iterator[Path]:
    for ending in ("", "-wal", "-shm"):  # those of SQLite
        yield folder / f"{FILE_NAME}{ending}"


def _check_folder(configuration: Configuration, place: str, folder: Path) -> None:
    file, user = str(configuration.path), configuration.settings.user
    who = user or "the user that runs this"
    try:
        status = folder.stat()
    except FileNotFoundError:
        hint = f"make it, for {who} to write" + (f": install -d -o {user} {folder}" if user else "")
        raise ConfigError(file, place, f"there is no folder {folder}", hint) from None
    except OSError as error:
        raise ConfigError(file, place, f"{folder} cannot be looked at: {error.strerror}") from error
    if not stat.S_ISDIR(status.st_mode):
        raise ConfigError(file, place, f"{folder} is no folder")
    if not may(folder, os.W_OK | os.X_OK):
        problem = f"{who} may not make files in the folder {folder}"
        raise ConfigError(file, place, problem, f"chown {user} {folder}" if user else None)


def _check_file(configuration: Configuration, place: str, path: Path) -> None:
    if path.exists() and not may(path, os.W_OK):
        user = configuration.settings.user
        problem = f"{user or 'the user that runs this'} may not write {path}"
        hint = f"chown {user} {path}" if user else "is it left by a run as another user?"
        raise ConfigError(str(configuration.path), place, problem, hint)


def may(path: Path, mode: int) -> bool:
    """Has this process, with the rights that it has now, these (os.R_OK and so on)?"""
    return os.access(path, mode, effective_ids=os.access in os.supports_effective_ids)
