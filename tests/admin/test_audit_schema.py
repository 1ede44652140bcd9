"""The schema of the record: what the daemons write is valid, and nothing else is."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailreeve_admin.audit_schema import audit_schema
from mailreeve_policyd.audit import AuditLog, Signature
from mailreeve_policyd.audit_administration import Operator, record_administration
from mailreeve_policyd.audit_bound import Connected, Consequence, Overrun
from mailreeve_policyd.authres import MethodResult
from mailreeve_policyd.escape import escape
from mailreeve_policyd.notice import Notice, NoticeKind
from mailreeve_policyd.smtp import EnhancedStatus, Reply, Stage, parse_mailbox
from mailreeve_policyd.transaction import (
    Envelope,
    Evidence,
    Relayed,
    Session,
    Tls,
    Transaction,
    parse_address,
)
from mailreeve_policyd.verdict import Action, AddHeader, LimitUsage, Observed, Verdict
from tests.lab.process import LabError
from tests.lab.record_schema import check_record

NOON = datetime(2026, 3, 1, 12, 0, 0, 123_000, tzinfo=UTC)

TEXTS = st.text(max_size=300) | st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=20)
WHOLE = st.integers(0, 2**70)
MAILBOXES = st.text("ab.\n\udcff", min_size=1, max_size=10).map(
    lambda name: parse_mailbox(f"{name}@example.org")
)
ADDRESSES = st.sampled_from(["192.0.2.7", "2001:db8::7"]).map(parse_address)
STAGES = st.sampled_from(Stage)


def maybe(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | values


def some(values: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.lists(values, max_size=3).map(tuple) | st.lists(values, min_size=33, max_size=34).map(tuple)


SESSIONS = st.builds(
    Session,
    client_address=maybe(ADDRESSES),
    client_port=maybe(WHOLE),
    client_name=maybe(TEXTS),
    helo_name=maybe(TEXTS),
    sasl_username=maybe(TEXTS),
    tls=maybe(
        st.builds(Tls, maybe(TEXTS), maybe(TEXTS), maybe(WHOLE), maybe(TEXTS), maybe(TEXTS), maybe(TEXTS))
    ),
    policy_context=maybe(TEXTS),
    relayed=maybe(st.builds(Relayed, ADDRESSES)),
)
RESULTS = st.builds(MethodResult, TEXTS, TEXTS, st.dictionaries(TEXTS, TEXTS, max_size=3), maybe(TEXTS))
EVIDENCE = st.builds(
    Evidence,
    some(RESULTS),
    author=maybe(MAILBOXES),
    dmarc_policy=maybe(TEXTS),
    arc=st.sampled_from(["none", "pass", "untrusted", "fail", "temperror"]),
    arc_sealer=maybe(st.just("example.net")),
)
VERDICTS = st.builds(
    Verdict,
    st.sampled_from(Action),
    STAGES,
    rule=maybe(TEXTS),
    reply=maybe(st.builds(Reply, st.just(550), st.just(EnhancedStatus(5, 7, 1)), TEXTS)),
    reason=maybe(TEXTS),
    edits=some(st.builds(AddHeader, TEXTS, TEXTS)),
    warnings=some(TEXTS),
    limits=some(
        st.builds(
            LimitUsage,
            TEXTS,
            WHOLE,
            WHOLE,
            st.booleans(),
            maybe(st.timedeltas(timedelta(0), timedelta(days=31))),
            st.booleans(),
            st.booleans(),
        )
    ),
    unknown=some(TEXTS),
    skipped=some(TEXTS),
    target=maybe(TEXTS),
    copies=some(TEXTS),
    notices=some(
        st.sampled_from(NoticeKind).map(
            lambda kind: Notice(kind, "rule", Stage.RCPT, "text", b"", timedelta(hours=1))
        )
    ),
    observed=some(st.builds(Observed, TEXTS, STAGES, TEXTS, maybe(TEXTS))),
)


def transactions(stages: st.SearchStrategy[Stage], *, of_message: bool) -> st.SearchStrategy[Transaction]:
    return st.builds(
        Transaction,
        stages,
        SESSIONS,
        maybe(st.builds(Envelope, maybe(MAILBOXES), some(MAILBOXES))),
        recipient=maybe(MAILBOXES),
        recipient_count=maybe(WHOLE),
        size=maybe(WHOLE),
        queue_id=maybe(TEXTS),
        instance=maybe(TEXTS),
        evidence=maybe(EVIDENCE if of_message else EVIDENCE.map(lambda one: Evidence(one.results))),
        message_id=maybe(TEXTS) if of_message else st.none(),
    )


class Lines:
    """A sink whose lines are looked at one by one."""

    def write(self, line: bytes) -> None:
        check_record(json.loads(line))

    def reopen(self) -> None:
        """Nothing is open."""

    def close(self) -> None:
        """Nothing is open."""


def quiet(_name: str, _text: str) -> None:
    """For a log that nobody reads."""


@given(
    transactions(STAGES, of_message=False),
    VERDICTS,
    st.sampled_from(["policyd", "milter"]),
    st.booleans(),
    maybe(TEXTS),
)
@settings(max_examples=40, deadline=None)
def test_every_decision_is_as_the_schema_says(
    transaction: Transaction, verdict: Verdict, daemon: Any, repeated: bool, error: str | None
) -> None:
    """Whatever was asked and answered, however long, and whatever octets the wire held."""
    audit = AuditLog(daemon, Lines(), lambda: NOON, warn=quiet)
    audit.decision(transaction, verdict, {"total": 0.001}, repeated=repeated, error=error)


@given(
    transactions(st.just(Stage.END_OF_MESSAGE), of_message=True),
    VERDICTS,
    some(st.builds(Signature, TEXTS, TEXTS, TEXTS)),
    some(TEXTS),
)
@settings(max_examples=40, deadline=None)
def test_every_message_is_as_the_schema_says(
    transaction: Transaction, verdict: Verdict, signatures: tuple[Signature, ...], names: tuple[str, ...]
) -> None:
    """With all that only the milter knows."""
    audit = AuditLog("milter", Lines(), lambda: NOON, warn=quiet)
    spent = {"total": 1.5, "evidence": 1.0, "decision": 0.25, "changes": 0.25}
    audit.message(transaction, verdict, spent, signatures=signatures, added=names, removed=names)


@given(some(TEXTS), some(TEXTS), maybe(WHOLE), maybe(st.just(2_000_000_000.0)), TEXTS, st.text(max_size=64))
@settings(max_examples=40, deadline=None)
def test_every_act_of_an_administrator_is_as_the_schema_says(
    key: tuple[str, ...],
    rules: tuple[str, ...],
    maximum: int | None,
    until: float | None,
    reason: str,
    name: str,
) -> None:
    """The third kind of line, written by the command."""
    record_administration(
        Lines(),
        Operator(escape(name, 64), 1000),
        "override",
        ("sasl_username",),
        key[:3],
        rules=tuple(escape(rule, 64) for rule in rules),
        maximum=None if maximum is None else maximum % 2**63,
        until=until,
        reason=reason,
        clock=lambda: NOON,
    )


@given(
    st.builds(
        Overrun,
        st.sampled_from(["milter.max_connections", "MAX_SIGNED_NAMES"]),
        st.integers(0, 2**40) | st.floats(0, 1e9),
        st.sampled_from(get_args(Consequence)),
        TEXTS,
        maybe(st.builds(Connected, maybe(st.just("192.0.2.7")), pid=maybe(st.integers(0, 2**22)))),
        maybe(ADDRESSES),
        maybe(TEXTS),
    ),
    st.sampled_from(["policyd", "milter"]),
)
@settings(max_examples=40, deadline=None)
def test_every_overrun_of_a_bound_is_as_the_schema_says(overrun: Overrun, daemon: Any) -> None:
    """The fourth kind of line: the second has left out some before it."""
    clock = iter((0.0, 0.0, 60.0))
    audit = AuditLog(daemon, Lines(), lambda: NOON, stopwatch=lambda: next(clock), overruns_a_minute=1)
    assert [audit.overrun(overrun) for _ in range(3)] == [True, False, True]


PLAIN = {
    "time": "2026-03-01T12:00:00.123Z",
    "daemon": "policyd",
    "event": "decision",
    "stage": "rcpt",
    "client": {},
    "verdict": {"action": "continue", "stage": "rcpt"},
    "spent_ms": {"total": 0.1},
}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("surprise", 1),
        ("client", {"adress": "192.0.2.7"}),
        ("time", "2026-03-01 12:00:00"),
        ("stage", "eom"),
        ("verdict", {"action": "tempfail", "stage": "rcpt"}),
        ("spent_ms", {}),
        ("helo", None),
        ("helo", "x" * 256),
        ("recipients", ["x"] * 33),
        ("repeated", False),
        ("size", 2**63),
        ("event", "message"),
        ("event", "administration"),
        ("event", "bound"),
        ("event", "surprise"),
        ("signatures", []),
    ],
)
def test_what_the_daemons_do_not_write_is_not_valid(key: str, value: Any) -> None:
    """The schema is as narrow as the promise: a test that asks it learns something."""
    check_record(PLAIN)
    with pytest.raises(LabError, match="no record as"):
        check_record(PLAIN | {key: value})


def test_nothing_is_left_open() -> None:
    """Every object of the schema names its keys, or says what all its values are."""

    def objects(part: Any) -> Any:
        if isinstance(part, dict):
            if part.get("type") == "object":
                yield part
            for one in part.values():
                yield from objects(one)

    for part in objects(audit_schema()):
        assert part["additionalProperties"] is False or "type" in part["additionalProperties"]
