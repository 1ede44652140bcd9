"""What the milter makes of its files before anything starts."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from mailreeve_milter.connection_bounds import ConnectionBounds
from mailreeve_milter.daemon import load_files, surroundings_of
from mailreeve_milter.message_bounds import MessageBounds
from mailreeve_milter.surroundings import Surroundings
from mailreeve_policyd.audit import AuditLog
from mailreeve_policyd.config import Configuration, load_configuration, parse_configuration
from mailreeve_policyd.errors import ConfigError
from mailreeve_policyd.facts import Door
from mailreeve_policyd.limits_memory import MemoryStore
from mailreeve_policyd.policy import Policy
from mailreeve_policyd.sink_stream import StreamSink

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


def surroundings_under(configuration: Configuration) -> Surroundings:
    loaded = load_files(configuration)
    policy = Policy(loaded.ruleset, MemoryStore(time.time), Door.MILTER)
    return surroundings_of(loaded, policy, AuditLog("milter", StreamSink(2)))


BOUNDS = {
    "milter.max_connections": (1, 1, None),
    "milter.idle_timeout_seconds": (2.0, 1.0, 86_400.0),
    "milter.packet_timeout_seconds": (3.0, 1.0, 3600.0),
    "milter.total_timeout_seconds": (4.0, 1.0, 604_800.0),
    "milter.max_packet_bytes": (70_000, 65_535, 16_777_215),
    "milter.max_waiting": (5, 1, 1000),
    "milter.max_header_bytes": (2000, 1024, None),
    "milter.max_header_fields": (101, 100, 1_000_000),
    "milter.max_recipients": (102, 100, 1_000_000),
    "milter.max_added_fields": (6, 1, 1000),
    "authentication.max_results_read": (11, 10, 10_000),
    "authentication.max_removed_fields": (12, 10, 10_000),
    "authentication.max_signatures": (7, 1, 100),
}
"""Of each bound of the milter: a value, the least and the most that it may have."""


def test_every_bound_of_the_settings_arrives_where_it_is_kept(tmp_path: Path) -> None:
    """Each its own."""
    bounds = "".join(f"{name} = {value}\n" for name, (value, _, _) in BOUNDS.items())
    text = bounds + 'authentication.authserv_id = "mx.example.net"\n'
    surroundings = surroundings_under(load_configuration(write_files(tmp_path, "", text)))

    assert surroundings.bounds == ConnectionBounds(1, 2.0, 3.0, 4.0, 70_000, 5)
    assert surroundings.examiner.bounds == MessageBounds(2000, 101, 102, 6, 11, 12)
    assert surroundings.examiner.max_signatures == 7


def test_without_settings_the_bounds_are_those_of_the_code(tmp_path: Path) -> None:
    """What tests see of bounds is what an administrator has who sets none."""
    surroundings = surroundings_under(load_configuration(write_files(tmp_path, "")))

    assert surroundings.bounds == ConnectionBounds()
    assert surroundings.examiner.bounds == MessageBounds()


@pytest.mark.parametrize("name", BOUNDS)
def test_a_bound_has_a_sensible_range(name: str) -> None:
    """Its ends are taken; what lies outside is an error that names the option."""
    _, least, most = BOUNDS[name]
    for value in (least, most):
        if value is not None:
            parse_configuration(f"{name} = {value}\n".encode(), Path("mailreeve.toml"))
    for value in (least - 1, most and most + 1):
        if value is not None:
            with pytest.raises(ConfigError, match=name):
                parse_configuration(f"{name} = {value}\n".encode(), Path("mailreeve.toml"))
