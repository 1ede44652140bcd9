"""A Conversation with everything around it in memory: shipped doubles, no process and no network."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from ipaddress import ip_network
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from mailreeve_milter.arc_mail import ArcOptions
from mailreeve_milter.conversation import Conversation
from mailreeve_milter.dkim import SigningKey
from mailreeve_milter.examination import Examiner
from mailreeve_milter.message_bounds import MessageBounds
from mailreeve_milter.replay import Occasion
from mailreeve_milter.signing_table import SigningKeys
from mailreeve_milter.surroundings import Surroundings, instance_names
from mailreeve_policyd.audit import AuditLog
from mailreeve_policyd.facts import Door
from mailreeve_policyd.limits_memory import MemoryStore
from mailreeve_policyd.policy import Policy
from mailreeve_policyd.resolver import ZoneResolver
from mailreeve_policyd.rules.load import load_ruleset
from mailreeve_policyd.rules.networks import NetworkSet
from mailreeve_policyd.smtp import Stage, parse_domain
from tests.lab.record_schema import check_record

NOW = datetime(2026, 6, 1, tzinfo=UTC)

ZONE = """
example.net.         TXT  "v=spf1 ip4:192.0.2.0/24 -all"
_dmarc.example.net.  TXT  "v=DMARC1; p=reject"
"""

OUTSIDE = Occasion("192.0.2.1", "mail.example.net", "bob@example.net", ("alice@example.org",), queue_id="4B1")
OURS = Occasion("203.0.113.5", "laptop", "bob@example.org", ("ann@example.net",), login="bob")

AT_THE_END = frozenset((Stage.END_OF_MESSAGE,))
ALL_STAGES = frozenset(Stage)


@dataclass(slots=True)
class Lines:
    """An audit sink that keeps its lines."""

    written: list[Mapping[str, Any]] = field(default_factory=list)

    def write(self, line: bytes) -> None:
        """Keep it, parsed."""
        record = json.loads(line)
        check_record(record)
        self.written.append(record)

    def reopen(self) -> None:
        """Nothing to reopen."""

    def close(self) -> None:
        """Nothing is open."""


@dataclass(slots=True)
class Talk:
    """A conversation, and the lines of its record."""

    conversation: Conversation
    surroundings: Surroundings
    records: list[Mapping[str, Any]]


def make_talk(
    folder: Path,
    rules: str = "",
    stages: frozenset[Stage] = AT_THE_END,
    zone: str = ZONE,
    failing: Iterable[str] = (),
    bounds: MessageBounds = MessageBounds(),  # noqa: B008 -- it is frozen
    relays: Iterable[str] = (),
    arc: ArcOptions | None = None,
    received_spf: bool = False,
) -> Talk:
    """A conversation under these rules; example.org has a key, and 198.51.100.0/24 is ours."""
    (folder / "rules").write_text(rules)
    ruleset = load_ruleset(folder / "rules", dict.fromkeys(stages, Door.MILTER))
    resolver = ZoneResolver(zone, failing)
    key = SigningKey(parse_domain("example.org"), parse_domain("e1"), Ed25519PrivateKey.generate())
    examiner = Examiner(
        "mx.example.org",
        NetworkSet([ip_network("198.51.100.0/24")]),
        NetworkSet(ip_network(text) for text in relays),
        8,
        SigningKeys([key]),
        lambda _transaction: resolver,
        lambda: NOW,
        arc,
        received_spf,
        bounds=bounds,
    )
    lines = Lines()
    surroundings = Surroundings(
        stages,
        Policy(ruleset, MemoryStore(NOW.timestamp), Door.MILTER),
        examiner,
        AuditLog("milter", lines),
        instance_names(),
        {stage: ruleset.needs((stage,)) for stage in stages},
    )
    return Talk(Conversation(surroundings), surroundings, lines.written)
