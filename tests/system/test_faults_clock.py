"""The clock is stepped under working daemons, forwards and back: what it decides, and what it must not.

libfaketime gives them the time of a file, and leaves the clock alone that only goes forwards.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.lab import tree
from tests.lab.daemons import Engine
from tests.lab.delivered import read_delivered
from tests.lab.keys import SigningKeys
from tests.lab.outside import OutsideDomain, compose
from tests.lab.site import ALICE, LAPTOP, Sent, Site

RULES = """
at rcpt {
    three: limit 3 recipients/hour per sasl_username
}
at end-of-message {
    forged: reject "5.7.26 Fails DMARC" if dmarc is fail
}
"""
BANK = OutsideDomain("bank.example", "192.0.2.25")
YEAR, DAY, HOUR = timedelta(days=365), timedelta(days=1), timedelta(hours=1)


class Clock:
    """What time the daemons believe it is: the machine's and an offset, read anew at each question."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.offset = timedelta()
        self.step(timedelta())

    def step(self, by: timedelta) -> None:
        """Set it on, or back."""
        self.offset += by
        beside = self.file.with_suffix(".new")
        beside.write_text(f"{self.offset.total_seconds():+.0f}\n")
        beside.rename(self.file)

    @property
    def now(self) -> datetime:
        """As the daemons have it."""
        return datetime.now(UTC) + self.offset

    @property
    def environment(self) -> dict[str, str]:
        """For a process that is to have this clock."""
        [library] = tree.ROOT.glob("usr/lib/*/faketime/libfaketimeMT.so.1")
        return {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(self.file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_DONT_RESET": "1",
        }


@pytest.fixture
def clock(work: Path) -> Clock:
    return Clock(work / "clock")


@pytest.fixture
def site(work: Path, our_keys: SigningKeys, engine: Engine, clock: Clock) -> Iterator[Site]:
    made = Site(work, rules=RULES, keys=our_keys, engine=engine, zone=BANK.zone)
    for daemon in (made.milter, made.policyd):
        daemon.environment = {**daemon.environment, **clock.environment}
    with made:
        yield made


def submit(site: Site) -> Sent:
    """A message of alice to bob."""
    message = compose("alice@example.org", "bob@example.org", "Hello", "Hi.")
    return site.send(LAPTOP, "alice@example.org", ["bob@example.org"], message, login=ALICE)


def taken(site: Site, times: int) -> list[bool]:
    """Whether each of so many messages was."""
    return [(sent := submit(site)).end is not None and sent.end.ok for _ in range(times)]


def receive(site: Site) -> str:
    """How a good message of the bank was marked."""
    message = BANK.sign(compose("alerts@bank.example", "bob@example.org", "Statement", "Dear Bob"))
    assert site.send(BANK.server, "alerts@bank.example", ["bob@example.org"], message).queue_id
    [field] = read_delivered(site.postfix.next_message("bob@example.org")).values("Authentication-Results")
    return field


@pytest.mark.parametrize("back", [HOUR / 2, YEAR], ids=["half an hour back", "a year back"])
def test_a_clock_that_is_stepped_neither_opens_nor_shuts_a_limit_for_ever(
    site: Site, clock: Clock, back: timedelta
) -> None:
    """Forwards the window goes by; back, nobody is let send without end, nor refused beyond a window."""
    assert taken(site, 4) == [True, True, True, False]
    clock.step(2 * HOUR)
    assert taken(site, 4) == [True, True, True, False]
    clock.step(-back)
    assert sum(taken(site, 7)) <= 3
    clock.step(2 * HOUR)
    assert taken(site, 4) == [True, True, True, False]


def test_what_the_record_and_signatures_say_follows_the_clock(site: Site, clock: Clock) -> None:
    """Whatever it says; and what is known of DNS, and how long something took, does not."""
    assert "dmarc=pass" in receive(site)
    asked = len(site.dns.queries)
    for step in (YEAR, -2 * YEAR, 3 * DAY):
        clock.step(step)
        assert "dmarc=pass" in receive(site)
        assert submit(site).queue_id
        [first, *_] = read_delivered(site.postfix.next_message("bob@example.org")).values("DKIM-Signature")
        signed = re.search(r"\bt=([0-9]+)", first)
        assert signed is not None
        latest = site.records()[-1]
        for told in (datetime.fromtimestamp(int(signed[1]), UTC), datetime.fromisoformat(latest["time"])):
            assert abs(told - clock.now) < timedelta(minutes=1)
        assert 0 <= latest["spent_ms"]["total"] < 60_000
    assert len(site.dns.queries) == asked, "answers were forgotten, or kept beyond their time"
    for daemon in (site.milter, site.policyd):
        assert len(daemon.workers) == 1
        assert not re.search("error|critical|hang|Traceback", daemon.text()), daemon.text()
