"""The record's form: its keys, which docs/audit.md promises, and what they hold.

How a line of it is written, and that no text of the wire does harm there, is audit_line.py's.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from mailreeve_policyd.authres import MethodResult
from mailreeve_policyd.transaction import Envelope, Evidence, Session, Tls, Transaction, format_address
from mailreeve_policyd.verdict import LIMITS_UNKNOWN, LimitUsage, Observed, Verdict

MAX_WHOLE = 2**63 - 1
"""Larger numbers are written as this one: JSON readers take 64 bits."""


class Client(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """Whose mail it was; `address` is missing for mail that came by no network.

    `relay` is the trusted relay that passed it on, where this is not who was connected.
    """

    address: str | None = None
    name: str | None = None
    port: int | None = None
    relay: str | None = None


class TlsUsed(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """The TLS session."""

    protocol: str | None = None
    cipher: str | None = None
    keysize: int | None = None
    certificate_subject: str | None = None
    certificate_fingerprint: str | None = None


class Decided(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """The verdict; `stage` is that of the block whose rule decided."""

    action: str
    stage: str
    rule: str | None = None
    reply: str | None = None
    reason: str | None = None
    target: str | None = None


class Limited(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """One limit that was judged."""

    rule: str
    used: int
    maximum: int
    exceeded: bool
    retry_after_seconds: int | None = None
    degraded: bool = False
    observed: bool = False
    blocked: bool = False


class WouldHave(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """What a rule under `observe` would have done, and did not."""

    rule: str
    stage: str
    action: str
    text: str | None = None


class Told(msgspec.Struct, frozen=True, gc=False):
    """One notice that people are told; `kind` is warning, exceeded or notify."""

    rule: str
    kind: str


class Signature(msgspec.Struct, frozen=True, gc=False):
    """A DKIM signature that we made; `algorithm` is its a= (RFC 6376 section 3.3, RFC 8463)."""

    domain: str
    selector: str
    algorithm: str


class AuditRecord(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """One line. What is at its default is missing there; `client`, `verdict` and `spent_ms` never are."""

    time: str
    daemon: str
    event: str
    stage: str
    queue_id: str | None = None
    instance: str | None = None
    message_id: str | None = None
    client: Client = Client()
    helo: str | None = None
    tls: TlsUsed | None = None
    login: str | None = None
    policy_context: str | None = None
    sender: str | None = None
    recipients: tuple[str, ...] = ()
    recipient_count: int | None = None
    author_domain: str | None = None
    size: int | None = None
    results: tuple[MethodResult, ...] = ()
    dmarc_policy: str | None = None
    arc: str | None = None
    arc_sealer: str | None = None
    verdict: Decided = Decided("", "")
    repeated: bool = False
    limits: tuple[Limited, ...] = ()
    signatures: tuple[Signature, ...] = ()
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()
    copies: tuple[str, ...] = ()
    notices: tuple[Told, ...] = ()
    observed: tuple[WouldHave, ...] = ()
    degraded: bool = False
    error: str | None = None
    truncated: bool = False
    spent_ms: dict[str, float] = msgspec.field(default_factory=lambda: {})  # noqa: PIE807 -- an empty one stays


class Occurrence(msgspec.Struct, frozen=True, gc=False):
    """What happened, before it is written: the values of one record.

    `added` and `removed` name header fields, beyond those that the verdict adds. `spent` is in seconds, by
    what it was spent on, "total" among them. `repeated`: an earlier refusal was given again, nothing was
    decided or counted. `error`: why the fail-safe answered instead of the rules.
    """

    time: str
    daemon: str
    event: str
    transaction: Transaction
    verdict: Verdict
    spent: Mapping[str, float]
    signatures: tuple[Signature, ...] = ()
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    repeated: bool = False
    error: str | None = None


def make_record(occurrence: Occurrence) -> AuditRecord:
    """The record of an occurrence, without a bound and with every text as it came."""
    transaction, verdict = occurrence.transaction, occurrence.verdict
    session, evidence = transaction.session, transaction.evidence or _NO_EVIDENCE
    limits = verdict.limits
    return AuditRecord(  # in the order of the keys: so many by their names take five times as long
        occurrence.time,
        occurrence.daemon,
        occurrence.event,
        transaction.stage._value_,
        transaction.queue_id,
        transaction.instance,
        transaction.message_id,
        _client(session),
        session.helo_name,
        _tls(session.tls) if session.tls else None,
        session.sasl_username,
        session.policy_context,
        _sender(transaction.envelope),
        _recipients(transaction),
        _whole(transaction.recipient_count),
        evidence.author.domain if evidence.author else None,
        _whole(transaction.size),
        evidence.results,
        evidence.dmarc_policy,
        evidence.arc if evidence.arc != "none" else None,
        evidence.arc_sealer,
        _decided(verdict),
        occurrence.repeated,
        tuple([_limited(one) for one in limits]) if limits else (),
        occurrence.signatures,
        _added(occurrence) if verdict.edits or occurrence.added else (),
        occurrence.removed,
        verdict.warnings,
        verdict.unknown,
        verdict.skipped,
        verdict.copies,
        tuple([Told(one.rule, one.kind._value_) for one in verdict.notices]) if verdict.notices else (),
        tuple([_would_have(one) for one in verdict.observed]) if verdict.observed else (),
        _is_degraded(verdict),
        occurrence.error,
        False,  # truncated
        {name: round(seconds * 1e6) / 1000 for name, seconds in occurrence.spent.items()},
    )


_NO_EVIDENCE = Evidence()


def _recipients(transaction: Transaction) -> tuple[str, ...]:
    """The one that is asked about, else all that were accepted."""
    if transaction.recipient is not None:
        return (str(transaction.recipient),)
    return tuple(map(str, transaction.envelope.recipients)) if transaction.envelope else ()


def _sender(envelope: Envelope | None) -> str | None:
    if envelope is None:
        return None
    return str(envelope.reverse_path) if envelope.reverse_path else "<>"


def _client(session: Session) -> Client:
    address, relayed = session.client_address, session.relayed
    return Client(
        format_address(address) if address else None,
        session.client_name,
        _whole(session.client_port),
        format_address(relayed.address) if relayed else None,
    )


def _tls(tls: Tls) -> TlsUsed:
    return TlsUsed(
        tls.protocol,
        tls.cipher,
        _whole(tls.keysize),
        tls.certificate_subject,
        tls.certificate_fingerprint,
    )


def _decided(verdict: Verdict) -> Decided:
    return Decided(
        verdict.action._value_,
        verdict.stage._value_,
        verdict.rule,
        str(verdict.reply) if verdict.reply else None,
        verdict.reason,
        verdict.target,
    )


def _would_have(observed: Observed) -> WouldHave:
    return WouldHave(observed.rule, observed.stage._value_, observed.action, observed.text)


def _added(occurrence: Occurrence) -> tuple[str, ...]:
    return (*[edit.name for edit in occurrence.verdict.edits], *occurrence.added)


def _is_degraded(verdict: Verdict) -> bool:
    for one in verdict.limits:
        if one.degraded:
            return True
    return not verdict.limits and LIMITS_UNKNOWN in verdict.unknown


def _limited(usage: LimitUsage) -> Limited:
    wait = usage.retry_after
    return Limited(
        usage.rule,
        min(usage.used, MAX_WHOLE),
        min(usage.maximum, MAX_WHOLE),
        usage.exceeded,
        None if wait is None else -int(-wait.total_seconds() // 1),
        usage.degraded,
        usage.observed,
        usage.blocked,
    )


def _whole(number: int | None) -> int | None:
    return MAX_WHOLE if number is not None and number > MAX_WHOLE else number
