"""What happens while a store is away, and when it comes back."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from mailreeve_policyd.errors import StoreError
from mailreeve_policyd.limits import LimitStore, OnUnavailable, Usage
from mailreeve_policyd.limits_outage import LAST_RETRY_SECONDS, FallbackStore, Outage
from mailreeve_policyd.limits_sqlite import SqliteStore
from tests.policyd.limit_stores import SECOND, HandClock, charge_of, messages

log = logging.getLogger("tests.outage")


class Site:
    """A primary store that is away as long as a plain file stands where its folder should be."""

    def __init__(self, folder: Path, mode: OnUnavailable) -> None:
        self.clock = HandClock()
        self.seconds = HandClock()
        self.place = folder / "primary"
        self.primary = SqliteStore(self.place / "limits.sqlite", self.clock)
        self.local = SqliteStore(folder / "local" / "limits.sqlite", self.clock)
        local: LimitStore | None = self.local if mode is OnUnavailable.LOCAL else None
        self.store = FallbackStore(self.primary, local, mode, log, clock=self.seconds, name="the store")

    def goes_away(self) -> None:
        """From now on each call of the primary is StoreError."""
        self.primary.close()
        if self.place.exists():
            self.place.rename(self.place.with_name("gone"))
        self.place.write_text("in the way")

    def comes_back(self) -> None:
        """With all that it had counted."""
        self.place.unlink()
        gone = self.place.with_name("gone")
        if gone.exists():
            gone.rename(self.place)

    def close(self) -> None:
        """Close both stores."""
        self.store.close()
        self.local.close()


@pytest.fixture
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    """A site with `local`, or with the mode that the test is parametrized by."""
    made = Site(tmp_path, getattr(request, "param", OnUnavailable.LOCAL))
    yield made
    made.close()


def test_as_long_as_the_store_answers_nothing_else_is_asked(site: Site) -> None:
    """Its answers are given as they are."""
    charge = charge_of(messages(5))

    assert site.store.charge([charge]) == (Usage(1, 5, exceeded=False),)
    assert site.store.usage([charge]) == (Usage(2, 5, exceeded=False),)
    assert site.local.usage([charge]) == (Usage(1, 5, exceeded=False),)
    assert site.store.outage == Outage(is_away=False, outages=0, degraded=0)


def test_local_counts_on_this_machine_meanwhile(site: Site) -> None:
    """N more may pass here, and no more; each answer is marked degraded."""
    charge = charge_of(messages(2))
    site.store.charge([charge])
    site.goes_away()

    usages = [site.store.charge([charge])[0] for _ in range(3)]

    assert [(usage.used, usage.exceeded, usage.degraded) for usage in usages] == [
        (1, False, True),
        (2, False, True),
        (2, True, True),
    ]
    assert site.store.usage([charge])[0].degraded


@pytest.mark.parametrize("site", [OnUnavailable.OPEN], indirect=True)
def test_open_counts_nothing_and_stops_nobody(site: Site) -> None:
    """Even a limit of none lets pass, marked degraded."""
    site.goes_away()

    assert site.store.charge([charge_of(messages(0)), charge_of(messages(3))]) == (
        Usage(0, 0, exceeded=False, degraded=True),
        Usage(0, 3, exceeded=False, degraded=True),
    )


@pytest.mark.parametrize("site", [OnUnavailable.CLOSED], indirect=True)
def test_closed_says_so(site: Site) -> None:
    """The caller defers what has a limit."""
    site.goes_away()

    for _ in range(2):
        with pytest.raises(StoreError, match="the store is away"):
            site.store.charge([charge_of(messages(3))])
    assert site.store.outage == Outage(is_away=True, outages=1, degraded=2)


def test_local_needs_a_local_store(tmp_path: Path) -> None:
    """Where there is none, that is found at the start."""
    primary = SqliteStore(tmp_path / "limits.sqlite")

    with pytest.raises(ValueError, match="needs a local store"):
        FallbackStore(primary, None, OnUnavailable.LOCAL, log)


def test_it_is_logged_once_when_it_goes_and_once_when_it_returns(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    """However many requests meet the outage and however often it is tried."""
    for _ in range(2):
        site.goes_away()
        for _ in range(5):
            site.store.charge([charge_of(messages(1))])
            site.seconds.advance(40 * SECOND)
        site.comes_back()
        site.store.charge([charge_of(messages(1))])
        site.store.charge([charge_of(messages(1))])

    said = [record.message.split(":")[0].split(" (")[0] for record in caplog.records]
    assert said == ["the store is away", "the store is back"] * 2
    assert site.store.outage == Outage(is_away=False, outages=2, degraded=10)


def test_the_store_is_not_tried_again_at_once(site: Site) -> None:
    """An outage does not add the store's timeout to each request: the first retry is a second later."""
    site.goes_away()
    site.store.charge([charge_of(messages(1))])
    site.comes_back()

    assert site.store.charge([charge_of(messages(1))])[0].degraded
    site.seconds.advance(SECOND - 1)
    assert site.store.charge([charge_of(messages(1))])[0].degraded
    site.seconds.advance(1)
    assert not site.store.charge([charge_of(messages(1))])[0].degraded


def test_retries_become_rarer_but_never_rarer_than_half_a_minute(site: Site) -> None:
    """However long the outage lasted, the return is seen within LAST_RETRY_SECONDS."""
    site.goes_away()
    for _ in range(50):
        site.store.charge([charge_of(messages(1))])
        site.seconds.advance(10 * SECOND)
    site.store.charge([charge_of(messages(1))])
    site.comes_back()

    site.seconds.advance(5 * SECOND)
    waited = 5.0
    while site.store.charge([charge_of(messages(1))])[0].degraded:
        site.seconds.advance(SECOND)
        waited += 1
        assert waited <= LAST_RETRY_SECONDS


def test_after_a_return_it_counts_where_it_was(site: Site) -> None:
    """What was counted meanwhile stays on the machine: up to N more, as documented."""
    charge = charge_of(messages(2))
    site.store.charge([charge])
    site.goes_away()
    site.store.charge([charge])
    site.comes_back()
    site.seconds.advance(SECOND)

    assert site.store.charge([charge]) == (Usage(2, 2, exceeded=False),)


def test_a_local_store_that_is_away_too_is_told(site: Site, tmp_path: Path) -> None:
    """Then nothing can count, and the caller knows."""
    site.goes_away()
    (tmp_path / "local").write_text("in the way")

    with pytest.raises(StoreError):
        site.store.charge([charge_of(messages(2))])
