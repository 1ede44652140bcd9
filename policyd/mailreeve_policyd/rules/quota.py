"""`60 recipients/minute`: how a limit is written, in rules and in table files. No keys, no charging."""

from __future__ import annotations

import re
from datetime import timedelta

from mailreeve_policyd.limits import MAX_DISTINCT, MAX_PERIOD, MIN_PERIOD, Limit, Unit
from mailreeve_policyd.rules.nodes import Key, Number, Period, Spec, Subject, Word
from mailreeve_policyd.rules.source import Mistake, Place, one_of, quote, suggest

MAX_UNITS = 10**15
"""More than any limit counts, and exact where a store counts in doubles."""

_UNITS = {
    "messages": Unit.MESSAGES, "message": Unit.MESSAGES,
    "recipients": Unit.RECIPIENTS, "recipient": Unit.RECIPIENTS,
    "bytes": Unit.BYTES, "byte": Unit.BYTES,
}  # fmt: skip

_PERIODS = {"second": 1, "minute": 60, "hour": 3600, "day": 86_400}

_UNIT_HINTS = {
    "KB": "write bytes: 500 KB are 500000 bytes", "MB": "write bytes: 5 MB are 5000000 bytes",
    "GB": "write bytes: 1 GB are 1000000000 bytes", "mails": "write `messages`", "mail": "write `messages`",
    "emails": "write `messages`", "rcpt": "write `recipients`", "connections": "write `messages`",
}  # fmt: skip

_PERIOD_HINTS = {
    "week": "write `7 days`", "month": "write `31 days`", "weeks": "write `7 days`",
    "s": "write `second`", "sec": "write `second`", "m": "write `minute`", "min": "write `minute`",
    "h": "write `hour`", "hr": "write `hour`", "d": "write `day`",
}  # fmt: skip


def limit_of(spec: Spec) -> Limit:
    """What a spec counts.

    Raises:
        Mistake: the unit or the period is unknown or out of bounds.
    """
    period = period_of(spec.period)
    maximum = spec.maximum
    if spec.distinct is not None:
        if maximum.value > MAX_DISTINCT:
            problem = f"`distinct` counts up to {MAX_DISTINCT}"
            raise Mistake(maximum.at, problem, "each distinct value is remembered")
        return Limit(maximum.value, Unit.DISTINCT, period)
    if spec.unit is None:  # pragma: no cover -- the grammar gives a unit or distinct
        raise ValueError(spec)
    return Limit(maximum.value, _unit(spec.unit), period)


def _unit(word: Word) -> Unit:
    unit = _UNITS.get(word.text)
    if unit is None:
        hint = _UNIT_HINTS.get(word.text) or suggest(word.text, _UNITS)
        known = one_of(unit.value for unit in Unit)
        raise Mistake(word.at, f"unknown unit {quote(word.text)}: a limit counts {known}", hint)
    return unit


def period_of(period: Period) -> timedelta:
    """A period as a length of time, from a second to 31 days."""
    word = period.unit.text
    seconds = _PERIODS.get(word.removesuffix("s") if period.count is not None else word)
    if seconds is None:
        hint = _PERIOD_HINTS.get(word) or suggest(word, _PERIODS)
        if word.removesuffix("s") in _PERIODS:
            hint = f"write `/{word.removesuffix('s')}` or `/15 {word}`"
        raise Mistake(period.unit.at, f"unknown period {quote(word)}: second, minute, hour or day", hint)
    count = period.count.value if period.count is not None else 1
    if not MIN_PERIOD.total_seconds() <= count * seconds <= MAX_PERIOD.total_seconds():
        at = period.count.at if period.count is not None else period.unit.at
        raise Mistake(at, "a period is from one second to 31 days")
    return timedelta(seconds=count * seconds)


# N unit/period, N distinct FACT[/prefix]/period; a period is a unit of time with or without a count
_ENTRY = re.compile(
    r"([0-9]{1,15})\s+(?:([A-Za-z]+)|distinct\s+([A-Za-z_]+)(?:\s*/\s*([0-9]{1,3}))?)"
    r"\s*/\s*(?:([0-9]{1,9})\s+)?([A-Za-z]+)\Z"
)


def parse_spec(text: str, at: Place) -> Spec:
    """What a table says of a limit: `500 recipients/hour`, `5 distinct recipient/hour`. All stands `at`.

    Raises:
        Mistake: it is none.
    """
    match = _ENTRY.match(text.strip())
    if match is None:
        raise Mistake(at, f"{quote(text.strip())} is no limit", "write `500 recipients/hour`")
    maximum, unit, fact, prefix, count, period = match.groups()
    number = Number(at, int(count)) if count else None
    counted = Key(Subject(at, fact), Number(at, int(prefix)) if prefix else None) if fact else None
    return Spec(
        Number(at, int(maximum)),
        Word(at, unit) if unit else None,
        counted,
        Period(number, Word(at, period)),
    )
