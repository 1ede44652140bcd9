"""Reloads, restarts, worn and dying workers while mail flows: every message is taken once, and marked."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from tests.lab.activation import held_socket
from tests.lab.daemons import Daemon, Engine
from tests.lab.keys import SigningKeys
from tests.lab.process import wait_until
from tests.lab.site import Settings, Site
from tests.lab.stream import Stream

COUNTING = "at rcpt {\n    hour: limit 1000000 recipients/hour per sasl_username\n}\n"
MESSAGES = 1000
RELOADS = 20
RESTARTS = 5
KILLS = 3
RELOADED = "reading the configuration anew"
SERVES_ANEW = "serves with the new configuration at"
TWO_WORKERS = {"policyd": {"workers": 2}, "milter": {"workers": 2}}
ALL_AT_ONCE = {"default_destination_concurrency_limit": "50", "virtual_destination_concurrency_limit": "50"}


@pytest.fixture
def site(work: Path, our_keys: SigningKeys, engine: Engine) -> Iterator[Site]:
    with busy_site(work, our_keys, engine, TWO_WORKERS) as site:
        yield site


def busy_site(work: Path, keys: SigningKeys, engine: Engine, settings: Settings) -> Site:
    """One that counts and signs all mail, and delivers much of it at once."""
    return Site(work, rules=COUNTING, keys=keys, engine=engine, settings=settings, main=ALL_AT_ONCE)


def counted(site: Site) -> int:
    """How many recipients the policy daemon has counted, as its latest records say."""
    asked = [record for record in site.records() if record["daemon"] == "policyd"]
    return max(int(limit["used"]) for record in asked for limit in record.get("limits", []))


def reload_both(site: Site, times: int) -> None:
    """Have both daemons read their files anew so often, each time when the new workers serve."""
    for number in range(1, times + 1):
        for daemon in (site.milter, site.policyd):
            daemon.hup()
        for daemon in (site.milter, site.policyd):
            wait_until(partial(serves_anew, daemon, number), f"reload {number}")


def serves_anew(daemon: Daemon, times: int) -> bool:
    """Have new workers taken over so often? Old ones may still have mail to finish."""
    return daemon.text().count(SERVES_ANEW) == times


def test_a_thousand_messages_while_both_daemons_reload_twenty_times(site: Site) -> None:
    """No connection and no message is lost: each is taken at the first try, counted, signed and delivered."""
    stream = Stream(site)
    stream.run(lambda: reload_both(site, RELOADS), MESSAGES)

    assert len(stream.taken) >= MESSAGES
    assert stream.deferred == []
    stream.check_delivered()
    assert counted(site) == len(stream.taken)
    for daemon in (site.milter, site.policyd):
        assert daemon.text().count(RELOADED) == RELOADS
        wait_until(partial(has_workers, daemon, 2), "the old workers end")


def has_workers(daemon: Daemon, count: int) -> bool:
    """Are there so many of them, those that are ending included?"""
    return len(daemon.workers) == count


def test_both_daemons_restart_behind_sockets_that_systemd_holds(
    work: Path, our_keys: SigningKeys, engine: Engine
) -> None:
    """An upgrade under load: who comes between the old daemon and the new one waits, and nothing is lost."""
    site = busy_site(work, our_keys, engine, TWO_WORKERS)
    with ExitStack() as stack:
        stack.enter_context(held_socket(site.milter, site.milter_address))
        stack.enter_context(held_socket(site.policyd, site.policy_address))
        stack.enter_context(site)
        stream = Stream(site)
        stream.run(lambda: restart_in_turn([site.milter, site.policyd], RESTARTS), MESSAGES // 5)

        assert stream.deferred == []
        stream.check_delivered()
        assert counted(site) == len(stream.taken)


def test_worn_workers_are_replaced_while_mail_flows(
    work: Path, our_keys: SigningKeys, engine: Engine
) -> None:
    """Each after some messages or requests: no mail notices."""
    worn = {
        "milter": {"workers": 2, "recycle_after_messages": 20},
        "policyd": {"workers": 2, "recycle_after_requests": 20},
    }
    with busy_site(work, our_keys, engine, worn) as site:
        before = {*site.milter.workers, *site.policyd.workers}
        stream = Stream(site)
        stream.run(lambda: None, MESSAGES // 2)

        assert stream.deferred == []
        stream.check_delivered()
        assert counted(site) == len(stream.taken)
        wait_until(lambda: not before & {*site.milter.workers, *site.policyd.workers}, "all are replaced")


def test_connections_that_have_lived_their_time_take_no_mail_with_them(
    work: Path, our_keys: SigningKeys, engine: Engine
) -> None:
    """What such a connection was about is deferred at most; what was taken is delivered, once, and signed."""
    short = {name: {"workers": 2, "total_timeout_seconds": 1.0} for name in TWO_WORKERS}
    with busy_site(work, our_keys, engine, short) as site:
        stream = Stream(site)
        stream.run(lambda: None, MESSAGES // 2)
        stream.check_delivered()
        assert counted(site) >= len(stream.taken)


def restart_in_turn(daemons: list[Daemon], times: int) -> None:
    """End each in order and start it anew, one after the other, so often."""
    for _ in range(times):
        for daemon in daemons:
            daemon.send(signal.SIGTERM)
            assert daemon.wait_ended() == 0
            daemon.start()


def kill_in_turn(daemons: list[Daemon], times: int) -> None:
    """End one worker of each without warning, and the next when another has taken its place."""
    for number in range(1, times + 1):
        for daemon in daemons:
            before = frozenset(daemon.workers)
            dead = min(before)
            os.kill(dead, signal.SIGKILL)
            wait_until(partial(is_replaced, daemon, dead, before), f"worker {number} of {daemon.name}")


def is_replaced(daemon: Daemon, dead: int, before: frozenset[int]) -> bool:
    """Is the dead one gone, and is there another that was not there before?"""
    now = set(daemon.workers)
    return dead not in now and bool(now - before)


def test_workers_that_die_one_after_the_other_lose_no_message(site: Site) -> None:
    """What a dead worker held is deferred and comes again: every message is delivered once, and signed."""
    stream = Stream(site)
    stream.run(lambda: kill_in_turn([site.milter, site.policyd], KILLS), MESSAGES // 5)

    stream.check_delivered()
    assert {len(daemon.workers) for daemon in (site.milter, site.policyd)} == {2}
