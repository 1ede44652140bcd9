"""Action, Verdict, Edit: what was decided, in no door's words. Structs, as the values of transaction.py."""

from __future__ import annotations

from datetime import timedelta
from enum import Enum

import msgspec

from mailreeve_policyd.notice import Notice
from mailreeve_policyd.smtp import Reply, Stage

LIMITS_UNKNOWN = "limits"
"""Stands in `Verdict.unknown` where the store could not say."""

RULES_UNKNOWN = "rules"
"""Stands there where the time for the rules was over before all were read."""


class Action(Enum):
    """What becomes of a transaction. DESIGN.md section 3 tells what each is at each door."""

    CONTINUE = "continue"
    ACCEPT = "accept"
    PERMIT = "permit"
    DEFER = "defer"
    REJECT = "reject"
    DISCARD = "discard"
    HOLD = "hold"
    REDIRECT = "redirect"
    FILTER = "filter"

    __hash__ = object.__hash__  # as Stage's

    @property
    def refuses(self) -> bool:
        """Does the client learn that its mail was not taken? Then nothing of it is counted."""
        return self is Action.DEFER or self is Action.REJECT


class AddHeader(msgspec.Struct, frozen=True, gc=False):
    """A header field to add: a name of RFC 5322 section 3.6.8 and an unfolded value of one line."""

    name: str
    value: str


class RemoveHeader(msgspec.Struct, frozen=True, gc=False):
    """Remove the `occurrence`th field (from 1, top down) of this name, whatever its case."""

    name: str
    occurrence: int


Edit = AddHeader | RemoveHeader


class LimitUsage(msgspec.Struct, frozen=True, gc=False):
    """What a limit answered for one transaction, for the record.

    `used` counts what was let through in the period, this transaction included if it was charged.
    `retry_after` is None unless `exceeded`. `degraded` says that the machine's own store counted, or
    none, because the shared one is away. `observed`: its rule is under `observe` and does nothing. `blocked`:
    an administrator has blocked the key.
    """

    rule: str
    used: int
    maximum: int
    exceeded: bool
    retry_after: timedelta | None = None
    degraded: bool = False
    observed: bool = False
    blocked: bool = False


class Observed(msgspec.Struct, frozen=True, gc=False):
    """What a rule under `observe` would have done at `stage`, and did not.

    `action` is the action's word in the rules file; `text` its reply, reason, field or target, printable.
    """

    rule: str
    stage: Stage
    action: str
    text: str | None = None


class Verdict(msgspec.Struct, frozen=True, gc=False):
    """What was decided at `stage`, and by which rule.

    `rule` is None where nothing decided. `reply` stands with DEFER and REJECT, `reason` with HOLD and
    DISCARD, `target` with REDIRECT (an address: the message goes there and to none of its recipients) and
    FILTER (`transport:next-hop`). `edits` are header fields to add, in order, `copies` addresses that get
    the message too. `warnings` are the texts of warn rules. `limits` are all that were judged. `unknown`
    names facts that could not be known and that a rule needed. `skipped` names rules that applied but that
    this door could not carry out. `notices` are to be told to people, each once. `observed` is what rules
    under `observe` would have done.
    """

    action: Action
    stage: Stage
    rule: str | None = None
    reply: Reply | None = None
    reason: str | None = None
    edits: tuple[AddHeader, ...] = ()
    warnings: tuple[str, ...] = ()
    limits: tuple[LimitUsage, ...] = ()
    unknown: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()
    target: str | None = None
    copies: tuple[str, ...] = ()
    notices: tuple[Notice, ...] = ()
    observed: tuple[Observed, ...] = ()
