"""Notice: what a person should be told about a rule. Whom to tell, and how, is not known here."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from enum import Enum

import msgspec

from mailreeve_policyd.limits import Charge, Limit, OnUnavailable, Unit, limit_key
from mailreeve_policyd.smtp import Stage

NOTIFY_WINDOW = timedelta(hours=1)
"""How long a `notify` that stands for itself does not tell the same again; a limit's tells once a period."""


class NoticeKind(Enum):
    """Why a person is told."""

    WARNING = "warning"
    """A limit has reached the share of its maximum that its rule names (`warn at 80%`)."""
    EXCEEDED = "exceeded"
    """A limit refused mail, or did what stands after its `else`."""
    NOTIFY = "notify"
    """A rule with `notify` applied."""

    __hash__ = object.__hash__  # as Stage's


class Notice(msgspec.Struct, frozen=True, gc=False):
    """One thing to tell, once in any `window` under its `key`.

    `text` is one printable line. `counted_by` are the facts that the limit counts by with their values, for
    people: escaped and bounded; empty for NOTIFY of no limit. `login` is whose mail it was, as it came from
    the wire, not escaped. `used`, `maximum` (in units of `unit`: messages, recipients, bytes or the name of
    what is distinct) and `period` are a limit's. `language` is what `reply-language` says; None: the file
    does not say.
    """

    kind: NoticeKind
    rule: str
    stage: Stage
    text: str
    key: bytes
    window: timedelta
    counted_by: tuple[tuple[str, str], ...] = ()
    login: str | None = None
    used: int | None = None
    maximum: int | None = None
    unit: str | None = None
    period: timedelta | None = None
    language: str | None = None

    @property
    def once(self) -> Charge:
        """What a store is charged before it is told: exceeded where somebody has told it already."""
        limit = Limit(1, Unit.MESSAGES, self.window)
        return Charge(self.rule, self.key, limit, 1, on_unavailable=OnUnavailable.LOCAL)


def notice_key(kind: NoticeKind, rule: str, window: timedelta, parts: Sequence[str]) -> bytes:
    """Under which a notice is told once: no limit's key, and another for each kind."""
    limit = Limit(1, Unit.MESSAGES, window)
    return limit_key(f"\0notice\0{kind.value}\0{rule}", limit, parts)
