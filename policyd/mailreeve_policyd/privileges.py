"""The account that a daemon runs as when root starts it. Knows the user database and nothing else."""

from __future__ import annotations

import grp
import logging
import os
import pwd
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
    if not group:
        return Account(user, entry.pw_uid, entry.pw_gid)
    try:
        return Account(user, entry.pw_uid, grp.getgrnam(group).gr_gid)
    except KeyError:
        raise ConfigError(file, "group", f"there is no group {escape(group)!r}") from None


def drop_privileges(account: Account | None) -> None:
    """Become the account, for good. Only root can; without an account root stays root, and says so."""
    if os.geteuid() != 0:
        return
    if account is None:
        log.warning('running as root: set user = "mailreeve" in the configuration')
        return
    os.initgroups(account.name, account.group)
    os.setgid(account.group)  # as root, these set the real, effective and saved ids
    os.setuid(account.user)
