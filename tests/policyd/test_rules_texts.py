"""Texts in several languages: which one a transaction gets, in replies, holds and notices."""

from __future__ import annotations

from pathlib import Path

from mailreeve_policyd.errors import ConfigError, StoreError
from mailreeve_policyd.limits_memory import MemoryStore
from mailreeve_policyd.policy import Policy
from mailreeve_policyd.rules import parse_ruleset
from mailreeve_policyd.rules.outside import Outside
from mailreeve_policyd.smtp import Stage
from tests.policyd.rules_text import MIDNIGHT, SPLIT, at_rcpt, block, decide, moment

LANGUAGES = {"languages.csv": "bob,de\nann,pt-BR\neve,fr\n"}
HEAD = (
    'table languages = file "languages.csv"\n'
    'reply-language = languages[sasl_username] or "en"\n'
    'text "no" { en "5.7.2 No, {sasl_username}" de "5.7.2 Nein, {sasl_username}" pt "5.7.2 Nao" }\n'
)


def reply(login: str | None, rules: str = at_rcpt('a: reject text "no"'), stage: Stage = Stage.RCPT) -> str:
    """The reply that a login gets."""
    return str(decide(HEAD + rules, moment(stage, login=login), files=LANGUAGES).reply)


def test_a_reply_is_in_the_language_that_the_table_says() -> None:
    """Without case; `pt` serves `pt-BR`; what no text has gets the default."""
    assert reply("Bob") == "550 5.7.2 Nein, Bob"
    assert reply("ann") == "550 5.7.2 Nao"
    assert reply("eve") == "550 5.7.2 No, eve"
    assert reply("dan") == "550 5.7.2 No, dan"
    assert reply(None) == "550 5.7.2 No, (none)"


def test_where_the_fact_is_not_known_yet_all_have_the_default() -> None:
    """A login is known from mail on; citing a text at connect is no mistake."""
    rules = 'text "early" { en "5.7.2 No" de "5.7.2 Nein" }\n' + block(
        Stage.CONNECT, 'a: reject text "early"'
    )

    assert reply("bob", rules, Stage.CONNECT) == "554 5.7.2 No"


def test_a_file_may_have_one_language_for_all() -> None:
    """Without a table."""
    text = 'reply-language = "de"\ntext "no" { en "No" de "Nein" }\n' + at_rcpt('a: hold text "no"')

    assert decide(text, moment()).reason == "Nein"


def test_the_text_of_a_limit_tells_the_wait_in_each_language() -> None:
    """The same names stand in all of them."""
    rules = at_rcpt('a: limit 0 recipients/day per sasl_username else defer text "full"')
    head = 'text "full" { en "Full, {used} of {maximum}" de "Voll, {used} von {maximum} in {period}" }\n'
    transaction = moment(login="bob", recipient="ann@example.org")
    verdict = decide(HEAD + head + rules, transaction, files=LANGUAGES)

    assert str(verdict.reply) == "550 5.7.1 Larger than the limit a allows"
    rules = at_rcpt('a: limit 1 recipient/day per sasl_username else reject text "full"')
    ruleset = parse_ruleset(HEAD + head + rules, "rules", SPLIT, read_file=_languages)
    policy = Policy(ruleset, MemoryStore(lambda: MIDNIGHT), SPLIT[Stage.RCPT])
    policy.decide(moment(instance="1", login="bob", recipient="ann@example.org"))
    verdict = policy.decide(moment(instance="2", login="bob", recipient="ann@example.org"))
    assert str(verdict.reply) == "550 5.7.1 Voll, 1 von 1 in 1 day"


def _languages(path: Path, shown: str, limit: int) -> str:
    if path.name not in LANGUAGES:
        raise ConfigError(shown, "", "cannot be read")
    return LANGUAGES[path.name][:limit]


class Away:
    """Live names that nobody can ask."""

    def has(self, name: str, members: object) -> bool:
        raise StoreError("away")

    def value(self, name: str, key: str) -> str | None:
        raise StoreError("away")

    def close(self) -> None:
        """Nothing to give back."""


def test_an_outage_of_the_table_gives_the_default() -> None:
    """A language is not worth a deferral."""
    text = HEAD.replace('file "languages.csv"', 'redis "languages"') + at_rcpt('a: reject text "no"')
    ruleset = parse_ruleset(text, "rules", SPLIT, outside=Outside(live=Away()))
    verdict = Policy(ruleset, MemoryStore(lambda: MIDNIGHT), SPLIT[Stage.RCPT]).decide(moment(login="bob"))

    assert str(verdict.reply) == "550 5.7.2 No, bob"
