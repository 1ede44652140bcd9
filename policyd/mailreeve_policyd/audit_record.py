"""The record's form: its keys, which docs/audit.md promises, and how a line of it is written.

Everything from the wire is escaped and bounded here: a line never has more than MAX_LINE_OCTETS,
whatever a client sent. Knows no file and no clock.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import msgspec

from mailreeve_policyd.authres import MethodResult
from mailreeve_policyd.escape import MAX_SHOWN, cut, escape, escape_ascii
from mailreeve_policyd.transaction import Session, Tls, Transaction
from mailreeve_policyd.verdict import AddHeader, Edit, LimitUsage, RemoveHeader, Verdict

MAX_LINE_OCTETS = 4096
"""Its line end included. So much goes into a pipe in one piece (PIPE_BUF on Linux), so that the lines of
several workers on one standard output never mix; and every log shipper takes it."""

MAX_WHOLE = 2**63 - 1
"""Larger numbers are written as this one: JSON readers take 64 bits."""


class Client(msgspec.Struct, frozen=True, omit_defaults=True):
    """Whose mail it was; `address` is missing for mail that came by no network.

    `relay` is the trusted relay that passed it on, where this is not who was connected.
    """

    address: str | None = None
    name: str | None = None
    port: int | None = None
    relay: str | None = None


class TlsUsed(msgspec.Struct, frozen=True, omit_defaults=True):
    """The TLS session."""

    protocol: str | None = None
    cipher: str | None = None
    keysize: int | None = None
    certificate_subject: str | None = None
    certificate_fingerprint: str | None = None


class Result(msgspec.Struct, frozen=True, omit_defaults=True):
    """One MethodResult (RFC 8601)."""

    method: str
    result: str
    properties: dict[str, str] = {}
    reason: str | None = None


class Decided(msgspec.Struct, frozen=True, omit_defaults=True):
    """The verdict; `stage` is that of the block whose rule decided."""

    action: str
    stage: str
    rule: str | None = None
    reply: str | None = None
    reason: str | None = None


class Limited(msgspec.Struct, frozen=True, omit_defaults=True):
    """One limit that was judged."""

    rule: str
    used: int
    maximum: int
    exceeded: bool
    retry_after_seconds: int | None = None
    degraded: bool = False


class Signature(msgspec.Struct, frozen=True):
    """A DKIM signature that we made; `algorithm` is its a= (RFC 6376 section 3.3, RFC 8463)."""

    domain: str
    selector: str
    algorithm: str


class AuditRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line. Keys without a default are always there; of the others, one that is missing means none."""

    time: str
    daemon: str
    event: str
    stage: str
    queue_id: str | None = None
    instance: str | None = None
    message_id: str | None = None
    client: Client
    helo: str | None = None
    tls: TlsUsed | None = None
    login: str | None = None
    policy_context: str | None = None
    sender: str | None = None
    recipients: tuple[str, ...] = ()
    recipient_count: int | None = None
    author_domain: str | None = None
    size: int | None = None
    results: tuple[Result, ...] = ()
    dmarc_policy: str | None = None
    arc: str | None = None
    arc_sealer: str | None = None
    verdict: Decided
    repeated: bool = False
    limits: tuple[Limited, ...] = ()
    signatures: tuple[Signature, ...] = ()
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()
    degraded: bool = False
    error: str | None = None
    truncated: bool = False
    spent_ms: dict[str, float]


@dataclass(frozen=True, slots=True)
class Occurrence:
    """What happened, before it is written: the values of one record.

    `edits` are changes to the header beyond those of the verdict. `spent` is in seconds, by what it was
    spent on, "total" among them. `repeated`: an earlier refusal was given again, nothing was decided or
    counted. `error`: why the fail-safe answered instead of the rules.
    """

    time: str
    daemon: str
    event: str
    transaction: Transaction
    verdict: Verdict
    spent: Mapping[str, float]
    signatures: tuple[Signature, ...] = ()
    edits: tuple[Edit, ...] = ()
    repeated: bool = False
    error: str | None = None


ItemT = TypeVar("ItemT")
WrittenT = TypeVar("WrittenT")


@dataclass(frozen=True, slots=True)
class _Measure:
    """How much of everything is written: characters of a text, items of a list."""

    escape: Callable[[str, int], str]
    characters: int
    items: int

    def text(self, value: str) -> str:
        return self.escape(value, self.characters)

    def optional(self, value: str | None) -> str | None:
        return None if value is None else self.escape(value, self.characters)

    def told(self, value: str) -> str:
        """A text that our rules made: what of it came from the wire was escaped then, and is not again."""
        if value.isascii() and value.isprintable():
            return cut(value, self.characters)
        return self.escape(value, self.characters)

    def each(self, items: Sequence[ItemT], write: Callable[[ItemT], WrittenT]) -> tuple[WrittenT, ...]:
        return tuple([write(item) for item in items[: self.items]]) if items else ()

    def pairs(self, mapping: Mapping[str, str]) -> dict[str, str]:
        first = list(mapping.items())[: self.items]
        return {self.text(name): self.text(value) for name, value in first}


# Tried in turn until the line fits. The last one always does: ASCII, at most two octets a character in JSON.
_MEASURES = (
    _Measure(escape, MAX_SHOWN, 32),
    _Measure(escape, 80, 6),
    _Measure(escape_ascii, 32, 1),
)


def format_record(occurrence: Occurrence) -> bytes:
    """The line, its LF included, of at most MAX_LINE_OCTETS. What had to be shortened says `truncated`."""
    line = b""
    for measure in _MEASURES:
        line = msgspec.json.encode(_record(occurrence, measure)) + b"\n"
        if len(line) <= MAX_LINE_OCTETS:
            break
    return line


def _record(occurrence: Occurrence, measure: _Measure) -> AuditRecord:
    transaction, verdict = occurrence.transaction, occurrence.verdict
    session, evidence = transaction.session, transaction.evidence
    recipients = _recipients(transaction)
    author = evidence.author if evidence else None
    edits = (*verdict.edits, *occurrence.edits)
    return AuditRecord(
        time=occurrence.time,
        daemon=occurrence.daemon,
        event=occurrence.event,
        stage=transaction.stage.value,
        queue_id=measure.optional(transaction.queue_id),
        instance=measure.optional(transaction.instance),
        message_id=measure.optional(transaction.message_id),
        client=_client(session, measure),
        helo=measure.optional(session.helo_name),
        tls=_tls(session.tls, measure) if session.tls else None,
        login=measure.optional(session.sasl_username),
        policy_context=measure.optional(session.policy_context),
        sender=_sender(transaction, measure),
        recipients=measure.each(recipients, measure.text),
        recipient_count=_whole(transaction.recipient_count),
        author_domain=measure.optional(author.domain) if author else None,
        size=_whole(transaction.size),
        results=measure.each(evidence.results, lambda one: _result(one, measure)) if evidence else (),
        dmarc_policy=measure.optional(evidence.dmarc_policy) if evidence else None,
        arc=measure.text(evidence.arc) if evidence and evidence.arc != "none" else None,
        arc_sealer=measure.optional(evidence.arc_sealer) if evidence else None,
        verdict=_decided(verdict, measure),
        repeated=occurrence.repeated,
        limits=measure.each(verdict.limits, lambda one: _limited(one, measure)),
        signatures=measure.each(occurrence.signatures, lambda one: _signature(one, measure)),
        added=_names(edits, AddHeader, measure),
        removed=_names(edits, RemoveHeader, measure),
        warnings=measure.each(verdict.warnings, measure.told),
        unknown=measure.each(verdict.unknown, measure.text),
        skipped=measure.each(verdict.skipped, measure.text),
        degraded=any(one.degraded for one in verdict.limits),
        error=measure.optional(occurrence.error),
        truncated=measure is not _MEASURES[0] or len(recipients) > measure.items,
        spent_ms={name: round(seconds * 1000, 3) for name, seconds in occurrence.spent.items()},
    )


def _names(edits: Sequence[Edit], kind: type[Edit], measure: _Measure) -> tuple[str, ...]:
    return measure.each([one.name for one in edits if isinstance(one, kind)], measure.text) if edits else ()


def _recipients(transaction: Transaction) -> tuple[str, ...]:
    """The one that is asked about, else all that were accepted."""
    if transaction.recipient is not None:
        return (str(transaction.recipient),)
    return tuple(str(one) for one in transaction.envelope.recipients) if transaction.envelope else ()


def _sender(transaction: Transaction, measure: _Measure) -> str | None:
    if transaction.envelope is None:
        return None
    reverse_path = transaction.envelope.reverse_path
    return measure.text(str(reverse_path)) if reverse_path else "<>"


def _client(session: Session, measure: _Measure) -> Client:
    address, relayed = session.client_address, session.relayed
    return Client(
        str(address) if address else None,
        measure.optional(session.client_name),
        _whole(session.client_port),
        str(relayed.address) if relayed else None,
    )


def _tls(tls: Tls, measure: _Measure) -> TlsUsed:
    return TlsUsed(
        measure.optional(tls.protocol),
        measure.optional(tls.cipher),
        _whole(tls.keysize),
        measure.optional(tls.certificate_subject),
        measure.optional(tls.certificate_fingerprint),
    )


def _result(found: MethodResult, measure: _Measure) -> Result:
    return Result(
        measure.text(found.method),
        measure.text(found.result),
        measure.pairs(found.properties),
        measure.optional(found.reason),
    )


def _decided(verdict: Verdict, measure: _Measure) -> Decided:
    return Decided(
        verdict.action.value,
        verdict.stage.value,
        measure.optional(verdict.rule),
        measure.told(str(verdict.reply)) if verdict.reply else None,
        None if verdict.reason is None else measure.told(verdict.reason),
    )


def _limited(usage: LimitUsage, measure: _Measure) -> Limited:
    seconds = None if usage.retry_after is None else -int(-usage.retry_after.total_seconds() // 1)
    return Limited(
        measure.text(usage.rule),
        min(usage.used, MAX_WHOLE),
        min(usage.maximum, MAX_WHOLE),
        usage.exceeded,
        seconds,
        usage.degraded,
    )


def _signature(made: Signature, measure: _Measure) -> Signature:
    return Signature(measure.text(made.domain), measure.text(made.selector), measure.text(made.algorithm))


def _whole(number: int | None) -> int | None:
    return None if number is None else min(number, MAX_WHOLE)
