"""NoticeEvent: a notice with when, where and about which mail it arose; and its JSON, `mailreeve.notice.v1`.

Everything in it is printable and bounded, whatever came from the wire: who writes it into a field, a body or
JSON has nothing left to escape but that format's own. Knows nobody who is told.
"""

from __future__ import annotations

import json
import secrets
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec

from mailreeve_policyd.escape import cut, escape
from mailreeve_policyd.notice import Notice, NoticeKind
from mailreeve_policyd.smtp import Stage
from mailreeve_policyd.transaction import Transaction

SCHEMA = "mailreeve.notice.v1"

TEST = "test"
"""The kind of what `mailreeve notices test` sends; the others are NoticeKind's."""

MAX_TEXT = 500
"""Characters of a notice's line: rules/templates.py makes at most 400."""

MAX_COUNTED_BY = 16
"""Facts that a limit counts by; more than any limit has."""

ID_OCTETS = 16


class Standing(msgspec.Struct, frozen=True, gc=False):
    """A limit's counter. `unit` is a word of the rules, or what is distinct; the period in seconds."""

    used: int
    maximum: int
    unit: str
    period_seconds: int


class NoticeEvent(msgspec.Struct, frozen=True, gc=False):
    """One notice, to be told to whoever is told; `id` is the same at every try and for everybody.

    `kind` is a NoticeKind's word or TEST. All texts are escaped; `login_raw` alone is as it came from the
    wire, to find the user's address by. `about_user` says that it is a limit of that login's own.
    """

    id: str
    time: datetime
    host: str
    daemon: str
    kind: str
    rule: str
    stage: str
    text: str
    counted_by: tuple[tuple[str, str], ...] = ()
    standing: Standing | None = None
    language: str | None = None
    login: str | None = None
    client_address: str | None = None
    sender: str | None = None
    recipient: str | None = None
    queue_id: str | None = None
    instance: str | None = None
    login_raw: str | None = None
    about_user: bool = False


@dataclass(frozen=True, slots=True)
class Reporter:
    """Who tells: a daemon on a host."""

    daemon: str
    host: str

    def event(self, notice: Notice, transaction: Transaction, now: datetime | None = None) -> NoticeEvent:
        """The notice, told now, about this transaction."""
        session, envelope = transaction.session, transaction.envelope
        return NoticeEvent(
            new_id(),
            now or datetime.now(UTC),
            self.host,
            self.daemon,
            notice.kind.value,
            escape(notice.rule),
            notice.stage.value,
            _plain(notice.text),
            tuple((escape(name), _plain(value)) for name, value in notice.counted_by[:MAX_COUNTED_BY]),
            _standing(notice),
            notice.language,
            _shown(notice.login),
            _shown(session.client_address),
            _sender(transaction) if envelope else None,
            _shown(transaction.recipient),
            _shown(transaction.queue_id),
            _shown(transaction.instance),
            notice.login,
            _is_about_user(notice),
        )

    def test(self, now: datetime | None = None) -> NoticeEvent:
        """What `mailreeve notices test` tells."""
        return NoticeEvent(
            new_id(),
            now or datetime.now(UTC),
            self.host,
            self.daemon,
            TEST,
            "(none)",
            Stage.RCPT.value,
            f"a test of the notices of {self.host}: nothing has happened",
        )


def host_name() -> str:
    """This host's own name, as it may stand anywhere."""
    return escape(socket.gethostname()) or "localhost"


def new_id() -> str:
    """A name that no other notice has, in lower-case hexadecimal digits."""
    return secrets.token_hex(ID_OCTETS)


def _is_about_user(notice: Notice) -> bool:
    """A `notify` is the administrator's, and so is a counter that a login shares with others."""
    names = [name for name, _ in notice.counted_by]
    return notice.kind is not NoticeKind.NOTIFY and notice.login is not None and names == ["sasl_username"]


def _standing(notice: Notice) -> Standing | None:
    if notice.used is None or notice.maximum is None or notice.period is None:
        return None
    return Standing(
        notice.used, notice.maximum, escape(notice.unit or ""), int(notice.period.total_seconds())
    )


def _plain(value: str) -> str:
    """A text that is escaped already; were it not, it is now."""
    return cut(value, MAX_TEXT) if value.isprintable() else escape(value, MAX_TEXT)


def _shown(value: object) -> str | None:
    return None if value is None else escape(str(value))


def _sender(transaction: Transaction) -> str:
    path = transaction.envelope.reverse_path if transaction.envelope else None
    return escape(str(path)) if path is not None else "<>"


def format_json(event: NoticeEvent) -> bytes:
    """`mailreeve.notice.v1` (docs/notices.md): ASCII on one line, without what is not there."""
    standing = event.standing
    found: dict[str, object] = {
        "schema": SCHEMA,
        "id": event.id,
        "time": format_time(event.time),
        "host": event.host,
        "daemon": event.daemon,
        "kind": event.kind,
        "rule": event.rule,
        "stage": event.stage,
        "text": event.text,
        "language": event.language,
        "login": event.login,
        "counted_by": dict(event.counted_by) or None,
        "limit": msgspec.to_builtins(standing) if standing else None,
        "client_address": event.client_address,
        "sender": event.sender,
        "recipient": event.recipient,
        "queue_id": event.queue_id,
        "instance": event.instance,
    }
    return json.dumps({name: value for name, value in found.items() if value is not None}).encode("ascii")


def format_time(time: datetime) -> str:
    """RFC 3339, UTC, milliseconds: as in the record."""
    return time.astimezone(UTC).isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


def describe(events: Sequence[NoticeEvent], most: int = 5) -> str:
    """Some notices in a few words, for a line in the log."""
    named = ", ".join(f"{event.kind} by {event.rule}" for event in events[:most])
    return named + (f" and {len(events) - most} more" if len(events) > most else "")
