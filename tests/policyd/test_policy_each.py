"""Several transactions decided with one call of the limit store."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from mailreeve_policyd.errors import StoreError
from mailreeve_policyd.limits import Charge, Charged, Usage
from mailreeve_policyd.smtp import Stage
from mailreeve_policyd.transaction import Transaction
from mailreeve_policyd.verdict import LIMITS_UNKNOWN, Action, Verdict
from tests.policyd.rules_text import at_rcpt, moment, policy_of

RULES = at_rcpt(
    'friends: accept if sender_domain is "friends.example.org"',
    "burst: limit 2 recipients/minute per sasl_username",
    'all: limit 4 recipients/hour per client_address else hold "many"',
    'enemies: reject if sender_domain is "enemies.example.org"',
)
DOMAINS = ("friends.example.org", "enemies.example.org", "example.net")

Questions = list[tuple[Transaction, tuple[Stage, ...]]]


def asking(logins: str, domain: str = "example.net") -> Questions:
    """A message of each login."""
    return [one(login, domain, number) for number, login in enumerate(logins)]


def one(login: str, domain: str, number: int) -> tuple[Transaction, tuple[Stage, ...]]:
    """One message."""
    message = moment(login=login, sender=f"a@{domain}", instance=f"{number}.{login}")
    return message, (Stage.RCPT,)


class Shared:
    """A LimitStore that tells how many calls came together, and is away for those that name a login."""

    def __init__(self, away_for: int = -1) -> None:
        self.together: list[int] = []
        self._away_for = away_for

    def charge(self, charges: Sequence[Charge]) -> tuple[Usage, ...]:
        raise StoreError("away")

    def charge_each(self, calls: Sequence[Sequence[Charge]]) -> list[Charged]:
        self.together.append(len(calls))
        return [
            StoreError("away")
            if place == self._away_for
            else tuple(Usage(1, each.limit.maximum, exceeded=False) for each in charges)
            for place, charges in enumerate(calls)
        ]

    def usage(self, charges: Sequence[Charge]) -> tuple[Usage, ...]:
        raise StoreError("away")

    def close(self) -> None:
        """Nothing is open."""


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(DOMAINS)), max_size=12))
def test_together_they_are_decided_as_one_after_the_other(pairs: list[tuple[str, str]]) -> None:
    """Whoever is refused, held or accepted on the way: the same verdicts, and the same is counted."""
    questions = [one(login, domain, number) for number, (login, domain) in enumerate(pairs)]
    apart, together = policy_of(RULES), policy_of(RULES)

    expected = [apart.decide(*question) for question in questions]

    assert together.decide_each(questions) == expected


def test_the_store_is_asked_once_for_all() -> None:
    """That is what it is for."""
    store = Shared()
    verdicts = policy_of(RULES, store=store).decide_each(asking("abc"))

    assert store.together == [3]
    assert [each.action for each in verdicts if isinstance(each, Verdict)] == [Action.CONTINUE] * 3


def test_what_the_store_cannot_say_of_one_defers_that_one() -> None:
    """The others are counted and go on."""
    first, second = policy_of(RULES, store=Shared(away_for=1)).decide_each(asking("ab"))

    assert isinstance(first, Verdict)
    assert isinstance(second, Verdict)
    assert (first.action, second.action) == (Action.CONTINUE, Action.DEFER)
    assert second.unknown == (LIMITS_UNKNOWN,)


def test_a_bug_with_one_is_its_own_answer() -> None:
    """It is raised for nobody else."""
    wrong = replace(moment(), session=None)
    fine, bug = policy_of(RULES).decide_each([*asking("a"), (wrong, (Stage.RCPT,))])

    assert isinstance(fine, Verdict)
    assert isinstance(bug, AttributeError)
