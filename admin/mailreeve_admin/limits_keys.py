"""From a key as a person writes it to the limits that count it: `bob`, `203.0.113.9`, `bob,203.0.113.9`.

Knows the rules; asks no store but a live table for what it allows.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address

from msgspec.structs import replace

from mailreeve_policyd.escape import escape
from mailreeve_policyd.facts import FACTS, FactType
from mailreeve_policyd.limits import Charge, Limit, OnUnavailable, Unit
from mailreeve_policyd.limits_admin import MAX_KEY
from mailreeve_policyd.rules import Ruleset
from mailreeve_policyd.rules.charging import Counter
from mailreeve_policyd.rules.quota import limit_of, parse_spec
from mailreeve_policyd.rules.readers import shown_part
from mailreeve_policyd.rules.ruleset import Rule
from mailreeve_policyd.rules.source import Mistake, Place, suggest
from mailreeve_policyd.rules.templates import spoken
from mailreeve_policyd.smtp import Stage


class WrongWordError(Exception):
    """What was typed means nothing here; the message says what would."""


@dataclass(frozen=True, slots=True)
class Account:
    """One limit's counter for a key."""

    rule: str
    stage: Stage
    observed: bool
    charge: Charge
    counts: str
    """What it counts, in what time: `recipients/day`."""

    @property
    def per(self) -> tuple[str, ...]:
        """The facts that it counts by."""
        return self.charge.per


def accounts_of(
    ruleset: Ruleset, key: str, per: tuple[str, ...] = (), rule: str | None = None
) -> list[Account]:
    """The counters of a key, in the order of the rules; by the facts `per`, of that `rule` alone.

    Raises:
        WrongWordError: no limit counts such a key.
        StoreError: a live table cannot say what it allows.
    """
    texts = _values(key)
    limits = _limits(ruleset, rule)
    if per and not any(names_of(each) == per for each in limits):
        raise WrongWordError(f"no limit counts per {escape(_listed(per))}: {_what_counts(limits)}")
    found = [
        Account(each.name, each.stage, each.observed, _asked(charge), what_counts(each, charge.limit))
        for each in limits
        if (not per or names_of(each) == per)
        and isinstance(each.body, Counter)
        and (charge := each.body.account(texts)) is not None
    ]
    found = found if per else _likely(found, texts)
    if not found:
        raise WrongWordError(f"no limit counts {escape(key)}: {_what_counts(limits)}")
    return found


def only_shape(accounts: Sequence[Account], key: str) -> tuple[str, ...]:
    """The facts that these accounts count by.

    Raises:
        WrongWordError: they count by different ones.
    """
    rules: dict[tuple[str, ...], list[str]] = {}
    for account in accounts:
        rules.setdefault(account.per, []).append(account.rule)
    if len(rules) == 1:
        return accounts[0].per
    listed = ", or ".join(f"{_listed(per)} ({', '.join(names)})" for per, names in rules.items())
    first = ",".join(accounts[0].per)
    raise WrongWordError(f"{escape(key)} may be {listed}: say for instance --per {first}")


def account_for(accounts: Sequence[Account], amount: str) -> tuple[Account, int]:
    """The one account that an amount such as `500/day` is for, and its maximum.

    Raises:
        WrongWordError: it is no amount, or there is none such account, or several.
    """
    maximum, unit, seconds = _parse_amount(amount)
    fitting = [
        each
        for each in accounts
        if unit in (None, each.charge.limit.unit)
        and seconds in (None, each.charge.limit.period.total_seconds())
    ]
    if len(fitting) == 1:
        return fitting[0], maximum
    known = ", ".join(f"{each.rule} ({each.charge.limit.maximum} {each.counts})" for each in accounts)
    if not fitting:
        raise WrongWordError(f"no limit with that key counts so: there is {known}")
    raise WrongWordError(f"several limits have that key: {known}; say which with --rule {fitting[0].rule}")


def shown_key(per: Sequence[str], values: Sequence[str]) -> str:
    """A key for a person, as it may be typed."""
    return ",".join(shown_part(name, value) for name, value in zip(per, values, strict=False))


def names_of(rule: Rule) -> tuple[str, ...]:
    """The facts that a limit counts by."""
    return tuple(fact.name for fact in rule.body.keys) if isinstance(rule.body, Counter) else ()


def what_counts(rule: Rule, limit: Limit) -> str:
    """`recipients/day`, `distinct client_address/15 minutes`."""
    unit = limit.unit.value
    counted = rule.body.teller.distinct if isinstance(rule.body, Counter) else None
    if limit.unit is Unit.DISTINCT and counted is not None:
        unit = f"distinct {counted.name}"
    return f"{unit}/{spoken(limit.period).removeprefix('1 ')}"


def _asked(charge: Charge) -> Charge:
    """As a person asks: nothing else answers while the store is away, and no one key stops another."""
    return replace(charge, refuses=False, on_unavailable=OnUnavailable.CLOSED)


def _values(key: str) -> list[str]:
    texts = [text.strip() for text in key.split(",")]
    if not all(texts) or any(len(text) > MAX_KEY for text in texts) or not key.isprintable():
        raise WrongWordError(f"{escape(key)!r} is no key: write bob, 203.0.113.9, or bob,203.0.113.9")
    return texts


def _limits(ruleset: Ruleset, rule: str | None) -> list[Rule]:
    limits = [each for each in ruleset.rules if each.counts]
    if not limits:
        raise WrongWordError(f"{ruleset.file} has no limits")
    if rule is None:
        return limits
    named = [each for each in limits if each.name == rule]
    if not named:
        hint = suggest(rule, [each.name for each in limits])
        names = ", ".join(each.name for each in limits)
        raise WrongWordError(f"there is no limit {escape(rule)!r}: {hint or f'the limits are {names}'}")
    return named


def _what_counts(limits: Sequence[Rule]) -> str:
    rules: dict[tuple[str, ...], list[str]] = {}
    for each in limits:
        rules.setdefault(names_of(each), []).append(each.name)
    return "limits count per " + "; ".join(
        f"{_listed(per)} ({', '.join(names)})" for per, names in rules.items()
    )


def _listed(per: Sequence[str]) -> str:
    return ", ".join(per)


def _likely(accounts: list[Account], texts: Sequence[str]) -> list[Account]:
    """Where a text is an address it is not taken for a login, and a word without a dot for no domain."""
    possible = [each for each in accounts if not _is_bare_domain(each, texts)]
    most = max((_addresses(each, texts) for each in possible), default=0)
    return [each for each in possible if _addresses(each, texts) == most]


def _is_bare_domain(account: Account, texts: Sequence[str]) -> bool:
    return any(
        name in FACTS and FACTS[name].type is FactType.DOMAIN and "." not in text
        for name, text in zip(account.per, texts, strict=True)
    )


def _addresses(account: Account, texts: Sequence[str]) -> int:
    return sum(
        _is_address(text)
        and name in FACTS
        and (FACTS[name].type is FactType.NETWORK_ADDRESS or name == "client_network")
        for name, text in zip(account.per, texts, strict=True)
    )


def _is_address(text: str) -> bool:
    try:
        ip_address(text.partition("/")[0])
    except ValueError:
        return False
    return True


_BARE = re.compile(r"([0-9]{1,15})(?:\s*/\s*(.+))?\Z")


def _parse_amount(text: str) -> tuple[int, Unit | None, float | None]:
    bare = _BARE.match(text.strip())
    try:
        if bare is None:
            limit = limit_of(parse_spec(text, Place(1, 1)))
            return limit.maximum, limit.unit, limit.period.total_seconds()
        if bare[2] is None:
            return int(bare[1]), None, None
        limit = limit_of(parse_spec(f"{bare[1]} messages/{bare[2]}", Place(1, 1)))
    except Mistake as mistake:
        hint = mistake.hint or "write 500/day, or 500 recipients/day"
        raise WrongWordError(f"{mistake.problem}: {hint}") from mistake
    return limit.maximum, None, limit.period.total_seconds()
