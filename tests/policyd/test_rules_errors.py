"""Every wrong rules file in tests/bad_configs/rules gives exactly the message beside it."""

from __future__ import annotations

from pathlib import Path

import pytest

from mailreeve_policyd.errors import ConfigError
from mailreeve_policyd.facts import Door
from mailreeve_policyd.rules import load_ruleset, parse_ruleset
from mailreeve_policyd.rules.source import MAX_RULES_BYTES
from mailreeve_policyd.smtp import Stage
from tests.policyd.rules_text import SPLIT, at_rcpt

CASES = sorted((Path(__file__).parent.parent / "bad_configs" / "rules").iterdir())


def doors_of(case: Path) -> dict[Stage, Door]:
    """The default split; a file `decides` changes one stage: `STAGE policyd|milter|nobody`."""
    doors = dict(SPLIT)
    if (case / "decides").exists():
        stage, who = (case / "decides").read_text().split()
        del doors[Stage(stage)]
        if who != "nobody":
            doors[Stage(stage)] = Door(who)
    return doors


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_mistake_is_told_with_its_place_and_what_would_be_right(case: Path) -> None:
    """File, line, column, the line with a caret, and a hint: word for word as in expected.txt."""
    with pytest.raises(ConfigError) as caught:
        load_ruleset(case / "rules", doors_of(case))

    told = str(caught.value).replace(f"{case}/", "")
    assert told == (case / "expected.txt").read_text().rstrip("\n")


def test_a_missing_rules_file_is_told_with_its_path(tmp_path: Path) -> None:
    """The file that is not there is named."""
    with pytest.raises(ConfigError, match="no-rules: cannot be read: No such file"):
        load_ruleset(tmp_path / "no-rules", SPLIT)


def test_a_path_is_told_whole_however_long_it_is(tmp_path: Path) -> None:
    """A path that is cut cannot be found: the set's file is named to its end."""
    folder = tmp_path / ("a" * 100) / ("b" * 100)
    folder.mkdir(parents=True)
    (folder / "rules").write_text('set local = file "no-such-file.txt"\n')

    with pytest.raises(ConfigError) as caught:
        load_ruleset(folder / "rules", SPLIT)

    assert f"the file `{folder / 'no-such-file.txt'}` cannot be read" in caught.value.problem


def test_a_folder_is_no_rules_file(tmp_path: Path) -> None:
    """What cannot be read is a mistake, not a traceback."""
    with pytest.raises(ConfigError, match="Is a directory"):
        load_ruleset(tmp_path, SPLIT)


def test_a_rules_file_beyond_its_bound_is_not_read(tmp_path: Path) -> None:
    """A megabyte is the most."""
    file = tmp_path / "rules"
    file.write_text("#" * (MAX_RULES_BYTES + 1))

    with pytest.raises(ConfigError, match=f"larger than {MAX_RULES_BYTES} bytes"):
        load_ruleset(file, SPLIT)


def test_a_byte_order_mark_and_crlf_do_no_harm(tmp_path: Path) -> None:
    """What an editor on Windows saves is read."""
    file = tmp_path / "rules"
    file.write_bytes(b"\xef\xbb\xbf" + at_rcpt("bob: accept").replace("\n", "\r\n").encode())

    assert [rule.name for rule in load_ruleset(file, SPLIT).rules] == ["bob"]


def test_the_caret_stands_below_the_mistake_in_a_long_line_with_tabs() -> None:
    """A tab is one column, and of a long line only what is around the place is shown."""
    text = "at rcpt {\n\tbob: accept if " + "sender or " * 50 + "nobody\n}"

    with pytest.raises(ConfigError) as caught:
        parse_ruleset(text, "rules", SPLIT)

    line, caret = str(caught.value.excerpt).split("\n")
    assert line[len(caret) - 1 :].startswith("nobody")
    assert len(line) < 120


def test_too_many_rules_are_told() -> None:
    """The bound is a mistake with its place, not a slow daemon."""
    with pytest.raises(ConfigError, match="more than 2000 rules"):
        parse_ruleset(at_rcpt(*(f"r{number}: accept" for number in range(2001))), "rules", SPLIT)


def test_a_number_beyond_all_bounds_is_told() -> None:
    """Python would raise on converting it; the administrator gets the place."""
    with pytest.raises(ConfigError, match="is too large"):
        parse_ruleset(at_rcpt(f"a: accept if client_port > {'9' * 5000}"), "rules", SPLIT)
