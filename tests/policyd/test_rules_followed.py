"""Rules whose set and table files change: the next request is decided by the new ones, or by the old."""

from __future__ import annotations

from pathlib import Path

import pytest

from mailreeve_policyd.rules import load_ruleset, parse_ruleset
from mailreeve_policyd.rules.followed import FollowedRules
from mailreeve_policyd.rules.source import read_text
from mailreeve_policyd.smtp import Stage
from tests.policyd.rules_text import IGNORE, SPLIT, at_rcpt, moment

RULES = (
    'set vip = file "vip.txt"\n'
    'set nets = file "nets.txt"\n'
    'table quotas = file "quotas.csv"\n'
    + at_rcpt(
        "vip: accept if sasl_username in vip",
        "net: accept if client_address in nets",
        "day: limit quotas[sasl_username] or 1 message/day per sasl_username",
    )
    + 'expect accept at rcpt with sasl_username = "root"\n'
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The rules with their files."""
    (tmp_path / "rules").write_text(RULES)
    (tmp_path / "vip.txt").write_text("root\n")
    (tmp_path / "nets.txt").write_text("192.0.2.0/24\n")
    (tmp_path / "quotas.csv").write_text("bob,5 messages/day\n")
    return tmp_path


@pytest.fixture
def rules(folder: Path) -> FollowedRules:
    """Read once."""
    return FollowedRules(load_ruleset(folder / "rules", SPLIT))


def look(rules: FollowedRules) -> None:
    """Twice, so that what rests is read."""
    for _ in range(2):
        for files in rules.files:
            files.look()


def decides(rules: FollowedRules, login: str) -> str | int | None:
    """The rule that decides for a login, or else its limit."""
    (block,) = rules.judge(moment(login=login), [Stage.RCPT], IGNORE).blocks
    if block.decision is not None:
        return block.decision.rule
    return block.pending[0].charge.limit.maximum


def test_a_set_and_a_table_are_read_again(rules: FollowedRules, folder: Path) -> None:
    """Without a reload, each when it changes."""
    assert [decides(rules, login) for login in ("bob", "ann", "root")] == [5, 1, "vip"]
    (folder / "vip.txt").write_text("root\nAnn\n")
    look(rules)
    assert [decides(rules, login) for login in ("bob", "ann", "root")] == [5, "vip", "vip"]
    (folder / "quotas.csv").write_text("bob,7 messages/day\n")
    look(rules)
    assert [decides(rules, login) for login in ("bob", "ann", "root")] == [7, "vip", "vip"]


def test_a_wrong_file_leaves_all_as_it_was(
    rules: FollowedRules, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """And the log says file, line and what is wrong, once."""
    (folder / "nets.txt").write_text("192.0.2.0/24\n\nhere\n")
    (folder / "vip.txt").write_text("root\nann\n")
    look(rules)
    look(rules)

    assert decides(rules, "ann") == 1
    (message,) = caplog.messages
    assert f"{folder / 'nets.txt'}:3: `here` is no network" in message
    (folder / "nets.txt").write_text("192.0.2.0/24\n")
    look(rules)
    assert decides(rules, "ann") == "vip"


def test_a_file_that_an_expect_line_speaks_against_does_not_take_force(
    rules: FollowedRules, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What a reload would refuse is refused now: otherwise the daemon would not start again."""
    (folder / "vip.txt").write_text("ann\n")
    look(rules)

    assert decides(rules, "root") == "vip"
    assert "expected accept at rcpt" in caplog.messages[0]


def test_the_rules_file_itself_waits_for_a_reload(rules: FollowedRules, folder: Path) -> None:
    """Its files are read for the rules that are in force."""
    (folder / "rules").write_text("no rules at all")
    (folder / "vip.txt").write_text("root\nann\n")
    look(rules)

    assert decides(rules, "ann") == "vip"


def test_a_request_is_decided_by_one_version(rules: FollowedRules, folder: Path) -> None:
    """The one that was in force when it came, whatever is read meanwhile."""
    before = rules.ruleset
    (folder / "vip.txt").write_text("root\nann\n")
    look(rules)

    assert rules.ruleset is not before
    assert before.judge(moment(login="ann"), [Stage.RCPT], IGNORE).blocks[0].decision is None
    assert rules.needs([Stage.RCPT]) == before.needs([Stage.RCPT])
    first, *_ = rules.steps(moment(login="ann"), [Stage.RCPT], IGNORE)
    assert str(first).startswith("rcpt vip: held")


def test_what_did_not_change_is_not_read_again(folder: Path) -> None:
    """A large set beside a small one that changes often costs nothing."""
    read: list[str] = []

    def read_file(path: Path, shown: str, limit: int) -> str:
        read.append(path.name)
        return read_text(path, shown, limit)

    rules = FollowedRules(parse_ruleset(RULES, "rules", SPLIT, folder=folder, read_file=read_file))
    read.clear()
    (folder / "vip.txt").write_text("root\nann\n")
    look(rules)

    assert decides(rules, "ann") == "vip"
    assert read == ["vip.txt"]


def test_a_file_that_everybody_may_write_is_told(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It is read all the same: the administrator may have reasons."""
    (folder / "vip.txt").chmod(0o666)

    assert decides(FollowedRules(load_ruleset(folder / "rules", SPLIT)), "root") == "vip"
    assert caplog.messages == [
        f"{folder / 'vip.txt'} can be written by every user of this machine: chmod o-w"
    ]
