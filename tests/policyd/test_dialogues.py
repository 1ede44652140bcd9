"""Conversations in tests/dialogues/policy/, held with the real door, rules, policy and a store in memory.

A dialogue is plain text; `#` begins a comment. Its words, one a line:

    rules                 the rules file: the indented lines that follow
    always NAME=VALUE     attributes that every request of this dialogue carries, one a line, indented
    decides STAGE ...     the stages of this daemon; without it the default of the settings
    connect               Postfix opens a new policy connection
    later N               N seconds pass
    evidence NAME=RESULT  what a check that a rule needs will find, from now on
    ask NAME=VALUE ...    a request with these attributes, as a shell would split them
    raw OCTETS            these octets as they are, in Python's notation for escapes
    answer TEXT           what Postfix must read: `action=TEXT`; TEXT may end in `...` for "and so on"
    closed                the connection must have been closed without an answer
    record KEY=VALUE ...  what the record of the last answer must hold; `a.b.0` is a path, VALUE is its text
    no record             the last answer must have left none
    gathered NAME ...     the evidence that was asked for since the last such line
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from mailreeve_policyd.audit import AuditLog
from mailreeve_policyd.authres import MethodResult
from mailreeve_policyd.door import PolicyConnection, PolicyDoor
from mailreeve_policyd.errors import ProtocolError
from mailreeve_policyd.facts import Door
from mailreeve_policyd.limits_memory import MemoryStore
from mailreeve_policyd.policy import Policy
from mailreeve_policyd.postfix import RequestParser
from mailreeve_policyd.rules import parse_ruleset
from mailreeve_policyd.settings import Settings
from mailreeve_policyd.smtp import Stage
from mailreeve_policyd.transaction import Evidence, Transaction
from tests.lab.record_schema import check_record

FOLDER = Path(__file__).parents[1] / "dialogues" / "policy"
START = 1_800_000_000.0
"""Seconds since the epoch at which every dialogue begins."""

PROPERTIES = {"spf": "smtp.mailfrom", "spf_helo": "smtp.helo", "iprev": "policy.iprev"}


class Records:
    """The record of a dialogue."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []

    def write(self, line: bytes) -> None:
        check_record(json.loads(line))
        self.lines.append(line)

    def reopen(self) -> None:
        """Nothing is open."""

    def close(self) -> None:
        """Nothing is open."""

    def take(self) -> dict[str, Any] | None:
        """The record since the last call; an answer leaves one at most."""
        assert len(self.lines) <= 1
        return json.loads(self.lines.pop()) if self.lines else None


class Dialogue:
    """One file, line by line."""

    def __init__(self, text: str) -> None:
        self.blocks = _blocks(text)
        self.seconds = START
        self.always: dict[str, str] = {}
        self.decides = frozenset(Stage(name) for name in Settings().policyd.decides)
        self.rules = ""
        self.evidence: dict[str, str] = {}
        self.gathered: set[str] = set()
        self.records = Records()
        self.answers = b""
        self.record: dict[str, Any] | None = None
        self.is_closed = False
        self.door: PolicyDoor | None = None

    def hold(self) -> None:
        for number, line, below in self.blocks:
            word, _, rest = line.partition(" ")
            try:
                getattr(self, f"do_{word}")(rest, below)
            except AssertionError as error:
                raise AssertionError(f"line {number}: {line}: {error}") from error
        assert self.answers == b"", "an answer that the dialogue does not mention"

    def do_rules(self, _: str, below: list[str]) -> None:
        self.rules = "\n".join(below)

    def do_always(self, _: str, below: list[str]) -> None:
        self.always = dict(line.strip().split("=", 1) for line in below)

    def do_decides(self, rest: str, _: list[str]) -> None:
        self.decides = frozenset(Stage(name) for name in rest.split())

    def do_connect(self, _rest: str, _below: list[str]) -> None:
        if self.door is None:
            self.door = self._open_door()
        self.parser = RequestParser()
        self.connection: PolicyConnection = self.door.connection()
        self.is_closed = False

    def _open_door(self) -> PolicyDoor:
        ruleset = parse_ruleset(self.rules, "rules", dict.fromkeys(self.decides, Door.POLICY))
        clock = datetime.fromtimestamp(START, UTC)
        return PolicyDoor(
            policy=Policy(ruleset, MemoryStore(lambda: self.seconds), Door.POLICY),
            needs=ruleset.needs,
            decides=self.decides,
            gather=self._gather,
            audit=AuditLog("policyd", self.records, lambda: clock),
            stopwatch=lambda: 0.0,
        )

    def _gather(self, transaction: Transaction, needs: frozenset[str]) -> Evidence:
        self.gathered |= needs
        return Evidence(
            tuple(
                MethodResult(need.partition("_")[0], self.evidence[need], {PROPERTIES[need]: "x"})
                for need in sorted(needs)
            )
        )

    def do_later(self, rest: str, _: list[str]) -> None:
        self.seconds += float(rest)

    def do_evidence(self, rest: str, _: list[str]) -> None:
        self.evidence |= _pairs(rest)

    def do_ask(self, rest: str, _: list[str]) -> None:
        attributes = {"request": "smtpd_access_policy"} | self.always | _pairs(rest)
        lines = [f"{name}={value}\n" for name, value in attributes.items()]
        self._send("".join([*lines, "\n"]).encode())

    def do_raw(self, rest: str, _: list[str]) -> None:
        self._send(rest.encode().decode("unicode_escape").encode("latin-1"))

    def _send(self, octets: bytes) -> None:
        assert not self.is_closed, "the connection is closed"
        assert self.answers == b"", "an answer that the dialogue does not mention"
        try:
            for attributes in self.parser.feed(octets):
                self.answers += self.connection.answer(attributes)
        except ProtocolError:
            self.is_closed = True
        self.record = self.records.take()

    def do_answer(self, rest: str, _below: list[str]) -> None:
        octets, _, self.answers = self.answers.partition(b"\n\n")
        answer = octets.decode().removeprefix("action=")
        assert answer == rest or (rest.endswith("...") and answer.startswith(rest.removesuffix("...")))

    def do_closed(self, _rest: str, _below: list[str]) -> None:
        assert self.is_closed, f"open, after {self.answers!r}"

    def do_record(self, rest: str, _: list[str]) -> None:
        assert self.record is not None, "there is none"
        for path, expected in _pairs(rest).items():
            assert _text(_at(self.record, path)) == expected, f"{path} in {self.record}"

    def do_no(self, rest: str, _: list[str]) -> None:
        assert (rest, self.record) == ("record", None)

    def do_gathered(self, rest: str, _: list[str]) -> None:
        assert self.gathered == set(rest.split())
        self.gathered = set()


def _blocks(text: str) -> list[tuple[int, str, list[str]]]:
    """Each line of the dialogue with its number and the indented lines below it."""
    blocks: list[tuple[int, str, list[str]]] = []
    for number, line in enumerate(text.splitlines(), start=1):
        if line.startswith(" "):
            blocks[-1][2].append(line)
        elif line.strip() and not line.startswith("#"):
            blocks.append((number, line, []))
    return blocks


def _pairs(text: str) -> dict[str, str]:
    return dict(word.split("=", 1) for word in shlex.split(text))


def _at(value: Any, path: str) -> Any:
    for step in path.split("."):
        if isinstance(value, Mapping):
            value = value.get(step)
        elif isinstance(value, list) and step.isdigit() and int(step) < len(value):
            value = value[int(step)]
        else:
            return None
    return value


def _text(value: Any) -> str:
    """`none` for a key that is missing, so that a dialogue can say so."""
    if value is None:
        return "none"
    return value if isinstance(value, str) else json.dumps(value)


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.txt")), ids=lambda path: path.stem)
def test_a_conversation_goes_as_it_is_written(path: Path) -> None:
    """The file's first line says what it shows."""
    assert path.read_text().startswith("# ")
    Dialogue(path.read_text()).hold()


def test_there_are_conversations() -> None:
    """A folder that was moved must not look like success."""
    assert len(list(FOLDER.glob("*.txt"))) >= 10
