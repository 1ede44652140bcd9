"""A record as a line: JSON of at most so many octets, whatever a client sent.

Everything from the wire is escaped and bounded here. Nearly all records need nothing of that: the line
itself shows it once it is written, for a fraction of what asking each text costs. Knows no file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import msgspec
from msgspec.structs import replace

from mailreeve_policyd.audit_record import (
    AuditRecord,
    Decided,
    Occurrence,
    Signature,
    TlsUsed,
    WouldHave,
    make_record,
)
from mailreeve_policyd.authres import MethodResult
from mailreeve_policyd.escape import MAX_SHOWN, cut, escape, escape_ascii

MAX_LINE_OCTETS = 4096
"""Its line end included, unless the settings say more. So much goes into a pipe in one piece (PIPE_BUF on
Linux), so that the lines of several workers on one standard output never mix; and every log shipper takes
it."""

MAX_ITEMS = 32
"""Of a list, in a line that is not shortened."""

ItemT = TypeVar("ItemT")


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

    def each(self, items: tuple[ItemT, ...], write: Callable[[ItemT], ItemT]) -> tuple[ItemT, ...]:
        return tuple([write(item) for item in items[: self.items]])

    def pairs(self, mapping: Mapping[str, str]) -> dict[str, str]:
        first = list(mapping.items())[: self.items]
        return {self.text(name): self.text(value) for name, value in first}


# Tried in turn until the line fits. The last one always does: ASCII, at most two octets a character in JSON.
_WHOLE = _Measure(escape, MAX_SHOWN, MAX_ITEMS)
_MEASURES = (_WHOLE, _Measure(escape, 80, 6), _Measure(escape_ascii, 32, 1))

_encode = msgspec.json.Encoder().encode


def format_record(occurrence: Occurrence, most: int = MAX_LINE_OCTETS) -> tuple[bytes, bool]:
    """The line, its LF included, of at most `most` octets; and whether it was shortened and says so.

    With fewer than MAX_LINE_OCTETS the shortest may not fit.
    """
    record = make_record(occurrence)
    line = _plain_line(record, most)
    return (line, False) if line is not None else _measured_line(record, most)


def _measured_line(record: AuditRecord, most: int) -> tuple[bytes, bool]:
    line, measured = b"", record
    for measure in _MEASURES:
        measured = _measured(record, measure)
        line = _encode(measured) + b"\n"
        if len(line) <= most:
            break
    return line, measured.truncated


def _plain_line(record: AuditRecord, most: int) -> bytes | None:
    """The line of a record in which nothing has to be escaped or cut; None where something may have to be.

    JSON gives a backslash to each control, quote and backslash: in a line that has none, is ASCII and holds
    no DEL, each text is what `escape` would make of it.
    """
    if not _has_short_lists(record):
        return None
    try:
        line = _encode(record) + b"\n"
    except UnicodeEncodeError:  # lone octets
        return None
    is_plain = line.isascii() and b"\\" not in line and b"\x7f" not in line
    return line if is_plain and len(line) <= most and _has_short_texts(line) else None


def _has_short_lists(record: AuditRecord) -> bool:
    for result in record.results:
        if len(result.properties) > MAX_ITEMS:
            return False
    # one by one: max() of them all takes twice as long
    return (
        len(record.recipients) <= MAX_ITEMS
        and len(record.results) <= MAX_ITEMS
        and len(record.limits) <= MAX_ITEMS
        and len(record.signatures) <= MAX_ITEMS
        and len(record.added) <= MAX_ITEMS
        and len(record.removed) <= MAX_ITEMS
        and len(record.warnings) <= MAX_ITEMS
        and len(record.unknown) <= MAX_ITEMS
        and len(record.skipped) <= MAX_ITEMS
        and len(record.copies) <= MAX_ITEMS
        and len(record.notices) <= MAX_ITEMS
        and len(record.observed) <= MAX_ITEMS
    )


def _has_short_texts(line: bytes) -> bool:
    """Is no text of a line without backslashes longer than MAX_SHOWN? Leaps from quote to quote."""
    at, last = 0, len(line) - MAX_SHOWN - 1
    while at < last:
        at = line.rfind(b'"', at + 1, at + MAX_SHOWN + 2)
        if at < 0:
            return False
    return True


def _measured(record: AuditRecord, measure: _Measure) -> AuditRecord:
    """The record with all that came from the wire escaped, and no more of anything than `measure` allows."""
    text, optional, each = measure.text, measure.optional, measure.each
    return replace(
        record,
        queue_id=optional(record.queue_id),
        instance=optional(record.instance),
        message_id=optional(record.message_id),
        client=replace(record.client, name=optional(record.client.name)),
        helo=optional(record.helo),
        tls=_measured_tls(record.tls, measure) if record.tls else None,
        login=optional(record.login),
        policy_context=optional(record.policy_context),
        sender=optional(record.sender),
        recipients=each(record.recipients, text),
        author_domain=optional(record.author_domain),
        results=each(record.results, lambda one: _measured_result(one, measure)),
        dmarc_policy=optional(record.dmarc_policy),
        arc=optional(record.arc),
        arc_sealer=optional(record.arc_sealer),
        verdict=_measured_decision(record.verdict, measure),
        limits=each(record.limits, lambda one: replace(one, rule=text(one.rule))),
        signatures=each(record.signatures, lambda one: _measured_signature(one, measure)),
        added=each(record.added, text),
        removed=each(record.removed, text),
        warnings=each(record.warnings, measure.told),
        unknown=each(record.unknown, text),
        skipped=each(record.skipped, text),
        copies=each(record.copies, text),
        notices=each(record.notices, lambda one: replace(one, rule=text(one.rule))),
        observed=each(record.observed, lambda one: _measured_observed(one, measure)),
        error=optional(record.error),
        truncated=measure is not _WHOLE or len(record.recipients) > measure.items,
    )


def _measured_tls(tls: TlsUsed, measure: _Measure) -> TlsUsed:
    return TlsUsed(
        measure.optional(tls.protocol),
        measure.optional(tls.cipher),
        tls.keysize,
        measure.optional(tls.certificate_subject),
        measure.optional(tls.certificate_fingerprint),
    )


def _measured_result(found: MethodResult, measure: _Measure) -> MethodResult:
    return MethodResult(
        measure.text(found.method),
        measure.text(found.result),
        measure.pairs(found.properties),
        measure.optional(found.reason),
    )


def _measured_decision(decided: Decided, measure: _Measure) -> Decided:
    return replace(
        decided,
        rule=measure.optional(decided.rule),
        reply=None if decided.reply is None else measure.told(decided.reply),
        reason=None if decided.reason is None else measure.told(decided.reason),
        target=measure.optional(decided.target),
    )


def _measured_observed(observed: WouldHave, measure: _Measure) -> WouldHave:
    told = None if observed.text is None else measure.told(observed.text)
    return replace(observed, rule=measure.text(observed.rule), text=told)


def _measured_signature(made: Signature, measure: _Measure) -> Signature:
    return Signature(measure.text(made.domain), measure.text(made.selector), measure.text(made.algorithm))
