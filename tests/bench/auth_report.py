"""What `bench auth` found: a table for each case, and how it stands beside what we set out to reach."""

import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median

from rich.console import Console
from rich.table import Table

from tests.bench import auth_mail
from tests.bench.auth_servers import CHAIN, Duty

NO_FILTER = "no filter"
CHAIN_NAME = "the chain"
WIDTH = 110  # of what is printed, also where there is no terminal
OURS = "mailreeve"
LARGE_MEMORY = 1_000_000  # octets that a message may take, however large it is


@dataclass(frozen=True, slots=True)
class Case:
    """One row of work: what is asked of a filter, with messages of which size, how many at once."""

    duty: Duty
    size: int
    connections: int
    through_postfix: bool = False

    @property
    def name(self) -> str:
        """Such as "verify 4 KB, 20 at once"."""
        size = "4 KB" if self.size == auth_mail.SMALL else "10 MB"
        where = " through Postfix" if self.through_postfix else ""
        return f"{self.duty} {size}{where}, {self.connections} at once"


@dataclass(frozen=True, slots=True)
class Sample:
    """One load of one filter, or the median of several.

    Seconds of CPU for a message. Memory in octets, summed over processes: at its peak, and by how much that
    is more than after the first small messages. Messages that failed or were not marked. None: not measured.
    """

    per_second: float
    cpu_seconds: float
    p50_ms: float | None = None
    p99_ms: float | None = None
    peak: float | None = None
    grown: float | None = None
    failed: float = 0
    least_cpu_seconds: float | None = None  # of several loads: what other work on the machine adds least to


Results = Mapping[Case, Mapping[str, Sample]]


@dataclass(frozen=True, slots=True)
class Goal:
    """A ratio of ours to another's: at most so much of its CPU, or at least so much of its rate."""

    case: Case
    other: str
    bound: float
    of_rate: bool = False


VERIFY, SIGN = Case("verify", auth_mail.SMALL, 20), Case("sign", auth_mail.SMALL, 20)
BEHIND_POSTFIX = replace(VERIFY, connections=16, through_postfix=True)
GOALS = (
    Goal(VERIFY, "rspamd", 0.6),
    Goal(VERIFY, "opendkim", 0.45),
    Goal(VERIFY, CHAIN_NAME, 0.12),
    Goal(SIGN, "rspamd", 0.65),
    Goal(SIGN, "opendkim", 0.3),
    Goal(SIGN, "dkimpy-milter", 0.07),
    *(
        Goal(Case(duty, auth_mail.LARGE, many), "opendkim", 0.9)
        for duty in ("verify", "sign")
        for many in (1, 20)
    ),
    Goal(BEHIND_POSTFIX, "rspamd", 1.3, of_rate=True),
    Goal(BEHIND_POSTFIX, CHAIN_NAME, 3.0, of_rate=True),
)


def summarize(samples: Mapping[tuple[Case, str], Sequence[Sample]]) -> Results:
    """Medians of all samples by case and filter; the chain's CPU and time are the sums of its filters'."""
    results: dict[Case, dict[str, Sample]] = {}
    for (case, name), some in samples.items():
        if some:
            results.setdefault(case, {})[name] = median_of(some)
    for case, rows in results.items():
        if not case.through_postfix and all(name in rows for name in CHAIN):
            rows[CHAIN_NAME] = _in_a_row([rows[name] for name in CHAIN])
    return results


def show(
    samples: Mapping[tuple[Case, str], Sequence[Sample]], absent: Mapping[str, str], workers: int
) -> None:
    """Print everything."""
    results = summarize(samples)
    console = Console(width=WIDTH, highlight=False)
    for case, rows in results.items():
        console.print(_table(case, rows))
    console.print(
        f"{CHAIN_NAME}: {' + '.join(CHAIN)}. "
        f"{workers} workers of rspamd and of {OURS}; the others are threads of one process."
    )
    console.print(f"{OURS}: Python {platform.python_version()} of {sys.base_prefix}")
    for name, reason in absent.items():
        console.print(f"absent: {name}: {reason}", markup=False)
    if lines := [*_goals(results), *_memory(results)]:
        console.print("\nGoals, the better engine counts:")
        console.print("\n".join(lines), markup=False)


def median_of(some: Sequence[Sample]) -> Sample:
    """The median of each figure; failures add up."""

    def middle(field: Callable[[Sample], float | None]) -> float | None:
        values = [value for one in some if (value := field(one)) is not None]
        return median(values) if values else None

    return Sample(
        per_second=median(one.per_second for one in some),
        cpu_seconds=median(one.cpu_seconds for one in some),
        p50_ms=middle(lambda one: one.p50_ms),
        p99_ms=middle(lambda one: one.p99_ms),
        peak=middle(lambda one: one.peak),
        grown=middle(lambda one: one.grown),
        failed=sum(one.failed for one in some),
        least_cpu_seconds=min(one.cpu_seconds for one in some),
    )


def _in_a_row(rows: Sequence[Sample]) -> Sample:
    """Filters that each see the same message in turn; how many a second only Postfix can tell."""
    return Sample(
        per_second=float("nan"),
        cpu_seconds=sum(one.cpu_seconds for one in rows),
        peak=sum(one.peak or 0 for one in rows),
        least_cpu_seconds=sum(one.least_cpu_seconds or 0 for one in rows),
        grown=sum(one.grown or 0 for one in rows),
    )


def _table(case: Case, rows: Mapping[str, Sample]) -> Table:
    table = Table(title=case.name, title_justify="left")
    table.add_column("filter")
    columns = ("a second", "CPU us each", "at least", "p50 ms", "p99 ms", "peak MB", "MB each", "failed")
    for title in columns:
        table.add_column(title, justify="right")
    for name, row in rows.items():
        grown = None if row.grown is None else row.grown / case.connections
        table.add_row(
            name,
            format_number(row.per_second, 1),
            format_number(row.cpu_seconds, 1e-6),
            format_number(row.least_cpu_seconds, 1e-6),
            format_number(row.p50_ms, 1, 1),
            format_number(row.p99_ms, 1, 1),
            format_number(row.peak, 1e6),
            format_number(None if grown is None else max(grown, 0), 1e6, 2),
            format_number(row.failed or None, 1),
        )
    return table


def format_number(value: float | None, unit: float, digits: int = 0) -> str:
    """So many of the unit; nothing where nothing was measured."""
    return "" if value is None or value != value else f"{value / unit:,.{digits}f}"  # noqa: PLR0124 - not a number


def _goals(results: Results) -> list[str]:
    lines = []
    for goal in GOALS:
        rows = results.get(goal.case, {})
        if goal.other in rows and (own := [row for name, row in rows.items() if name.startswith(OURS)]):
            lines.append(_goal(goal, own, rows[goal.other]))
    return lines


def _goal(goal: Goal, own: Sequence[Sample], other: Sample) -> str:
    if goal.of_rate:
        ratio = max(row.per_second for row in own) / other.per_second
        return _line(
            goal.case, f"rate / {goal.other}", ratio, f"at least {goal.bound:.2f}", ratio >= goal.bound
        )
    ratio = min(row.cpu_seconds for row in own) / other.cpu_seconds
    return _line(goal.case, f"CPU / {goal.other}", ratio, f"at most {goal.bound:.2f}", ratio <= goal.bound)


def _memory(results: Results) -> list[str]:
    lines = []
    for case, rows in results.items():
        grown = [row.grown for name, row in rows.items() if name.startswith(OURS) and row.grown is not None]
        if case.size == auth_mail.LARGE and case.connections > 1 and grown:
            each = min(grown) / case.connections
            lines.append(_line(case, "MB for each", each / 1e6, "at most 1", each <= LARGE_MEMORY))
    return lines


def _line(case: Case, what: str, value: float, bound: str, reached: bool) -> str:
    return f"  {'reached' if reached else 'MISSED ':8}{case.name:40} {what:22} {value:6.2f}  ({bound})"
