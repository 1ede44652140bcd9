"""What limits and notify rules tell people: when, once, and with what."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from mailreeve_policyd.limits_memory import MemoryStore
from mailreeve_policyd.notice import Notice, NoticeKind
from mailreeve_policyd.policy import Policy
from mailreeve_policyd.smtp import Stage
from mailreeve_policyd.verdict import Action
from tests.policyd.limit_stores import HandClock
from tests.policyd.rules_text import SPLIT, at_rcpt, moment, ruleset_of

HOUR = timedelta(hours=1)


def told(rules: str, times: int, clock: HandClock | None = None, **given: Any) -> list[tuple[Notice, ...]]:
    """The notices of so many messages, one after another."""
    clock = clock or HandClock()
    policy = Policy(ruleset_of(rules), MemoryStore(clock), SPLIT[Stage.RCPT], clock=clock)
    given = {"login": "bob@example.org", "recipient": "ann@example.net", **given}
    return [policy.decide(moment(instance=f"m{number}", **given)).notices for number in range(times)]


def kinds(notices: list[tuple[Notice, ...]]) -> list[list[str]]:
    return [[notice.kind.value for notice in each] for each in notices]


def test_a_limit_warns_when_its_share_is_reached_and_tells_once_that_it_is_exceeded() -> None:
    """80 % of 5 are 4: the fourth message warns, the sixth is the first that is refused."""
    rules = at_rcpt("day: limit 5 recipients/hour per sasl_username warn at 80%")

    assert kinds(told(rules, 8)) == [[], [], [], ["warning"], [], ["exceeded"], [], []]


def test_a_notice_says_whose_how_much_and_of_what() -> None:
    """What a template for mail or a webhook needs, its key facts escaped."""
    [notice] = told(at_rcpt("day: limit 2 recipients/hour per sasl_username warn at 50%"), 1)[0]

    assert notice.kind is NoticeKind.WARNING
    assert (notice.rule, notice.stage, notice.login) == ("day", Stage.RCPT, "bob@example.org")
    assert notice.counted_by == (("sasl_username", "bob@example.org"),)
    assert (notice.used, notice.maximum, notice.unit, notice.period) == (1, 2, "recipients", HOUR)
    assert notice.text == "day: 1 of 2 recipients in 1 hour"
    assert notice.window == HOUR


def test_a_warning_has_its_own_text() -> None:
    """With facts, used, maximum and period; any printable text, since it goes to people."""
    text = '"{sasl_username}: {used} von {maximum} für {period}"'
    [notice] = told(at_rcpt(f"day: limit 2 recipients/hour per sasl_username warn at 50% {text}"), 1)[0]

    assert notice.text == "bob@example.org: 1 von 2 für 1 hour"


def test_a_crossing_in_the_same_window_is_told_once() -> None:
    """Units leave a sliding window and come again: at most one warning a period."""
    clock = HandClock()
    rules = at_rcpt("day: limit 4 recipients/hour per sasl_username warn at 50%")
    policy = Policy(ruleset_of(rules), MemoryStore(clock), SPLIT[Stage.RCPT], clock=clock)

    def send(number: int) -> int:
        transaction = moment(instance=f"m{number}", login="bob", recipient="ann@example.net")
        return len(policy.decide(transaction).notices)

    told_at = {0: send(0)}
    clock.advance(timedelta(minutes=50))
    told_at[50] = send(1)
    clock.advance(timedelta(minutes=12))  # the first has left: the third crosses the mark again
    told_at[62] = send(2)
    clock.advance(timedelta(minutes=50))  # the second has left, and the window of the notice is over
    told_at[112] = send(3)

    assert told_at == {0: 0, 50: 1, 62: 0, 112: 1}


def test_mail_that_a_rule_refuses_reaches_nothing() -> None:
    """It is counted nowhere, so it warns of nothing."""
    rules = at_rcpt("day: limit 2 recipients/hour per sasl_username warn at 50%", "no: reject")

    assert kinds(told(rules, 3)) == [[], [], []]


def test_what_lets_mail_in_tells_as_it_decides() -> None:
    """A held message is told; a limit that only warns in the log is not."""
    held = at_rcpt("day: limit 1 recipient/hour per sasl_username else hold")
    noted = at_rcpt("day: limit 1 recipient/hour per sasl_username else warn")

    assert kinds(told(held, 3)) == [[], ["exceeded"], []]
    assert kinds(told(noted, 3)) == [[], [], []]


def test_else_notify_tells_with_its_text_and_lets_the_mail_in() -> None:
    """Once in the limit's period."""
    rules = at_rcpt('day: limit 1 recipient/hour per sasl_username else notify "{used} of {maximum} used"')
    notices = told(rules, 3)

    assert kinds(notices) == [[], ["exceeded"], []]
    assert notices[1][0].text == "1 of 1 used"


def test_notify_tells_the_same_text_once_an_hour() -> None:
    """What differs in its text is told by itself."""
    clock = HandClock()
    rules = at_rcpt('tell: notify "{sasl_username} writes to {recipient}"')
    policy = Policy(ruleset_of(rules), MemoryStore(clock), SPLIT[Stage.RCPT], clock=clock)

    def send(recipient: str) -> int:
        return len(policy.decide(moment(login="bob", recipient=recipient)).notices)

    assert [send("ann@example.net"), send("ann@example.net"), send("eve@example.net")] == [1, 0, 1]
    clock.advance(timedelta(minutes=62))
    assert send("ann@example.net") == 1


def test_a_notice_has_the_language_of_the_login() -> None:
    """For whoever makes a mail of it; and its text is in it."""
    rules = (
        'table languages = file "languages.csv"\nreply-language = languages[sasl_username] or "en"\n'
        'text "near" { en "nearly full" de "fast voll" }\n'
        + at_rcpt('day: limit 2 recipients/hour per sasl_username warn at 50% text "near"')
    )
    ruleset = ruleset_of(rules, files={"languages.csv": "bob,de-AT\n"})
    policy = Policy(ruleset, MemoryStore(HandClock()), SPLIT[Stage.RCPT])

    [german] = policy.decide(moment(instance="1", login="bob", recipient="a@example.net")).notices
    [english] = policy.decide(moment(instance="2", login="ann", recipient="a@example.net")).notices
    assert (german.text, german.language) == ("fast voll", "de-at")
    assert (english.text, english.language) == ("nearly full", "en")


def test_a_rule_under_observe_tells_nobody() -> None:
    """It never acts."""
    rules = at_rcpt(
        "observe day: limit 1 recipient/hour per sasl_username warn at 50%", 'observe tell: notify "look"'
    )

    assert kinds(told(rules, 3)) == [[], [], []]


def test_a_refusal_is_the_same_with_and_without_notices() -> None:
    """Telling changes no decision."""
    policy = Policy(
        ruleset_of(at_rcpt("day: limit 1 recipient/hour per sasl_username warn at 80%")),
        MemoryStore(HandClock()),
        SPLIT[Stage.RCPT],
    )
    verdicts = [
        policy.decide(moment(instance=f"m{n}", login="bob", recipient="a@example.net")) for n in (1, 2)
    ]

    assert [verdict.action for verdict in verdicts] == [Action.CONTINUE, Action.DEFER]
