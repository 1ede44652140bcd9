"""The record of what an administrator did while mail flowed: who, what, which key, until when, why.

A kind of line of its own in the record (docs/audit.md); written by the command, not by a daemon.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec

from mailreeve_policyd.audit_line import MAX_ITEMS
from mailreeve_policyd.escape import escape
from mailreeve_policyd.sink import Sink


@dataclass(frozen=True, slots=True)
class Operator:
    """Who typed the command: the login name behind sudo, where there was one, and its user id."""

    name: str
    uid: int


class Administered(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line. `key` has a value for each fact of `per`; times are RFC 3339."""

    time: str
    daemon: str
    event: str
    action: str
    per: tuple[str, ...]
    key: tuple[str, ...]
    by: str
    uid: int
    rules: tuple[str, ...] = ()
    maximum: int | None = None
    until: str | None = None
    reason: str | None = None


def find_operator(environment: Mapping[str, str], uid: int) -> Operator:
    """Who it is: sudo says who called it, which nobody but root can have made up."""
    by_sudo = environment.get("SUDO_USER"), environment.get("SUDO_UID", "")
    if uid == 0 and by_sudo[0] and by_sudo[1].isdigit():
        return Operator(escape(by_sudo[0], 64), int(by_sudo[1]))
    return Operator(_name_of(uid, environment), uid)


def _name_of(uid: int, environment: Mapping[str, str]) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return escape(environment.get("LOGNAME") or str(uid), 64)


def record_administration(
    sink: Sink,
    operator: Operator,
    action: str,
    per: tuple[str, ...],
    key: tuple[str, ...],
    *,
    rules: tuple[str, ...] = (),
    maximum: int | None = None,
    until: float | None = None,
    reason: str = "",
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> None:
    """Write one line. Raises OSError."""
    record = Administered(
        format_moment(clock()),
        "admin",
        "administration",
        action,
        per,
        tuple(escape(value, 100) for value in key),
        operator.name,
        operator.uid,
        rules[:MAX_ITEMS],
        maximum,
        None if until is None else format_moment(datetime.fromtimestamp(until, UTC)),
        escape(reason) or None,
    )
    sink.write(msgspec.json.encode(record) + b"\n")


def format_moment(moment: datetime) -> str:
    """RFC 3339, UTC, milliseconds, as in the other lines."""
    text = moment.astimezone(UTC).isoformat(timespec="milliseconds")
    return text.removesuffix("+00:00") + "Z"


def current_operator() -> Operator:
    """Who runs this process."""
    return find_operator(os.environ, os.getuid())
