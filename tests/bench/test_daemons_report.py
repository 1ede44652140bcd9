"""What `bench daemons` calls reached."""

from tests.bench.auth_report import Sample
from tests.bench.daemons_report import CHAIN_AND_POLICY, RSPAMD, Goal, Results, Size, Start, goals
from tests.bench.usage import Footprint

SMALL, LARGE = Footprint(40_000_000, 20_000_000, 10_000_000), Footprint(61_000_000, 50_000_000, 45_000_000)


def reached(results: Results) -> dict[str, bool]:
    return {goal.what: goal.is_reached for goal in goals(results)}


def test_the_worst_figure_of_a_daemon_counts() -> None:
    """A worker that grew under load, and the number of workers that starts slowly, are what is judged."""
    results = Results(
        sizes={
            ("policyd", 1): Size(SMALL, 9_000, [Start(0.4, 0.3)], LARGE, [0.2]),
            ("policyd", 2): Size(
                SMALL, 400, [Start(0.5, 0.3), Start(1.2, 0.3), Start(1.3, 0.3)], SMALL, [0.2]
            ),
        }
    )

    assert reached(results) == {
        "policyd: seconds to serving": False,
        "policyd: MB a worker (RSS)": False,
        "policyd: KB an idle session": True,
    }


def test_a_start_is_the_median_of_its_rounds() -> None:
    """One slow round among three is the machine's."""
    results = Results(
        sizes={("policyd", 1): Size(SMALL, 0, [Start(0.4, 0.3), Start(5.0, 0.3), Start(0.5, 0.3)])}
    )

    assert reached(results)["policyd: seconds to serving"]


def test_through_postfix_the_better_engine_is_compared() -> None:
    """At least 1.3 of rspamd's rate and three times the chain's; the filter without policyd is not judged."""
    ours = {"mailreeve native": 900, "mailreeve native + policyd": 650, "mailreeve libmilter + policyd": 300}
    rates = {**ours, RSPAMD: 500, CHAIN_AND_POLICY: 220}
    results = Results(postfix={name: [Sample(rate, 0.001)] for name, rate in rates.items()})

    assert list(reached(results).values()) == [True, False]


def test_what_was_not_measured_is_no_goal() -> None:
    """A run without peers says nothing about them."""
    assert reached(Results(postfix={"mailreeve native + policyd": [Sample(100, 1)]})) == {}


def test_a_goal_says_what_was_wanted() -> None:
    """The line is understood without this file."""
    line = str(Goal("policyd: seconds to serving", 1.25, 1.0))

    assert line.split() == ["MISSED", "policyd:", "seconds", "to", "serving", "1.25", "(at", "most", "1)"]
