"""What root may do for an account, before it becomes one and after."""

from __future__ import annotations

import grp
import os
from pathlib import Path

import pytest

from mailreeve_policyd.errors import ConfigError
from mailreeve_policyd.privileges import Account, drop_privileges, find_account, find_group, rights_of

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: the rights of another user")

NO_USER = Account("nobody", 2**32 - 1, 2**32 - 1)
"""No system lets anybody become this one: as a number it is the -1 that means "nobody in particular"."""


@needs_root
def test_with_the_rights_of_an_account_only_its_files_can_be_read(tmp_path: Path) -> None:
    """Within; afterwards root is root again, with its groups."""
    tmp_path.chmod(0o700)
    before = os.getresuid(), os.getresgid(), os.getgroups()

    with rights_of(find_account("nobody", "", "x")), pytest.raises(PermissionError):
        list(tmp_path.iterdir())

    assert (os.getresuid(), os.getresgid(), os.getgroups()) == before
    assert not list(tmp_path.iterdir())


def test_without_an_account_nothing_changes(tmp_path: Path) -> None:
    """A daemon without `user` stays who it is."""
    before = os.geteuid()

    with rights_of(None):
        assert os.geteuid() == before
        assert not list(tmp_path.iterdir())


@needs_root
def test_an_account_that_cannot_be_taken_is_a_mistake_and_no_traceback() -> None:
    """A container may forbid it; nothing is left half done."""
    with pytest.raises(ConfigError, match="cannot become 'nobody'"):
        drop_privileges(NO_USER)
    assert os.geteuid() == 0


def test_a_group_is_found_by_its_name(tmp_path: Path) -> None:
    """None is -1, as chown(2) has it; one that is not there is a mistake in the setting that names it."""
    assert find_group("", "mailreeve.toml", "milter.socket_group") == -1
    assert find_group(grp.getgrgid(0).gr_name, "mailreeve.toml", "milter.socket_group") == 0

    with pytest.raises(ConfigError, match=r"milter\.socket_group: there is no group 'no-such-group-here'"):
        find_group("no-such-group-here", "mailreeve.toml", "milter.socket_group")
