"""What is remembered of live sets and tables: for two seconds, bounded, and of an outage without waiting."""

from __future__ import annotations

import logging
import tracemalloc

import pytest

from mailreeve_policyd.errors import StoreError
from mailreeve_policyd.live import (
    MAX_REMEMBERED,
    REMEMBER_SECONDS,
    RETRY_SECONDS,
    PartedNames,
    RememberedNames,
    UnusableName,
)
from mailreeve_policyd.rules.membership import networks_around
from tests.policyd.live_names import Hand, Server

LOG = logging.getLogger("tests.live")


def test_an_answer_is_remembered_for_two_seconds_and_no_longer() -> None:
    """Who is added or removed is seen then."""
    server, clock = Server(), Hand()
    names = RememberedNames(server, LOG, clock)

    assert not names.has("staff", ("bob",))
    server.sets["staff"] = frozenset(("bob",))
    clock.now += REMEMBER_SECONDS - 0.25
    assert not names.has("staff", ("bob",))
    assert server.asked == 1
    clock.now += 0.25
    assert names.has("staff", ("bob",))
    server.sets.clear()
    clock.now += REMEMBER_SECONDS
    assert not names.has("staff", ("bob",))


def test_a_value_is_remembered_too_and_so_is_that_there_is_none() -> None:
    """Each key is asked once in two seconds."""
    server = Server(tables={"roles": {"bob": "bulk"}})
    names = RememberedNames(server, LOG, Hand())

    assert [names.value("roles", "bob"), names.value("roles", "ann")] * 2 == ["bulk", None] * 2
    assert server.asked == 2


def test_sets_and_tables_of_one_name_are_two_things() -> None:
    """As are one member and several."""
    server = Server(sets={"x": frozenset(("bob",))}, tables={"x": {"bob": "bulk"}})
    names = RememberedNames(server, LOG, Hand())

    assert (names.has("x", ("bob",)), names.value("x", "bob")) == (True, "bulk")
    assert not names.has("x", ("ann", "eve"))
    assert names.has("x", ("ann", "bob"))


def test_what_is_remembered_is_bounded() -> None:
    """Strangers may ask as much as they like: what was asked longest ago is forgotten."""
    server = Server()
    names = RememberedNames(server, LOG, Hand())

    for number in range(MAX_REMEMBERED + 1):
        names.has("staff", (f"user{number}",))
    assert len(names._answers) == MAX_REMEMBERED
    names.has("staff", ("user1",))
    assert server.asked == MAX_REMEMBERED + 1
    names.has("staff", ("user0",))
    assert server.asked == MAX_REMEMBERED + 2


def test_what_is_remembered_takes_little_memory_whatever_is_asked() -> None:
    """A hundred networks are around an IPv6 address; strangers have many of these, and long names."""
    names = RememberedNames(Server(), LOG, Hand())
    asked = 1000

    tracemalloc.start()
    for number in range(asked):
        names.has("bad", networks_around(f"2001:db8:{number:x}:1234:5678:9abc:def0:1"))
        names.has("greetings", (f"{number}" + "x" * 8000,))
        names.value("quotas", f"{number}" + "y" * 8000)
    networks_around.cache_clear()
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert taken / (3 * asked) * MAX_REMEMBERED < 8 << 20


def test_an_outage_is_told_at_once_to_all_but_one_request_in_two_seconds(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Nobody else waits for a timeout; the log says once that it went, and once that it is back."""
    server, clock = Server(away={"staff", "roles"}), Hand()
    names = RememberedNames(server, LOG, clock)

    for _ in range(5):
        with pytest.raises(StoreError, match=r"Connection refused|is away"):
            names.has("staff", ("bob",))
        with pytest.raises(StoreError, match="is away"):
            names.value("roles", "bob")
    assert server.asked == 1
    clock.now += RETRY_SECONDS
    with pytest.raises(StoreError):
        names.has("staff", ("bob",))
    assert server.asked == 2
    server.away.clear()
    clock.now += RETRY_SECONDS
    assert not names.has("staff", ("bob",))
    assert names.value("roles", "bob") is None

    went, back = caplog.messages
    assert "is away (Connection refused)" in went
    assert back.endswith("is back")


def test_an_answer_outlives_the_beginning_of_an_outage_by_its_two_seconds_alone() -> None:
    """Then it cannot be known: an old answer is nobody's truth."""
    server, clock = Server(sets={"staff": frozenset(("bob",))}), Hand()
    names = RememberedNames(server, LOG, clock)

    assert names.has("staff", ("bob",))
    server.away.add("staff")
    clock.now += REMEMBER_SECONDS - 0.25
    assert names.has("staff", ("bob",))
    clock.now += 0.25
    with pytest.raises(StoreError):
        names.has("staff", ("bob",))


def test_a_name_that_cannot_be_used_is_no_outage_of_others(caplog: pytest.LogCaptureFixture) -> None:
    """It is told once, remembered as long as an answer, and the others are asked as ever."""
    server, clock = Server(unusable={"staff"}), Hand()
    names = RememberedNames(server, LOG, clock)

    for _ in range(3):
        with pytest.raises(UnusableName):
            names.has("staff", ("bob",))
        assert not names.has("vip", ("bob",))
        clock.now += REMEMBER_SECONDS / 2
    assert server.asked == 4
    assert caplog.messages == ["the set staff in Redis cannot be read: WRONGTYPE"]


def test_on_a_cluster_each_name_is_away_by_itself(caplog: pytest.LogCaptureFixture) -> None:
    """One node that is gone takes its own sets and tables with it, and the log names them."""
    server = Server(away={"staff"})
    names = PartedNames(server, LOG, Hand())

    for _ in range(3):
        with pytest.raises(StoreError):
            names.has("staff", ("bob",))
        assert names.value("roles", "bob") is None
    assert server.asked == 2
    assert len(caplog.messages) == 1
    assert "the node of Redis with the set staff is away" in caplog.messages[0]
