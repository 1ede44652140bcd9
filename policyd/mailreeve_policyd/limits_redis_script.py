"""What limits.lua is told and what it answers: charges to keys and arguments, numbers to usages.

Knows the calling convention of limits.lua, which does the counting. Knows no server and no connection.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from hashlib import sha1
from importlib.resources import files
from typing import Literal

from msgspec.structs import replace

from mailreeve_policyd.errors import StoreError
from mailreeve_policyd.limits import REMEMBERED_KEYS, SUBJECT_OCTETS, Charge, Unit, Usage
from mailreeve_policyd.limits_window import MAX_UNITS, MICROSECONDS, leaves_at, period_seconds

SCRIPT = files("mailreeve_policyd").joinpath("limits.lua").read_text("ascii")
SCRIPT_SHA = sha1(SCRIPT.encode(), usedforsecurity=False).hexdigest()
"""The name under which Redis keeps the script."""

Verb = Literal["charge", "usage", "refund"]
Argument = str | bytes | int
Request = list[Argument]
"""What follows the script in EVAL and EVALSHA: how many keys, the keys, the arguments."""

ANSWERS = 4
"""Numbers that limits.lua gives for each charge."""

COUNTED, EXCEEDED, KNOWN = 0, 1, 2
"""What became of a charge."""

NEVER = -1
"""The moment where nothing needs to leave the window, or nothing helps."""


def slot_tag(key: bytes) -> str:
    """What a Cluster chooses the slot by: the values of the key, so that a login's counters are in one."""
    return key[:SUBJECT_OCTETS].hex()


@lru_cache(maxsize=REMEMBERED_KEYS)
def key_names(key: bytes) -> tuple[str, str]:
    """Where a counter and its marks lie."""
    name = f"{{{slot_tag(key)}}}{key[SUBJECT_OCTETS:].hex()}"
    return f"mailreeve:l:{name}", f"mailreeve:m:{name}"


def format_request(verb: Verb, now: Argument, remember: int, charges: Sequence[Charge]) -> Request:
    """A call of the script; `now` in microseconds or "" for the server's clock, `remember` in microseconds.

    Raises:
        ValueError: a charge that is none.
    """
    keys: Request = [2 * len(charges)]
    arguments: Request = [verb, now, remember]
    for charge in charges:
        keys += key_names(charge.key)
        arguments += _arguments(charge)
    return keys + arguments


def parse_usages(charges: Sequence[Charge], answer: object) -> tuple[Usage, ...]:
    """What the script answered to "charge" or "usage".

    Raises:
        StoreError: it is no such answer.
    """
    if not isinstance(answer, list) or len(answer) != 2 + ANSWERS * len(charges):
        raise StoreError(_NO_ANSWER)
    try:
        return _parse_numbers(charges, *map(int, answer))
    except (TypeError, ValueError, OverflowError) as error:
        raise StoreError(_NO_ANSWER) from error


_NO_ANSWER = "Redis: an answer that limits.lua does not give"


def _parse_numbers(charges: Sequence[Charge], seconds: int, micros: int, *fields: int) -> tuple[Usage, ...]:
    now = seconds * MICROSECONDS + micros
    return tuple(
        _usage(charge, now, *fields[at : at + ANSWERS])
        for charge, at in zip(charges, range(0, len(fields), ANSWERS), strict=True)
    )


@dataclass(frozen=True, slots=True)
class Receipt:
    """What one call of the script charged, as it has to be told to take it back."""

    now: int
    charges: tuple[Charge, ...]

    def format_refund(self, remember: int) -> Request:
        """The call that takes it back; nothing to take back is no call (empty)."""
        return format_request("refund", self.now, remember, self.charges) if self.charges else []


def parse_receipt(charges: Sequence[Charge], answer: Sequence[int]) -> Receipt:
    """What a call counted that `parse_usages` found to be an answer, and that refused nothing."""
    seconds, micros, *fields = answer
    became, moments = fields[1::ANSWERS], fields[2::ANSWERS]
    counted = [
        replace(charge, limit=replace(charge.limit, maximum=moment))  # where it is looked for
        for charge, what, moment in zip(charges, became, moments, strict=True)
        if what == COUNTED
    ]
    return Receipt(seconds * MICROSECONDS + micros, tuple(counted))


def _arguments(charge: Charge) -> tuple[Argument, ...]:
    if charge.amount < 0:
        raise ValueError(f"an amount of {charge.amount}")
    distinct = charge.limit.unit is Unit.DISTINCT
    if distinct and charge.member is None:
        raise ValueError(f"rule {charge.rule}: a distinct limit without a member")
    return (
        "distinct" if distinct else "units",
        charge.amount,
        min(charge.limit.maximum, MAX_UNITS),
        period_seconds(charge.limit),
        charge.member or b"",
        charge.mark or b"",
        int(charge.refuses),
    )


def _usage(charge: Charge, now: int, used: int, became: int, moment: int, added: int) -> Usage:
    exceeded = became == EXCEEDED
    retry_after = None
    if exceeded and moment != NEVER:
        retry_after = timedelta(microseconds=_free_at(charge, moment) - now)
    return Usage(used, charge.limit.maximum, exceeded, retry_after, added=added)


def _free_at(charge: Charge, leaves: int) -> int:
    """The first moment at which a bucket, or a member last seen at a moment, is out of the window."""
    period = period_seconds(charge.limit)
    if charge.limit.unit is Unit.DISTINCT:
        return leaves + period * MICROSECONDS + 1
    return leaves_at(leaves, period)
