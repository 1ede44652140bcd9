from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mailreeve_policyd.metrics_catalogue import FAMILIES, Across, Kind
from mailreeve_policyd.metrics_ledger import Page, Series
from mailreeve_policyd.metrics_text import add_up, format_metrics
from tests.policyd.metrics_read import Exposition

NUMBERS = st.one_of(st.integers(0, 2**53).map(float), st.floats(0, 1e12))


@st.composite
def pages(draw: st.DrawFn) -> list[Page]:
    """Numbers of any families under any labels."""
    found = []
    for _ in range(draw(st.integers(0, 3))):
        series: dict[Series, tuple[float, ...]] = {}
        for family in draw(st.lists(st.sampled_from(list(FAMILIES.values())), max_size=6)):
            labels = [draw(st.text(max_size=8)) for _ in family.labels]
            width = family.width
            series[family.name, *labels] = tuple(draw(st.lists(NUMBERS, min_size=width, max_size=width)))
        found.append(Page(draw(st.booleans()), series))
    return found


@given(pages())
def test_a_parser_that_is_not_ours_reads_the_same_numbers(some: list[Page]) -> None:
    """Whatever stands in a label: no text makes a line, a label or a sample of its own."""
    total = add_up(some)
    told = Exposition(format_metrics(total).decode())
    shown = {series: numbers for series, numbers in total.items() if FAMILIES[series[0]].is_exposed}

    expected = 0
    for (name, *values), numbers in shown.items():
        family = FAMILIES[name]
        labels = dict(zip(family.labels, values, strict=True))
        if family.kind is Kind.HISTOGRAM:
            expected += len(numbers) + 1
            assert told.value(f"{name}_sum", **labels) == numbers[-1]
        else:
            expected += 1
            assert told.value(name, **labels) == numbers[0]
    assert len(told.samples) == expected


def test_every_family_is_told_with_its_type_and_meaning() -> None:
    """Also before anything was counted: dashboards and alerts find the names."""
    told = Exposition(format_metrics({}).decode())

    assert told.names() >= {family.name for family in FAMILIES.values() if family.is_exposed}
    assert all(family.documentation for family in told.families)
    assert not any(one.name.startswith("looked") for one in told.families)


def test_names_follow_the_custom() -> None:
    """Of Prometheus: one prefix, `_total` for counters alone, base units, no label twice."""
    for family in FAMILIES.values():
        assert not family.is_exposed or family.name.startswith("mailreeve_")
        assert family.name.endswith("_total") == (family.kind is Kind.COUNTER)
        assert len(set(family.labels)) == len(family.labels)
        assert family.kind is Kind.GAUGE or family.across is Across.SUM
        assert family.text.endswith(".")
