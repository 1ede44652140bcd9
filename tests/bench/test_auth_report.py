"""How samples become figures."""

from tests.bench.auth_mail import SMALL
from tests.bench.auth_report import CHAIN_NAME, Case, Sample, summarize
from tests.bench.auth_servers import CHAIN

CASE = Case("verify", SMALL, 20)


def test_a_figure_is_the_median_of_its_rounds_and_failures_add_up() -> None:
    """One slow round among three moves nothing; a message that failed in any round is told."""
    rounds = [Sample(100, 0.001, 1.0), Sample(10, 0.009, 50.0, failed=2), Sample(102, 0.0011, 1.1, failed=1)]
    row = summarize({(CASE, "ours"): rounds})[CASE]["ours"]

    assert (row.per_second, row.cpu_seconds, row.p50_ms, row.failed) == (100, 0.0011, 1.1, 3)


def test_what_was_not_measured_stays_unknown() -> None:
    """Through Postfix nobody sees when a filter answers."""
    assert summarize({(CASE, "ours"): [Sample(1, 1)]})[CASE]["ours"].p99_ms is None


def test_the_chain_costs_what_its_filters_cost_together() -> None:
    """Each of them sees the message; without one of them there is no chain."""
    samples = {(CASE, name): [Sample(100, 0.001, peak=5e6)] for name in CHAIN}

    assert round(summarize(samples)[CASE][CHAIN_NAME].cpu_seconds, 6) == 0.003
    del samples[CASE, CHAIN[0]]
    assert CHAIN_NAME not in summarize(samples)[CASE]
