"""The numbers of all processes as Prometheus reads them: its text format, version 0.0.4.

Knows families and pages. Must not know HTTP. (prometheus-client's parser reads it back in the tests; its own
writer would take ten megabytes in each process that is forked.)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate

from mailreeve_policyd.metrics_catalogue import FAMILIES, SECONDS, Across, Family, Kind
from mailreeve_policyd.metrics_ledger import Page, Series

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Numbers = Mapping[Series, Sequence[float]]


def add_up(pages: Iterable[Page]) -> dict[Series, tuple[float, ...]]:
    """What all pages come to: what ended processes counted, too, but not how things stood with them."""
    total: dict[Series, tuple[float, ...]] = {}
    for page in pages:
        for series, numbers in page.series.items():
            family = FAMILIES[series[0]]
            if family.kind is Kind.GAUGE and not page.is_taken:
                continue
            before = total.get(series)
            total[series] = numbers if before is None else _together(family, before, numbers)
    return total


def _together(family: Family, one: Sequence[float], other: Sequence[float]) -> tuple[float, ...]:
    join = max if family.across is Across.MAX else _plus
    return tuple(map(join, one, other))


def _plus(one: float, other: float) -> float:
    return one + other


def format_metrics(total: Numbers) -> bytes:
    """The exposition. Families that nobody counted in yet are told by name, without a number."""
    by_family: dict[str, list[Series]] = {}
    for series in sorted(total):
        by_family.setdefault(series[0], []).append(series)
    lines: list[str] = []
    for family in FAMILIES.values():
        if family.is_exposed:
            lines.append(f"# HELP {family.name} {_escape(family.text)}")
            lines.append(f"# TYPE {family.name} {family.kind.value}")
            for series in by_family.get(family.name, ()):
                lines.extend(_samples(family, series[1:], total[series]))
    return "\n".join([*lines, ""]).encode()


def _samples(family: Family, values: Sequence[str], numbers: Sequence[float]) -> Iterator[str]:
    labels = [f'{name}="{_escape_value(value)}"' for name, value in zip(family.labels, values, strict=True)]
    if family.kind is not Kind.HISTOGRAM:
        yield _sample(family.name, labels, numbers[0])
        return
    *buckets, total = numbers
    counts = list(accumulate(buckets))
    for bound, count in zip((*map(_number, SECONDS), "+Inf"), counts, strict=True):
        yield _sample(f"{family.name}_bucket", [*labels, f'le="{bound}"'], count)
    yield _sample(f"{family.name}_sum", labels, total)
    yield _sample(f"{family.name}_count", labels, counts[-1])


def _sample(name: str, labels: Sequence[str], number: float) -> str:
    return f"{name}{{{','.join(labels)}}} {_number(number)}" if labels else f"{name} {_number(number)}"


def _number(number: float) -> str:
    return str(int(number)) if number.is_integer() else repr(number)


def _escape(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n")


def _escape_value(text: str) -> str:
    return _escape(text).replace('"', r"\"")
