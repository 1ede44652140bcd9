from __future__ import annotations

import json
import os
import pwd
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from mailreeve_policyd.config import parse_configuration
from mailreeve_policyd.daemon import bounds_of, load_policyd
from mailreeve_policyd.errors import ConfigError
from mailreeve_policyd.listen import UnixAddress
from mailreeve_policyd.peer import Bounds
from mailreeve_policyd.postfix import RequestBounds
from mailreeve_policyd.rules.regex import PatternBounds
from mailreeve_policyd.rules_time import RulesTime
from mailreeve_policyd.settings import Deciding
from mailreeve_policyd.worker import Wear

pytestmark = pytest.mark.system

TIMEOUT_SECONDS = 30.0
RUN = """\
import pathlib, sys
from mailreeve_policyd.daemon import run_policyd
sys.exit(run_policyd(pathlib.Path(sys.argv[1])))
"""
CONFIGURATION = """\
[policyd]
listen = ["unix:{folder}/s"]
[audit]
to = "file"
file = "audit.jsonl"
"""
RULES = """\
at rcpt {
    burst: limit 2 recipients/hour per sasl_username
}
expect defer at rcpt with sasl_username = "bob" after 3 times
"""
REQUEST = """\
request=smtpd_access_policy
protocol_state=RCPT
instance=%d
recipient=alice@example.org
sasl_username=bob

"""


def write_files(folder: Path, rules: str = RULES) -> Path:
    text = f'state_dir = "{folder}"\n' + CONFIGURATION.format(folder=folder)
    (folder / "mailreeve.toml").write_text(text)
    (folder / "rules").write_text(rules)
    return folder / "mailreeve.toml"


class Running:
    """`mailreeve policyd` in processes of its own."""

    def __init__(self, folder: Path, rules: str = RULES, settings: str = "") -> None:
        self.folder = folder
        config = write_files(folder, rules)
        config.write_text(config.read_text() + settings)
        command = [sys.executable, "-c", RUN, str(config)]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)

    def wait_for(self, text: str) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            if text in line:
                return
        raise AssertionError(f"it ended before it said {text!r}")

    def ask(self, instance: int) -> str:
        return self.answer(REQUEST % instance).split()[0]

    def answer(self, request: str) -> str:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(TIMEOUT_SECONDS)
            client.connect(str(self.folder / "s"))
            client.sendall(request.encode())
            return client.recv(1000).decode().strip()

    @property
    def records(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.folder / "audit.jsonl").read_text().splitlines()]

    def close(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(TIMEOUT_SECONDS)
        assert self.process.stderr is not None
        self.process.stderr.close()


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    with closing(Running(tmp_path)) as daemon:
        yield daemon


def test_it_counts_reloads_records_and_stops(running: Running) -> None:
    """From the files to the answer; limits live through a reload, which takes good rules alone."""
    running.wait_for("listens at")
    assert [running.ask(instance) for instance in (1, 2, 3)] == [
        "action=DUNNO",
        "action=DUNNO",
        "action=DEFER_IF_PERMIT",
    ]

    (running.folder / "rules").write_text("at rcpt { nonsense }")
    running.process.send_signal(signal.SIGHUP)
    running.wait_for("old configuration stays in force")
    assert running.ask(3) == "action=DEFER_IF_PERMIT"

    (running.folder / "rules").write_text(RULES.replace("2 rec", "3 rec").replace("after 3", "after 4"))
    running.process.send_signal(signal.SIGHUP)
    running.wait_for("the last worker with the old configuration has ended")
    assert [running.ask(instance) for instance in (3, 4)] == ["action=DUNNO", "action=DEFER_IF_PERMIT"]

    running.process.send_signal(signal.SIGTERM)
    assert running.process.wait(TIMEOUT_SECONDS) == 0
    lines = (running.folder / "audit.jsonl").read_text().splitlines()
    assert [json.loads(line)["limits"][0]["exceeded"] for line in lines] == [
        False, False, True, True, False, True,
    ]  # fmt: skip


def test_a_request_on_which_the_rules_work_for_too_long_is_deferred_alone(tmp_path: Path) -> None:
    """Under a setting; the record tells the decision and the bound, and the next request is answered."""
    patterns = (
        f"r{number}: warn if helo_name matches /(a?){{300}}(a){{300}}b{number}/" for number in range(40)
    )
    rules = "at rcpt {\n" + "\n".join(patterns) + "\n}\n"
    settings = "[deciding]\nmax_rules_seconds = 0.01\n"
    with closing(Running(tmp_path, rules, settings)) as running:
        running.wait_for("listens at")

        slow = running.answer(f"helo_name={'a' * 8000}\n" + REQUEST % 1)

        assert slow == "action=DEFER_IF_PERMIT 4.3.0 Temporary failure, please try again later"
        assert running.ask(2) == "action=DUNNO"
        bound, deferred, decided = running.records
    assert (bound["event"], bound["bound"]) == ("bound", "deciding.max_rules_seconds")
    assert (bound["maximum"], bound["consequence"]) == (0.01, "refused")
    assert (deferred["verdict"]["action"], deferred["unknown"]) == ("defer", ["rules"])
    assert decided["verdict"]["action"] == "continue"


def test_the_files_are_read_whole_before_anything_starts(tmp_path: Path) -> None:
    """Addresses, account and rules: what the supervisor needs."""
    generation = load_policyd(write_files(tmp_path))

    assert generation.listen == (UnixAddress(tmp_path / "s"),)
    assert (generation.socket_mode, generation.workers, generation.account) == (0o660, 1, None)
    assert generation.drain_seconds == 30.0


@pytest.mark.parametrize(
    ("rules", "problem"),
    [
        ("at rcpt {", "rules"),
        (RULES.replace("after 3", "after 1"), "expect"),
        ("at rcpt { a: wran }", "rules"),
    ],
)
def test_bad_rules_are_told_before_anything_starts(tmp_path: Path, rules: str, problem: str) -> None:
    """A mistake in the language, and an expect line that is not met."""
    with pytest.raises(ConfigError, match=problem):
        load_policyd(write_files(tmp_path, rules))


def test_a_daemon_without_an_address_is_a_mistake(tmp_path: Path) -> None:
    """It could never be asked anything."""
    config = write_files(tmp_path)
    config.write_text("[policyd]\nlisten = []\n")

    with pytest.raises(ConfigError, match=r"policyd\.listen: names no address"):
        load_policyd(config)


def test_a_server_of_dns_that_is_none_is_told_before_anything_starts(tmp_path: Path) -> None:
    """Workers would die of it, one after the other."""
    config = write_files(tmp_path)
    config.write_text(config.read_text() + '[dns]\nservers = ["nonsense"]\n')

    with pytest.raises(ConfigError, match=r"dns\.servers: 'nonsense'"):
        load_policyd(config)


def test_limits_without_a_state_directory_do_not_start(tmp_path: Path) -> None:
    """They would be counted in the memory of each process, and let more through."""
    config = write_files(tmp_path)
    config.write_text(config.read_text().replace(f'"{tmp_path}"', f'"{tmp_path}/missing"'))

    with pytest.raises(ConfigError, match="state_dir: there is no folder"):
        load_policyd(config)


BOUNDS = {
    "policyd.max_connections": (1, 1, None),
    "policyd.idle_timeout_seconds": (2.0, 1.0, 86_400.0),
    "policyd.request_timeout_seconds": (3.0, 1.0, 3600.0),
    "policyd.total_timeout_seconds": (4.0, 1.0, 604_800.0),
    "policyd.max_waiting": (5, 1, 1000),
    "policyd.max_request_bytes": (10_000, 8192, 1_048_576),
    "policyd.max_line_bytes": (3000, 2100, 1_048_576),
    "policyd.max_attributes": (60, 50, 10_000),
    "deciding.max_rules_seconds": (0.5, 0.01, 60.0),
    "deciding.max_matched_characters": (300, 256, 65_536),
    "deciding.max_pattern_steps": (200, 100, 100_000),
}
"""Of each bound of the policy daemon, and of the rules: a value, the least and the most that it may have."""


def test_every_bound_of_a_connection_arrives_where_it_is_kept() -> None:
    """Each its own; without settings they are those of the code."""
    text = "".join(f"{name} = {value}\n" for name, (value, _, _) in BOUNDS.items())
    settings = parse_configuration(text.encode(), Path("mailreeve.toml")).settings

    assert bounds_of(settings.policyd) == Bounds(2.0, 3.0, 4.0, RequestBounds(10_000, 3000, 60))
    without = parse_configuration(b"", Path("mailreeve.toml")).settings
    assert bounds_of(without.policyd) == Bounds()
    assert without.deciding == Deciding(
        RulesTime().seconds, PatternBounds().characters, PatternBounds().steps
    )


def test_the_bounds_of_patterns_arrive_where_they_are_kept(tmp_path: Path) -> None:
    """A pattern that is too large is a mistake in the rules."""
    config = write_files(tmp_path, "at rcpt {\n    all: warn if helo_name matches /a{150}/\n}\n")
    load_policyd(config)

    config.write_text(config.read_text() + "[deciding]\nmax_pattern_steps = 100\n")
    with pytest.raises(ConfigError, match="may take 100"):
        load_policyd(config)


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


def test_no_number_of_workers_is_one_a_core_that_we_may_use(tmp_path: Path) -> None:
    """Where taskset or a container gives fewer than the machine has, as many as it gives."""
    config = write_files(tmp_path)
    config.write_text(config.read_text().replace("[policyd]", "[policyd]\nworkers = 0"))
    ours = os.sched_getaffinity(0)
    assert load_policyd(config).workers == len(ours)
    os.sched_setaffinity(0, {min(ours)})
    try:
        assert load_policyd(config).workers == 1
    finally:
        os.sched_setaffinity(0, ours)


def test_what_wears_a_worker_out_is_the_settings_to_say(tmp_path: Path) -> None:
    """Requests, and memory in MB (test_supervisor.py has what is done then)."""
    config = write_files(tmp_path)
    worn = "[policyd]\nrecycle_after_requests = 5\nmax_worker_memory_mb = 100"
    config.write_text(config.read_text().replace("[policyd]", worn))
    assert load_policyd(config).wear == Wear(5, 100 << 20)


@pytest.fixture
def folder_for_all(tmp_path: Path) -> Path:
    """A folder that every account may enter."""
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)
    return tmp_path


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: files of another user")
@pytest.mark.parametrize("name", ["mailreeve.toml", "rules", "state"])
def test_what_a_reload_could_not_read_does_not_start(folder_for_all: Path, name: str) -> None:
    """Root could read it at the start, but each SIGHUP comes when root is gone: both see the same."""
    config = write_files(folder_for_all)
    state = folder_for_all / "state"
    state.mkdir()
    text = config.read_text().replace(f'state_dir = "{folder_for_all}"', 'state_dir = "state"')
    config.write_text('user = "nobody"\n' + text.replace('to = "file"', 'to = "stdout"'))
    os.chown(state, pwd.getpwnam("nobody").pw_uid, -1)
    load_policyd(config)

    os.chown(folder_for_all / name, 0, 0)
    (folder_for_all / name).chmod(0o700)

    with pytest.raises(ConfigError, match="nobody"):
        load_policyd(config)
    assert os.geteuid() == 0
