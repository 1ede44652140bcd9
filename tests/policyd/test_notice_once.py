"""Each notice once a key and window, whatever arises in however many processes."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from mailreeve_policyd.errors import StoreError
from mailreeve_policyd.limits import Charge, Usage
from mailreeve_policyd.limits_memory import MemoryStore
from mailreeve_policyd.notice import Notice, NoticeKind, notice_key
from mailreeve_policyd.notice_once import MAX_REMEMBERED, RETRY_SECONDS, NoticesOnce
from mailreeve_policyd.smtp import Stage
from tests.policyd.limit_stores import HandClock

HOUR = timedelta(hours=1)


def notice(who: str = "bob", kind: NoticeKind = NoticeKind.EXCEEDED) -> Notice:
    return Notice(kind, "day", Stage.RCPT, "look", notice_key(kind, "day", HOUR, (who,)), HOUR)


class Tally(MemoryStore):
    """A store that can be away and tells how often it was asked."""

    asked = 0
    is_away = False

    def charge(self, charges: Sequence[Charge]) -> tuple[Usage, ...]:
        self.asked += 1
        if self.is_away:
            raise StoreError("away")
        return super().charge(charges)


def test_a_notice_is_due_once_in_its_window() -> None:
    """The store is asked once; after the window it is due again."""
    clock = HandClock()
    store = Tally(clock)
    once = NoticesOnce(store, clock)

    assert [len(once.due([notice()])) for _ in range(3)] == [1, 0, 0]
    assert store.asked == 1
    clock.advance(HOUR + timedelta(minutes=2))
    assert once.due([notice()]) == (notice(),)


def test_another_key_and_another_kind_have_their_own() -> None:
    """Bob's warning does not silence Ann's, nor that his limit is exceeded."""
    once = NoticesOnce(MemoryStore(HandClock()), HandClock())
    all_three = (notice(), notice("ann"), notice(kind=NoticeKind.WARNING))

    assert once.due(all_three) == all_three


def test_processes_share_what_was_told() -> None:
    """One store, two gates: the second knows by the store, for as long as the window still lasts."""
    clock = HandClock()
    store = Tally(clock)
    first, second = NoticesOnce(store, clock), NoticesOnce(store, clock)

    assert len(first.due([notice()])) == 1
    clock.advance(timedelta(minutes=30))
    assert [second.due([notice()]), second.due([notice()])] == [(), ()]
    assert store.asked == 2
    clock.advance(timedelta(minutes=33))
    assert len(second.due([notice()])) == 1


def test_a_store_that_is_away_gives_none() -> None:
    """Rather a notice too few than one a message; it is asked again after a while."""
    clock = HandClock()
    store = Tally(clock)
    store.is_away = True
    once = NoticesOnce(store, clock)

    assert [once.due([notice()]), once.due([notice()])] == [(), ()]
    assert store.asked == 1
    store.is_away = False
    clock.advance(timedelta(seconds=RETRY_SECONDS))
    assert len(once.due([notice()])) == 1


def test_what_is_remembered_is_bounded() -> None:
    """The oldest is asked again; the store still says that it was told."""
    clock = HandClock()
    store = Tally(clock)
    once = NoticesOnce(store, clock)
    once.due([notice(str(number)) for number in range(MAX_REMEMBERED + 1)])
    asked = store.asked

    assert once.due([notice("0"), notice(str(MAX_REMEMBERED))]) == ()
    assert store.asked == asked + 1
