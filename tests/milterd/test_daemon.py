"""What the milter makes of its files before anything starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from mailreeve_milter.daemon import load_files
from mailreeve_policyd.config import load_configuration
from mailreeve_policyd.errors import ConfigError

CONFIGURATION = """\
[authentication]
authserv_id = "mx.example.net"
[signing]
oversign = ["Subject"]
"""


def write_files(folder: Path, rules: str, configuration: str = CONFIGURATION) -> Path:
    (folder / "mailreeve.toml").write_text(configuration)
    (folder / "rules").write_text(rules)
    return folder / "mailreeve.toml"


@pytest.mark.parametrize(
    "rule",
    [
        'at end-of-message {\n    tag: add-header "SUBJECT: hello"\n}',
        'at end-of-message {\n tag: limit 5 messages/day per client_address else add-header "Subject: hi"\n}',
    ],
    ids=["a rule", "a limit's else"],
)
def test_a_rule_may_not_break_our_own_signature(tmp_path: Path, rule: str) -> None:
    """A field of signing.oversign that the milter adds after signing would make every signature fail."""
    config = load_configuration(write_files(tmp_path, rule))

    with pytest.raises(ConfigError, match="rules:2: the rule tag adds"):
        load_files(config)


def test_a_field_that_postfix_adds_is_there_before_we_sign(tmp_path: Path) -> None:
    """The policy daemon's answer comes first: what it adds is signed with the rest."""
    path = write_files(tmp_path, 'at rcpt {\n    tag: add-header "Subject: hello"\n}')

    assert load_files(load_configuration(path)).ruleset.stages
