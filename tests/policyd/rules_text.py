"""Rules files as texts, the doors that decide their stages, and transactions to ask them about."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from mailreeve_policyd.authres import MethodResult
from mailreeve_policyd.errors import ConfigError
from mailreeve_policyd.facts import Door
from mailreeve_policyd.judgement import OnUnknown
from mailreeve_policyd.limits import LimitStore
from mailreeve_policyd.limits_memory import MemoryStore
from mailreeve_policyd.policy import Policy
from mailreeve_policyd.rules import Ruleset, parse_ruleset
from mailreeve_policyd.smtp import Stage, parse_mailbox, parse_path
from mailreeve_policyd.transaction import Envelope, Evidence, Session, Transaction, parse_address
from mailreeve_policyd.verdict import Verdict

SPLIT: Mapping[Stage, Door] = {
    stage: Door.MILTER if stage is Stage.END_OF_MESSAGE else Door.POLICY for stage in Stage
}
"""Who decides what by default."""

MIDNIGHT = 999_993_600.0
"""When the store in memory stands still: on the edge of a bucket of every period that divides a day."""

POLICY_ALONE: Mapping[Stage, Door] = dict.fromkeys(Stage, Door.POLICY)
MILTER_ALONE: Mapping[Stage, Door] = dict.fromkeys(Stage, Door.MILTER)


def ruleset_of(
    text: str, doors: Mapping[Stage, Door] = SPLIT, files: Mapping[str, str] | None = None
) -> Ruleset:
    """The rules of a text; `files` are those that it names."""

    def read_file(path: Path, shown: str, limit: int) -> str:
        if files is None or path.name not in files:
            raise ConfigError(shown, "", "cannot be read: No such file or directory")
        return files[path.name][:limit]

    return parse_ruleset(text, "rules", doors, read_file=read_file)


def policy_of(
    text: str,
    stage: Stage = Stage.RCPT,
    doors: Mapping[Stage, Door] = SPLIT,
    store: LimitStore | None = None,
    files: Mapping[str, str] | None = None,
) -> Policy:
    """A policy by a text's rules, with a store in memory unless one is given."""
    return Policy(ruleset_of(text, doors, files), store or MemoryStore(lambda: MIDNIGHT), doors[stage])


def moment(stage: Stage = Stage.RCPT, instance: str | None = "1a.b.0", **given: Any) -> Transaction:
    """A moment of a transaction.

    `client` and `sender`, `recipient`, `author` are texts, `login`, `helo` and `results` (method to
    result word), other names are fields of Transaction or Session.
    """
    client = given.pop("client", "203.0.113.9")
    session = Session(
        client_address=parse_address(client) if client else None,
        helo_name=given.pop("helo", None),
        sasl_username=given.pop("login", None),
        **{name: given.pop(name) for name in tuple(given) if name in Session.__struct_fields__},
    )
    recipient = parse_mailbox(given.pop("recipient")) if "recipient" in given else None
    envelope = Envelope(parse_path(given.pop("sender", "")), (recipient,) if recipient else ())
    return replace(
        Transaction(stage, session, envelope, recipient, instance=instance, evidence=_evidence(given)),
        **given,
    )


def _evidence(given: dict[str, Any]) -> Evidence:
    results: Mapping[str, str] = given.pop("results", {})
    spf = {"spf": {"smtp.mailfrom": "ann@example.net"}}
    author = given.pop("author", None)
    return Evidence(
        tuple(MethodResult(method, word, spf.get(method, {})) for method, word in results.items()),
        parse_mailbox(author) if author else None,
        tuple(given.pop("dkim_domains", ())),
        given.pop("dmarc_policy", None),
    )


def decide(text: str, transaction: Transaction, **around: Any) -> Verdict:
    """The verdict of a text's rules."""
    return policy_of(text, transaction.stage, **around).decide(transaction)


def holds(condition: str, transaction: Transaction, sets: str = "", **around: Any) -> bool | None:
    """What a condition comes to, at the transaction's stage."""
    text = f"{sets}\nat {transaction.stage.value} {{\n    rule: accept if {condition}\n}}"
    (rule,) = ruleset_of(text, **around).rules
    assert rule.condition is not None
    return rule.condition(transaction)


def at_rcpt(*rules: str) -> str:
    """A rcpt block of these rules."""
    return block(Stage.RCPT, *rules)


def block(stage: Stage, *rules: str) -> str:
    """A block of these rules."""
    lines = "\n".join(f"    {rule}" for rule in rules)
    return f"at {stage.value} {{\n{lines}\n}}\n"


IGNORE = OnUnknown.IGNORE
DEFER = OnUnknown.DEFER
