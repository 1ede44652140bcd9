"""How long the rules may work for one question: what takes longer is deferred, alone, and counts nothing."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import pytest

from mailreeve_policyd.audit_bound import Overrun
from mailreeve_policyd.judgement import OnUnknown
from mailreeve_policyd.limits_memory import MemoryStore
from mailreeve_policyd.policy import Policy
from mailreeve_policyd.rules import parse_ruleset
from mailreeve_policyd.rules.outside import Outside
from mailreeve_policyd.rules.regex import PatternBounds
from mailreeve_policyd.rules_time import RulesTime
from mailreeve_policyd.smtp import Stage
from mailreeve_policyd.transaction import IPAddress, Transaction
from mailreeve_policyd.verdict import Action
from tests.policyd.limit_stores import SECOND, HandClock
from tests.policyd.rules_text import SPLIT, at_rcpt, moment

SLOW = 'client_country is "DE" and (' + " or ".join(f"client_name matches /{n}/" for n in range(5)) + ")"
"""The country of a client takes long in these tests, and so many patterns have the clock looked at."""


@dataclass
class Bench:
    """Rules of which each that asks for the country works or waits for a while, by clocks in our hands."""

    rules: str
    working: float = 0.0
    waiting: float = 0.0
    clock: HandClock = field(default_factory=HandClock)
    spent: HandClock = field(default_factory=HandClock)
    overruns: list[Overrun] = field(default_factory=list)
    policy: Policy = field(init=False)

    def __post_init__(self) -> None:
        ruleset = parse_ruleset(self.rules, "rules", SPLIT, outside=Outside(country_of=self._country))
        self.store = MemoryStore(self.clock)
        bound = RulesTime(1.0, self.clock, self.spent)
        self.policy = Policy(
            ruleset, self.store, SPLIT[Stage.RCPT], rules_time=bound, overran=self.overruns.append
        )

    def _country(self, _client: IPAddress | None) -> str:
        self.spent.advance(int(self.working * SECOND))
        self.clock.advance(int((self.working + self.waiting) * SECOND))
        return "DE"


COUNTED = "day: limit 1 recipient/day per sasl_username"
THREE = at_rcpt(COUNTED, *(f"slow{number}: warn if {SLOW}" for number in range(3)))


def test_a_question_whose_rules_take_too_long_is_deferred() -> None:
    """With 4.3.0, what rules above said is void, and the record is told which rule was not read."""
    bench = Bench(THREE, working=0.6)

    verdict = bench.policy.decide(moment(login="bob", client="192.0.2.7", queue_id="4B1C2D"))

    assert (verdict.action, verdict.rule, verdict.unknown) == (Action.DEFER, None, ("rules",))
    assert verdict.reply is not None
    assert str(verdict.reply).startswith("451 4.3.0 ")
    assert not verdict.limits
    assert not verdict.warnings
    [overrun] = bench.overruns
    assert (overrun.bound, overrun.maximum, overrun.consequence) == (
        "deciding.max_rules_seconds", 1.0, "refused",
    )  # fmt: skip
    assert overrun.reason == "the rules took more than 1 seconds: slow2 and what follows was not read"
    assert (str(overrun.client), overrun.queue_id) == ("192.0.2.7", "4B1C2D")


def test_what_was_not_decided_in_time_is_counted_nowhere() -> None:
    """It comes again, and has its whole limit then."""
    bench = Bench(THREE, working=0.6)
    assert bench.policy.decide(moment(login="bob")).action is Action.DEFER

    bench.working = 0.1
    verdict = bench.policy.decide(moment(login="bob"))

    assert (verdict.action, verdict.limits[0].used) == (Action.CONTINUE, 1)


def test_waiting_is_no_work() -> None:
    """A Redis or DNS that is slow has its own bounds: the rules' `on-unknown` stays what decides there."""
    bench = Bench(THREE, waiting=50.0)

    assert bench.policy.decide(moment(login="bob")).action is Action.CONTINUE
    assert bench.overruns == []


def test_what_was_decided_in_time_stands() -> None:
    """The last rule may take longer: its work is done by then."""
    bench = Bench(at_rcpt(f"slow: reject if {SLOW.replace('and', 'and not')}"), working=5.0)

    assert bench.policy.decide(moment(login="bob")).rule == "slow"


def test_other_questions_of_the_batch_are_answered() -> None:
    """The one alone is deferred."""
    bench = Bench(
        at_rcpt(
            'quick: accept if sasl_username is "ann"', *(f"s{n}: warn if {SLOW}" for n in range(3)), COUNTED
        ),
        working=0.6,
    )
    questions = [(moment(login=login, instance=login), (Stage.RCPT,)) for login in ("ann", "bob", "ann")]

    verdicts = bench.policy.decide_each(questions)

    assert [verdict.action for verdict in verdicts if not isinstance(verdict, Exception)] == [
        Action.ACCEPT, Action.DEFER, Action.ACCEPT,
    ]  # fmt: skip
    assert len(bench.overruns) == 1


def test_blocks_that_run_together_share_one_time() -> None:
    """So that a message's first recipient is no way to have it several times."""
    block = "{{ {0}: warn if " + SLOW + " }}\n"
    rules = "".join(f"at {stage} " + block.format(stage) for stage in ("connect", "helo", "mail", "rcpt"))
    bench = Bench(rules, working=0.4)

    verdict = bench.policy.decide(moment(login="bob"), (Stage.CONNECT, Stage.HELO, Stage.MAIL, Stage.RCPT))

    assert verdict.action is Action.DEFER
    assert "rcpt and what follows" in bench.overruns[0].reason


@pytest.mark.parametrize(("count", "action"), [(120, Action.CONTINUE), (400, Action.DEFER)])
def test_plain_rules_are_read_in_lots(count: int, action: Action) -> None:
    """The clock is not asked for each, but is now and then."""
    rules = (f'r{number}: warn if client_country is not "DE"' for number in range(count))
    bench = Bench(at_rcpt(*rules), working=0.005)

    assert bench.policy.decide(moment(login="bob")).action is action


def test_who_asks_without_a_time_waits_for_the_end() -> None:
    """As the administrator's own commands do."""
    bench = Bench(THREE, working=5.0)
    rules = parse_ruleset(bench.rules, "rules", SPLIT, outside=Outside(country_of=bench._country))

    assert rules.judge(moment(login="bob"), [Stage.RCPT], OnUnknown.DEFER).unread is None


def test_a_short_decision_asks_no_clock() -> None:
    """Sixty comparisons, or some patterns: no stranger makes them take long."""

    def no_clock() -> float:
        raise AssertionError("asked")

    rules = [f"r{number}: warn if sasl_username" for number in range(16)]
    rules += [f"m{number}: warn if helo_name matches /mail{number}/" for number in range(3)]
    ruleset = parse_ruleset(at_rcpt(*rules), "rules", SPLIT)
    policy = Policy(
        ruleset,
        MemoryStore(HandClock()),
        SPLIT[Stage.RCPT],
        rules_time=RulesTime(1.0, no_clock, no_clock),
    )

    assert len(policy.decide(moment(login="bob", helo="mail1")).warnings) == 17


def worst_case() -> tuple[Policy, Transaction]:
    """Patterns as large as may be on the longest text: each takes some hundredths of a second or more."""
    rules = (
        f"r{number}: warn if helo_name matches /(a?){{300}}(a){{300}}b{number}/" for number in range(2000)
    )
    outside = Outside(patterns=PatternBounds())
    ruleset = parse_ruleset(at_rcpt(*rules), "rules", SPLIT, outside=outside)
    policy = Policy(ruleset, MemoryStore(HandClock()), SPLIT[Stage.RCPT], rules_time=RulesTime(0.1))
    return policy, moment(helo="a" * 8192)


def test_the_worst_rules_and_the_worst_text_end_in_time() -> None:
    """By the real clocks: without the bound this would take minutes."""
    policy, transaction = worst_case()

    began = time.thread_time()
    verdict = policy.decide(transaction)

    assert verdict.action is Action.DEFER
    assert time.thread_time() - began < 10.0
