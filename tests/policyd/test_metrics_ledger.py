from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from mailreeve_policyd import metrics_catalogue as catalogue
from mailreeve_policyd.metrics_ledger import NAMES_OCTETS, Ledger, Tally
from mailreeve_policyd.metrics_text import add_up


@pytest.fixture
def ledger() -> Iterator[Ledger]:
    made = Ledger()
    yield made
    made.close()


def count(tally: Tally, amount: float = 1.0) -> None:
    tally.numbers[tally.place(catalogue.ERRORS, "policyd")] += amount


def errors(ledger: Ledger) -> float:
    return add_up(ledger.read())[catalogue.ERRORS.name, "policyd"][0]


def test_the_numbers_of_all_processes_are_added_up(ledger: Ledger) -> None:
    """Each has a page of its own."""
    for amount in (1.0, 20.0, 300.0):
        count(ledger.open(ledger.take()), amount)

    assert errors(ledger) == 321.0


def test_a_process_counts_where_a_dead_one_stood(ledger: Ledger) -> None:
    """Nothing is lost with a process, and pages do not grow in number with those that come and go."""
    for _ in range(5):
        page = ledger.take()
        count(ledger.open(page))
        ledger.give_back(page)

    assert errors(ledger) == 5.0
    assert len(ledger.read()) == 1


def test_what_a_killed_child_counted_is_there(ledger: Ledger) -> None:
    """Its page is the parent's as well: it ends without a word."""
    page = ledger.take()
    child = os.fork()
    if child == 0:
        count(ledger.open(page), 7.0)
        os.kill(os.getpid(), 9)
    os.waitpid(child, 0)

    assert errors(ledger) == 7.0


def test_how_things_stood_with_a_dead_process_is_not_told(ledger: Ledger) -> None:
    """A gauge is of those that are there: that of the next one begins anew."""
    gone, there = ledger.take(), ledger.take()
    for page, amount in ((gone, 5.0), (there, 2.0)):
        tally = ledger.open(page)
        tally.numbers[tally.place(catalogue.DNS_REMEMBERED, "milter")] = amount
    ledger.give_back(gone)
    series = (catalogue.DNS_REMEMBERED.name, "milter")

    assert add_up(ledger.read())[series] == (2.0,)
    ledger.open(ledger.take())
    assert add_up(ledger.read())[series] == (2.0,)


def test_the_worst_counts_where_a_sum_would_say_nothing(ledger: Ledger) -> None:
    """Whether any worker finds the store away."""
    for amount in (1.0, 1.0, 0.0):
        tally = ledger.open(ledger.take())
        tally.numbers[tally.place(catalogue.STORE_AWAY, "milter")] = amount

    assert add_up(ledger.read())[catalogue.STORE_AWAY.name, "milter"] == (1.0,)


def test_a_series_has_its_place_for_good(ledger: Ledger) -> None:
    """Asked again, by another process of the page as well, it is the same; others lie elsewhere."""
    page = ledger.take()
    tally = ledger.open(page)
    places = [tally.place(catalogue.DURATION, "policyd", stage) for stage in ("mail", "rcpt")]
    again = ledger.open(page)

    assert places[1] - places[0] == catalogue.DURATION.width
    assert [again.place(catalogue.DURATION, "policyd", stage) for stage in ("mail", "rcpt")] == places


def test_without_room_for_a_series_the_others_go_on(ledger: Ledger) -> None:
    """It is counted how often; what has no place disturbs no other number."""
    page = ledger.take()
    tally = ledger.open(page)
    count(tally)
    for number in range(NAMES_OCTETS // 100 + 10):
        place = tally.place(catalogue.OBSERVED, "policyd", f"{number:x<60}", "reject")
        tally.numbers[place] += 1.0
    total = add_up(ledger.read())

    assert total[(catalogue.SERIES_REFUSED.name,)][0] > 0
    assert errors(ledger) == 1.0
    assert {numbers for (name, *_), numbers in total.items() if name == catalogue.OBSERVED.name} == {(1.0,)}
    assert ledger.open(page).place(catalogue.ERRORS, "policyd") == tally.place(catalogue.ERRORS, "policyd")


def test_half_a_name_is_no_name(ledger: Ledger) -> None:
    """A process that was killed while it wrote one: its end counts only when it stands there whole."""
    page = ledger.take()
    tally = ledger.open(page)
    count(tally)
    end = int(tally._header[1])
    tally._memory[4096 + end : 4096 + end + 12] = b'["mailreeve_'
    next_one = ledger.open(page)
    next_one.numbers[next_one.place(catalogue.FORGED)] += 3.0

    assert errors(ledger) == 1.0
    assert add_up(ledger.read())[(catalogue.FORGED.name,)] == (3.0,)
