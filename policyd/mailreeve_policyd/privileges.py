"""The account that a daemon runs as when root starts it. Knows the user database and nothing else."""

from __future__ import annotations

import grp
import logging
import os
import pwd
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from mailreeve_policyd.errors import ConfigError
from mailreeve_policyd.escape import escape

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Account:
    """A user's number, the number of the group it runs with, and its name (for its further groups)."""

    name: str
    user: int
    group: int


def find_account(user: str, group: str, file: str) -> Account | None:
    """The account of the settings `user` and `group` (empty: the user's own); None without a user.

    Raises:
        ConfigError: this machine has no such user or group.
    """
    if not user:
        return None
    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        hint = "adduser --system --group mailreeve"
        raise ConfigError(file, "user", f"there is no user {escape(user)!r}", hint) from None
    number = find_group(group, file, "group")
    return Account(user, entry.pw_uid, entry.pw_gid if number < 0 else number)


def find_group(group: str, file: str, key: str) -> int:
    """The number of a group; -1 without one. `key` is the setting that names it.

    Raises:
        ConfigError: this machine has no such group.
    """
    if not group:
        return -1
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        raise ConfigError(file, key, f"there is no group {escape(group)!r}") from None


@contextmanager
def rights_of(account: Account | None) -> Iterator[None]:
    """Within, root has the rights of the account and no more: what is read here, a reload can read as well.

    For a process with one thread alone. Without an account, or without being root, nothing changes.

    Raises:
        ConfigError: the system does not let us.
    """
    if account is None or os.geteuid() != 0:
        yield
        return
    group, groups = os.getegid(), os.getgroups()
    try:
        _take_rights(account)
        yield
    finally:
        os.seteuid(0)  # first: only root may change the others back
        os.setegid(group)
        os.setgroups(groups)


def _take_rights(account: Account) -> None:
    try:
        os.initgroups(account.name, account.group)
        os.setegid(account.group)
        os.seteuid(account.user)
    except OSError as error:
        raise _cannot_become(account, error) from error


def _cannot_become(account: Account, error: OSError) -> ConfigError:
    hint = "root in a container may lack the capabilities SETUID and SETGID; or start the daemon as the user"
    return ConfigError("", "user", f"cannot become {escape(account.name)!r}: {error.strerror}", hint)


def drop_privileges(account: Account | None) -> None:
    """Become the account, for good. Only root can; without an account root stays root, and says so.

    Raises:
        ConfigError: the system does not let us.
    """
    if os.geteuid() != 0:
        return
    if account is None:
        log.warning('running as root: set user = "mailreeve" in the configuration')
        return
    try:
        os.initgroups(account.name, account.group)
        os.setgid(account.group)  # as root, these set the real, effective and saved ids
        os.setuid(account.user)
    except OSError as error:
        raise _cannot_become(account, error) from error
