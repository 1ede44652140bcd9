from __future__ import annotations

import json
import os
import socket
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from mailreeve_policyd.audit import AuditLog
from mailreeve_policyd.audit_bound import BoundRecord, Connected, Overrun, connected_peer
from mailreeve_policyd.audit_line import MAX_LINE_OCTETS
from mailreeve_policyd.transaction import parse_address
from tests.lab.tree import REPOSITORY
from tests.policyd.limit_stores import SECOND, HandClock

NOON = datetime(2026, 3, 1, 12, 0, 0, 123_000, tzinfo=UTC)
SILENT = Overrun("milter.idle_timeout_seconds", 7210.0, "closed", "it said nothing for 7210 seconds")


class Lines:
    """A sink that keeps what is written."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []

    def write(self, line: bytes) -> None:
        self.lines.append(line)

    def reopen(self) -> None:
        """Nothing is open."""

    def close(self) -> None:
        """Nothing is open."""

    @property
    def records(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.lines]


def test_an_overrun_is_a_line_with_its_bound_and_whose_it_was() -> None:
    """What is not known is missing."""
    sink = Lines()
    audit = AuditLog("milter", sink, lambda: NOON)
    peer, client = Connected(pid=4711, uid=105), parse_address("192.0.2.7")

    assert audit.overrun(SILENT)
    assert audit.overrun(Overrun("milter.max_recipients", 5, "refused", "x", peer, client, "4B1C2D"))

    assert sink.records == [
        {
            "time": "2026-03-01T12:00:00.123Z",
            "daemon": "milter",
            "event": "bound",
            "bound": "milter.idle_timeout_seconds",
            "maximum": 7210.0,
            "consequence": "closed",
            "reason": "it said nothing for 7210 seconds",
        },
        {
            "time": "2026-03-01T12:00:00.123Z",
            "daemon": "milter",
            "event": "bound",
            "bound": "milter.max_recipients",
            "maximum": 5,
            "consequence": "refused",
            "reason": "x",
            "peer": {"pid": 4711, "uid": 105},
            "client": {"address": "192.0.2.7"},
            "queue_id": "4B1C2D",
        },
    ]


def test_who_overruns_a_bound_again_and_again_fills_no_disk() -> None:
    """So many lines of one bound a minute; the next tells how many were left out, and all are counted."""
    sink, stopwatch, counted = Lines(), HandClock(), list[str]()
    audit = AuditLog(
        "milter", sink, lambda: NOON, stopwatch=stopwatch, overruns_a_minute=3, count_overrun=counted.append
    )

    told = [audit.overrun(SILENT) for _ in range(1000)]
    stopwatch.advance(60 * SECOND)
    told.append(audit.overrun(SILENT))

    assert told == [True] * 3 + [False] * 997 + [True]
    assert [record.get("unrecorded") for record in sink.records] == [None, None, None, 997]
    assert counted == [SILENT.bound] * 1001


def test_overruns_are_lines_and_no_mail() -> None:
    """A worker is not replaced for them: `recycle_after_messages` counts messages."""
    audit = AuditLog("milter", Lines(), lambda: NOON)
    audit.overrun(SILENT)

    assert (audit.counts.written, audit.counts.recorded()) == (1, 0)


@pytest.mark.parametrize("text", ["x\r\nforged", "\x1b[2J\0", "ü" * 5000, '{"a":"\\', "\udcff" * 300])
def test_text_of_a_peer_is_escaped_and_cut(text: str) -> None:
    """One line, whatever a queue id or a quoted packet holds, that fits into a pipe in one piece."""
    sink = Lines()
    AuditLog("milter", sink).overrun(Overrun("b", 1, "closed", text, queue_id=text))

    [line] = sink.lines
    assert line.count(b"\n") == 1
    assert len(line) <= MAX_LINE_OCTETS
    record = json.loads(line)
    for shown in (record["reason"], record["queue_id"]):
        assert shown.isprintable()
        assert len(shown) <= 255


def test_a_local_peer_is_known_by_its_process() -> None:
    """The system says who opened a unix socket; its name says nothing."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert connected_peer(ours) == Connected(pid=os.getpid(), uid=os.getuid())


def test_a_peer_over_tcp_is_known_by_its_address() -> None:
    """And port, so that it can be found in the log of a firewall."""
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as client,
        server.accept()[0] as accepted,
    ):
        assert connected_peer(accepted) == Connected("127.0.0.1", client.getsockname()[1])


def test_a_peer_that_is_gone_is_not_known() -> None:
    """Nothing is raised where a connection is closed anyway."""
    ours, theirs = socket.socketpair()
    theirs.close()
    ours.close()

    assert connected_peer(ours) is None
    assert connected_peer(None) is None


def test_every_key_of_the_line_is_promised_in_the_documentation() -> None:
    """docs/audit.md lists them, those of `peer` with their path."""
    page = (REPOSITORY / "docs/audit.md").read_text()
    section = page.partition("## What went beyond a bound")[2].partition("\n## ")[0]
    for field in msgspec.structs.fields(BoundRecord):
        assert f"`{field.name}`" in section, field.name
    for field in msgspec.structs.fields(Connected):
        assert f"`peer.{field.name}`" in section, field.name
