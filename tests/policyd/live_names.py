"""Live sets and tables for tests: a server that can go away, a clock by hand, rules that ask them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mailreeve_policyd.errors import ConfigError, StoreError
from mailreeve_policyd.limits import LimitStore
from mailreeve_policyd.limits_memory import MemoryStore
from mailreeve_policyd.live import GivenNames, UnusableName
from mailreeve_policyd.policy import Policy
from mailreeve_policyd.rules import Ruleset, parse_ruleset
from mailreeve_policyd.rules.outside import Outside
from mailreeve_policyd.smtp import Stage
from tests.policyd.rules_text import MIDNIGHT, SPLIT


@dataclass
class Hand:
    """A clock of seconds that passes by hand."""

    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Server:
    """LiveNames that can be changed and taken away, and that counts what it is asked."""

    sets: dict[str, frozenset[str]] = field(default_factory=dict)
    tables: dict[str, dict[str, str]] = field(default_factory=dict)
    away: set[str] = field(default_factory=set)
    unusable: set[str] = field(default_factory=set)
    asked: int = 0

    def has(self, name: str, members: Sequence[str]) -> bool:
        self._answer(name)
        return GivenNames(self.sets, {}).has(name, members)

    def value(self, name: str, key: str) -> str | None:
        self._answer(name)
        return GivenNames({}, self.tables).value(name, key)

    def _answer(self, name: str) -> None:
        self.asked += 1
        if name in self.away:
            raise StoreError("Connection refused")
        if name in self.unusable:
            raise UnusableName("WRONGTYPE")


def rules_with(text: str, outside: Outside, files: Mapping[str, str] | None = None) -> Ruleset:
    """The rules of a text, with what they may ask outside and the files that they name."""

    def read_file(path: Path, shown: str, limit: int) -> str:
        if files is None or path.name not in files:
            raise ConfigError(shown, "", "cannot be read: No such file or directory")
        return files[path.name][:limit]

    return parse_ruleset(text, "rules", SPLIT, read_file=read_file, outside=outside)


def policy_with(
    text: str, server: Server, stage: Stage = Stage.RCPT, store: LimitStore | None = None
) -> Policy:
    """A policy by rules that ask this server."""
    return Policy(
        rules_with(text, Outside(live=server)), store or MemoryStore(lambda: MIDNIGHT), SPLIT[stage]
    )
