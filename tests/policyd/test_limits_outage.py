"""What happens while a store is away, and when it comes back."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from mailreeve_policyd.errors import StoreError
from mailreeve_policyd.limits import OnUnavailable, Usage
from mailreeve_policyd.limits_outage import FIRST_RETRY_SECONDS, LAST_RETRY_SECONDS, FallbackStore, Outage
from mailreeve_policyd.limits_sqlite import SqliteStore
from tests.lab.process import wait_until
from tests.policyd.limit_stores import SECOND, HandClock, HandRetries, charge_of, messages

log = logging.getLogger("tests.outage")
LOCAL, OPEN, CLOSED = OnUnavailable.LOCAL, OnUnavailable.OPEN, OnUnavailable.CLOSED


class Site:
    """A primary store that is away as long as a plain file stands where its folder should be."""

    def __init__(self, folder: Path, mode: OnUnavailable) -> None:
        self.clock = HandClock()
        self.seconds = HandClock()
        self.retries = HandRetries()
        self.place = folder / "primary"
        self.primary = SqliteStore(self.place / "limits.sqlite", self.clock)
        self.local = SqliteStore(folder / "local" / "limits.sqlite", self.clock)
        self.store = FallbackStore(
            self.primary,
            self.local,
            mode,
            log,
            name="the store",
            retries=self.retries,
            clock=self.seconds,
        )

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

    def wait(self, seconds: float) -> None:
        """Let so many seconds pass, with the tries that fall into them."""
        self.seconds.advance(round(seconds * SECOND))
        self.retries.pass_time(seconds)


@pytest.fixture
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    """A site with `local`, or with the mode that the test is parametrized by."""
    made = Site(tmp_path, getattr(request, "param", LOCAL))
    yield made
    made.store.close()


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


@pytest.mark.parametrize("site", [OPEN], indirect=True)
def test_open_counts_nothing_and_stops_nobody(site: Site, tmp_path: Path) -> None:
    """Even a limit of none lets pass, marked degraded."""
    site.goes_away()

    assert site.store.charge([charge_of(messages(0)), charge_of(messages(3))]) == (
        Usage(0, 0, exceeded=False, degraded=True),
        Usage(0, 3, exceeded=False, degraded=True),
    )
    assert not (tmp_path / "local").exists()


@pytest.mark.parametrize("site", [CLOSED], indirect=True)
def test_closed_says_so(site: Site) -> None:
    """The caller defers what has a limit."""
    site.goes_away()

    for _ in range(2):
        with pytest.raises(StoreError, match="the store is away"):
            site.store.charge([charge_of(messages(3))])
    assert site.store.outage == Outage(is_away=True, outages=1, degraded=2)


@pytest.mark.parametrize("site", [LOCAL, OPEN, CLOSED], indirect=True)
def test_what_a_limit_says_itself_goes_before_the_setting(site: Site) -> None:
    """Each charge of a call is answered as its own rule has it."""
    site.goes_away()
    counted = charge_of(messages(1), on_unavailable=LOCAL)
    free = charge_of(messages(0), on_unavailable=OPEN)
    strict = charge_of(messages(5), on_unavailable=CLOSED)

    assert site.store.charge([free, counted]) == (
        Usage(0, 0, exceeded=False, degraded=True),
        Usage(1, 1, exceeded=False, degraded=True),
    )
    assert [usage.exceeded for usage in site.store.charge([free, counted])] == [False, True]
    with pytest.raises(StoreError):
        site.store.charge([charge_of(messages(1), on_unavailable=LOCAL), strict])


def test_what_closed_defers_is_counted_nowhere(site: Site) -> None:
    """Promise 3 in an outage: not even the machine's own store counts a request that is deferred."""
    site.goes_away()
    counted = charge_of(messages(1))

    with pytest.raises(StoreError):
        site.store.charge([counted, charge_of(messages(5), on_unavailable=CLOSED)])

    assert site.local.usage([counted]) == (Usage(1, 1, exceeded=False),)


def test_it_is_logged_once_when_it_goes_and_once_when_it_returns(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    """However many requests meet the outage and however often it is tried."""
    for _ in range(2):
        site.goes_away()
        for _ in range(5):
            site.store.charge([charge_of(messages(1))])
            site.wait(40)
        site.comes_back()
        site.wait(40)
        site.store.charge([charge_of(messages(1))])

    said = [record.message.split(":")[0].split(" (")[0] for record in caplog.records]
    assert said == ["the store is away", "the store is back"] * 2
    assert site.store.outage == Outage(is_away=False, outages=2, degraded=10)


def test_a_store_that_is_away_is_not_asked_for_each_request(site: Site) -> None:
    """An outage does not add the store's timeout to each request: it is tried beside them."""
    site.goes_away()
    site.store.charge([charge_of(messages(1))])
    site.comes_back()

    assert site.store.charge([charge_of(messages(1))])[0].degraded
    site.wait(FIRST_RETRY_SECONDS)
    assert not site.store.charge([charge_of(messages(1))])[0].degraded


def test_its_return_is_seen_without_a_request(site: Site) -> None:
    """A server with little mail does not count by itself until the next message comes."""
    site.goes_away()
    site.store.charge([charge_of(messages(1))])
    site.comes_back()
    site.wait(LAST_RETRY_SECONDS)

    assert not site.store.outage.is_away


def test_retries_become_rarer_but_never_rarer_than_promised(site: Site) -> None:
    """However long the outage lasted, the return is seen within LAST_RETRY_SECONDS."""
    site.goes_away()
    site.store.charge([charge_of(messages(1))])
    site.wait(500)
    site.comes_back()

    assert site.retries.wait is not None
    assert FIRST_RETRY_SECONDS < site.retries.wait <= LAST_RETRY_SECONDS


def test_a_store_that_comes_and_goes_is_tried_ever_more_rarely(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    """It neither fills the log nor costs its timeout every second; after a calm time it begins anew."""
    waits = []
    for calm in (0, 0, 0, LAST_RETRY_SECONDS + 1):
        site.goes_away()
        site.store.charge([charge_of(messages(1))])
        assert site.retries.wait is not None
        waits.append(site.retries.wait)
        site.comes_back()
        site.wait(site.retries.wait)
        site.wait(calm)
    site.goes_away()
    site.store.charge([charge_of(messages(1))])

    assert waits == [FIRST_RETRY_SECONDS * 2**step for step in range(4)]
    assert site.retries.wait == FIRST_RETRY_SECONDS
    assert len(caplog.records) == 9


def test_after_a_return_it_counts_where_it_was(site: Site) -> None:
    """What was counted meanwhile stays on the machine: up to N more, as documented."""
    charge = charge_of(messages(2))
    site.store.charge([charge])
    site.goes_away()
    site.store.charge([charge])
    site.comes_back()
    site.wait(1)

    assert site.store.charge([charge]) == (Usage(2, 2, exceeded=False),)


def test_a_local_store_that_is_away_too_is_told(site: Site, tmp_path: Path) -> None:
    """Then nothing can count, and the caller knows."""
    site.goes_away()
    (tmp_path / "local").write_text("in the way")

    with pytest.raises(StoreError):
        site.store.charge([charge_of(messages(2))])


def test_a_thread_sees_the_return(tmp_path: Path) -> None:
    """As shipped it is tried in a thread, which ends when the store is back, or with the store."""
    (tmp_path / "state").write_text("in the way")
    local = SqliteStore(tmp_path / "local" / "limits.sqlite")
    store = FallbackStore(SqliteStore(tmp_path / "state" / "limits.sqlite"), local, LOCAL, log)
    assert store.charge([charge_of(messages(1))])[0].degraded
    (tmp_path / "state").unlink()

    wait_until(lambda: not store.outage.is_away, "the store is back")

    assert not store.charge([charge_of(messages(1))])[0].degraded
    store.close()
