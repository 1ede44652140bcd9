"""`mailreeve check FILE`: what the milter would say of a message, printed rule by rule.

The command line as a door: the same conversation as the milter's, fed from a file. It changes nothing,
writes no record and counts nothing: limits are shown as for somebody who has sent nothing yet.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import typer

from mailreeve_milter.answers import Answer, Outcome, Response
from mailreeve_milter.conversation import Conversation
from mailreeve_milter.daemon import Loaded, load_files, surroundings_of
from mailreeve_milter.replay import Occasion, Replayed, run_message
from mailreeve_policyd.audit import AuditLog
from mailreeve_policyd.authres import MethodResult
from mailreeve_policyd.config import DEFAULT_FILE
from mailreeve_policyd.errors import ConfigError
from mailreeve_policyd.escape import decode_wire, escape
from mailreeve_policyd.facts import Door
from mailreeve_policyd.judgement import OnUnknown, Step
from mailreeve_policyd.launch import load_as_the_daemon
from mailreeve_policyd.limits_memory import MemoryStore
from mailreeve_policyd.policy import Policy
from mailreeve_policyd.smtp import Stage
from mailreeve_policyd.transaction import Transaction, parse_address
from mailreeve_policyd.verdict import Verdict

MAX_MESSAGE_BYTES = 256 * 1024 * 1024
"""More than any mail server takes; a larger file is something else."""

MAX_VALUE_SHOWN = 1000
"""Of a header field that would be added: signatures are some 500 characters."""


_SPACES = re.compile(r"[ \t]+")
"""Where a field is folded its next line begins with a tab, which means no more than a space."""


@dataclass(slots=True)
class _TracingPolicy:
    """Decides as the milter's policy does and keeps what became of each rule."""

    policy: Policy
    steps: list[Step] = field(default_factory=list)

    def decide(self, transaction: Transaction, stages: Iterable[Stage]) -> Verdict:
        """See Policy.decide."""
        explanation = self.policy.decide_traced(transaction, stages)
        self.steps += explanation.steps
        return explanation.verdict


class _NoRecord:
    """A record that nobody keeps."""

    def write(self, line: bytes) -> None:
        """Nothing is written."""

    def reopen(self) -> None:
        """Nothing is open."""

    def close(self) -> None:
        """Nothing is open."""


def _say_nothing(_name: str, _warning: str) -> None:
    """For a log that nobody reads."""


def check(
    file: Annotated[str, typer.Argument(help="The message, as it was sent; - for standard input.")],
    client: Annotated[str, typer.Option(help="The client's IP address; none for a local submission.")] = "",
    helo: Annotated[str, typer.Option(help="What it says in EHLO.")] = "unknown",
    sender: Annotated[str, typer.Option("--from", help="MAIL FROM; none for <>.")] = "",
    recipients: Annotated[
        list[str] | None, typer.Option("--to", help="RCPT TO; may be given more than once.")
    ] = None,
    login: Annotated[str, typer.Option(help="The SASL login, for mail of a user.")] = "",
    config: Annotated[Path, typer.Option("--config", "-c", help="The configuration file.")] = DEFAULT_FILE,
) -> None:
    """Say what the milter would do with a message, and why. Asks DNS as the milter would."""
    if client and parse_address(client) is None:
        raise ConfigError(
            "", "--client", f"not an IP address: {escape(client)!r}", "192.0.2.1 or 2001:db8::1"
        )
    raw = _read(file)
    occasion = Occasion(
        client or None, helo, sender, tuple(recipients or ["postmaster"]), login=login or None
    )
    for line in _report(load_as_the_daemon(config, load_files), occasion, raw):
        typer.echo(line)


def _read(file: str) -> bytes:
    try:
        if file == "-":
            raw = sys.stdin.buffer.read(MAX_MESSAGE_BYTES + 1)
        else:
            with Path(file).open("rb") as opened:
                raw = opened.read(MAX_MESSAGE_BYTES + 1)
    except OSError as error:
        raise ConfigError(file, "", f"cannot be read: {error.strerror}") from error
    if len(raw) > MAX_MESSAGE_BYTES:
        raise ConfigError(file, "", f"is larger than {MAX_MESSAGE_BYTES} bytes")
    return raw


def _report(loaded: Loaded, occasion: Occasion, raw: bytes) -> Iterator[str]:
    on_unknown = OnUnknown(loaded.configuration.settings.on_unknown)
    policy = _TracingPolicy(Policy(loaded.ruleset, MemoryStore(time.time), Door.MILTER, on_unknown))
    audit = AuditLog("milter", _NoRecord(), warn=_say_nothing)  # the report has the warnings
    surroundings = surroundings_of(loaded, policy, audit)
    own = surroundings.examiner
    replayed = run_message(Conversation(surroundings), occasion, raw)
    outcome = replayed.outcome
    if outcome is not None and outcome.transaction is not None:
        is_own = own.is_own(outcome.transaction.session)
        yield "our own mail: it is signed, not checked" if is_own else "mail from outside: it is checked"
        yield from _evidence(outcome.transaction)
    yield from _rules(policy.steps)
    yield from _answers(replayed)
    if outcome is not None:
        yield from _changes(outcome)


def _evidence(transaction: Transaction) -> Iterator[str]:
    evidence = transaction.evidence
    if evidence is None:
        return
    yield f"author: {escape(str(evidence.author)) if evidence.author else 'not exactly one author domain'}"
    for result in evidence.results:
        yield f"  {_result(result)}"
    if evidence.dmarc_policy:
        yield f"  the DMARC policy that applies: {evidence.dmarc_policy}"


def _result(result: MethodResult) -> str:
    properties = "".join(f" {name}={escape(value)}" for name, value in result.properties.items())
    reason = f" ({escape(result.reason)})" if result.reason else ""
    return f"{result.method}={result.result}{properties}{reason}"


def _rules(steps: Iterable[Step]) -> Iterator[str]:
    lines = [f"  line {step.line:<4} {step}" for step in steps]
    yield "rules:" if lines else "rules: none at the stages that the milter decides"
    yield from lines


def _answers(replayed: Replayed) -> Iterator[str]:
    for stage, response in replayed.responses:
        if response.answer is not Answer.CONTINUE:
            yield f"answer at {stage.value}: {_response(response)}"
    outcome = replayed.outcome
    if outcome is None:
        yield "the message itself is never asked for"
        return
    rule = outcome.verdict.rule if outcome.verdict else None
    yield f"answer: {_response(outcome.response)}{f', by the rule {rule}' if rule else ''}"
    if outcome.quarantine is not None:
        yield f"held by the MTA: {escape(outcome.quarantine)}"
    if outcome.verdict is not None:
        yield from (f"warning: {escape(warning)}" for warning in outcome.verdict.warnings)
        if outcome.verdict.unknown:
            yield f"could not be known now: {', '.join(outcome.verdict.unknown)}"


def _response(response: Response) -> str:
    return f"{response.answer.value} {response.reply}" if response.reply else response.answer.value


def _changes(outcome: Outcome) -> Iterator[str]:
    for removal in outcome.removals:
        yield f"removed: {removal.name}, number {removal.occurrence} from the top (it claims our name)"
    for insertion in reversed(outcome.insertions):
        value = _SPACES.sub(" ", decode_wire(insertion.field.unfolded)).strip(" ")
        yield f"added: {decode_wire(insertion.field.name)}: {escape(value, MAX_VALUE_SHOWN)}"
