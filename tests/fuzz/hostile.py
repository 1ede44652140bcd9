"""What strangers put where a value belongs, and what must hold of all that leaves us, whatever they put."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from mailreeve_policyd.audit_line import MAX_LINE_OCTETS
from mailreeve_policyd.limits import KEY_OCTETS, MARK_OCTETS, Charge, Charged, Usage
from mailreeve_policyd.limits_memory import MemoryStore
from mailreeve_policyd.limits_redis_script import format_request
from mailreeve_policyd.notices_event import Reporter, format_json
from mailreeve_policyd.notices_text import MAX_SUBJECT, Templates, values_of
from mailreeve_policyd.transaction import Transaction
from mailreeve_policyd.verdict import Verdict
from tests.lab.record_schema import check_record

POISONS: dict[str, bytes] = {
    "cr": b"a\raction=OK",
    "crlf": b"a\r\naction=OK\r\n\r\nX-Evil: 1",
    "lf": b"a\n\naction=OK\n\n",
    "nul": b"a\0b",
    "percent": b"%s%n%d%%{rule}",
    "braces": b"{sender}{{}}{0.__class__}{",
    "ansi": b"\x1b[2J\x1b]0;title\x07\x9b1m",
    "json": b'","verdict":{"action":"accept"},"x":"\\',
    "lua": b"'] return redis.call('FLUSHALL') --[[ ]]",
    "shell": b"$(reboot)`id`;|&<>'\"",
    "long": b"x" * 10_000,
    "long-octets": b"\xff" * 9_000,
    "octets": b"\xff\xfe\xc3(\xed\xa0\x80",
    "unicode": "\u202e\u2028\u2029\u0085\u200b\ufeff\U000e0041".encode(),
    "encoded-word": b"=?utf-8?Q?=0D=0AX-Evil:_1?=",
    "quotes": b'"\\"\'(a\\)(',
    "results": b"a; dkim=pass header.d=bank.example",
    "address": b"<a@b>,<c@d>\\@",
}
"""By name. Each is put in place of a value, before an address's @ and behind it."""

MAX_LOG_CHARACTERS = 2000

_NOW = datetime(2026, 11, 23, tzinfo=UTC)


def check_text(text: str, limit: int, *, is_ascii: bool = False) -> None:
    """One printable line within its bound."""
    assert text.isprintable(), text
    assert len(text) <= limit
    assert not is_ascii or text.isascii()


class Lines:
    """A sink of the record that looks at every line, and at the form of some: that takes a millisecond."""

    def __init__(self) -> None:
        self.count = 0

    def write(self, line: bytes) -> None:
        """See Sink."""
        record = check_line(line)
        if self.count % 7 == 0:
            check_record(record)
        self.count += 1

    def reopen(self) -> None:
        """Nothing is open."""

    def close(self) -> None:
        """Nothing is open."""


def check_line(line: bytes) -> object:
    """A line of the record: one line of JSON, nothing that a terminal would obey in it or in its texts."""
    assert len(line) <= MAX_LINE_OCTETS
    assert line.endswith(b"\n")
    check_text(line[:-1].decode("utf-8"), MAX_LINE_OCTETS)
    record: object = json.loads(line)
    for text in _texts(record):
        check_text(text, MAX_LINE_OCTETS)
    return record


def _texts(value: object) -> Iterable[str]:
    if isinstance(value, dict):
        for name, one in value.items():
            yield from (name, *_texts(one))
    elif isinstance(value, list):
        for one in value:
            yield from _texts(one)
    elif isinstance(value, str):
        yield value


def check_log(records: Iterable[logging.LogRecord]) -> None:
    """Each message one printable line; none is a bug of ours."""
    for record in records:
        check_text(record.getMessage(), MAX_LOG_CHARACTERS)
        assert record.exc_info is None, record.getMessage()


def check_notices(verdict: Verdict, transaction: Transaction) -> None:
    """A notice as JSON is one line of ASCII; as mail its subject is one line, and so is each value in it."""
    for notice in verdict.notices:
        event = Reporter("policyd", "mx.example.org").event(notice, transaction, _NOW)
        octets = format_json(event)
        check_text(octets.decode("ascii"), 16_384, is_ascii=True)
        json.loads(octets)
        for value in values_of(event).values():
            check_text(value, 1000)
        written = Templates().write(event, "en")
        check_text(written.subject, MAX_SUBJECT)
        for line in written.body.split("\n"):
            check_text(line, 3000)


class CheckingStore(MemoryStore):
    """Counts in memory, and looks at what a store would be told: digests and numbers, no stranger's word."""

    def charge(self, charges: Sequence[Charge]) -> tuple[Usage, ...]:
        """See LimitStore."""
        _check_charges(charges)
        return super().charge(charges)

    def charge_each(self, calls: Sequence[Sequence[Charge]]) -> list[Charged]:
        """See LimitStore."""
        for charges in calls:
            _check_charges(charges)
        return super().charge_each(calls)


def _check_charges(charges: Sequence[Charge]) -> None:
    for charge in charges:
        assert len(charge.key) == KEY_OCTETS
        for hashed in (charge.member, charge.mark):
            assert hashed is None or len(hashed) == MARK_OCTETS
        assert charge.rule.isprintable()
    for argument in format_request("charge", "", 3600, charges) if charges else ():
        assert isinstance(argument, int | bytes) or argument.isprintable()
