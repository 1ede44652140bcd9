"""How many: the limit of a transaction, as the rule says it or as a table has it for a key."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from mailreeve_policyd.errors import StoreError
from mailreeve_policyd.facts import Fact, FactValue
from mailreeve_policyd.limits import Limit, Unit
from mailreeve_policyd.rules.lookups import key_reader
from mailreeve_policyd.rules.nodes import FromTable, Key, Spec
from mailreeve_policyd.rules.quota import limit_of, parse_spec
from mailreeve_policyd.rules.readers import Reader, countable, reader
from mailreeve_policyd.rules.scope import Scope
from mailreeve_policyd.rules.source import Mistake, Place, quote
from mailreeve_policyd.rules.tables import Finder, LiveTable
from mailreeve_policyd.smtp import Stage
from mailreeve_policyd.transaction import Transaction

_FIRST_STAGE = {
    Unit.MESSAGES: (Stage.MAIL, "messages are counted from mail on"),
    Unit.RECIPIENTS: (Stage.RCPT, "recipients are counted from rcpt on"),
    Unit.BYTES: (Stage.END_OF_MESSAGE, "before end-of-message `size` is only the client's claim"),
    Unit.DISTINCT: (Stage.CONNECT, ""),
}


@dataclass(frozen=True, slots=True)
class Allowance:
    """A limit, and for `distinct` how the value is read that is counted; `distinct` is that fact's name.

    A table may count another fact for each key, so the name is part of what such a limit counts by.
    """

    limit: Limit
    member: Reader | None = None
    distinct: str | None = None


@dataclass(frozen=True, slots=True)
class Allowances:
    """The allowance of each transaction, and the facts that are asked to find it.

    `find` gives None where there is none: the limit does not apply. It raises StoreError where a live
    table cannot say and the rule has no default.
    """

    find: Callable[[Transaction], Allowance | None]
    asks: tuple[Fact, ...]
    counted: Fact | None = None
    """The fact whose values a `distinct` of the rule itself counts."""
    fixed: Allowance | None = None
    """What the rule itself allows: always, or where its table has nothing."""
    of_row: Callable[[str], Allowance | None] | None = None
    """What the table has for a key. Raises StoreError, as `find`."""


def compile_quota(quota: Spec | FromTable, scope: Scope) -> Allowances:
    """What a limit allows.

    Raises:
        Mistake: a unit or fact is not known at this stage, or a bound is passed.
        ConfigError: a row of the table is no limit, or none at this stage.
    """
    if isinstance(quota, Spec):
        allowance = _allowance(quota, scope)
        counted = countable(quota.distinct, scope) if quota.distinct else None
        return Allowances(lambda _: allowance, (), counted, allowance)
    table = scope.table(quota.table)
    fact = countable(Key(quota.key), scope)
    default = _allowance(quota.default, scope) if quota.default is not None else None
    finder = table.finder(fact.type, lambda text: _of_row(text, scope))
    look_up = _looking_up(key_reader(fact), finder, default)
    counted = countable(quota.default.distinct, scope) if quota.default and quota.default.distinct else None
    asks = (_row_fact(quota, scope, finder, fact),) if isinstance(table, LiveTable) else ()
    return Allowances(look_up, (fact, *asks), counted, default, finder.find)


def _row_fact(quota: FromTable, scope: Scope, finder: Finder[Allowance], key: Fact) -> Fact:
    """What stands in the table, as a text; cannot be known where it is no limit."""
    fact, read_key = scope.table_fact(quota.table, quota.key), key_reader(key)

    def read(transaction: Transaction) -> FactValue | None:
        value = read_key(transaction)
        return None if value is None or finder.find(value) is None else fact.read(transaction)

    return replace(fact, read=read)


def _looking_up(
    key: Reader, finder: Finder[Allowance], default: Allowance | None
) -> Callable[[Transaction], Allowance | None]:
    def look_up(transaction: Transaction) -> Allowance | None:
        value = key(transaction)
        if value is None:
            return default
        try:
            return finder.find(value) or default
        except StoreError:
            if default is None:
                raise
            return default  # a limit that is known: an outage must not let anybody send without end

    return look_up


def _allowance(spec: Spec, scope: Scope) -> Allowance:
    limit = limit_of(spec)
    first, reason = _FIRST_STAGE[limit.unit]
    if scope.stage < first:
        at = spec.unit.at if spec.unit else spec.maximum.at
        raise Mistake(at, f"{limit.unit.value} cannot be limited at {scope.stage.value}", reason)
    if spec.distinct is None:
        return Allowance(limit)
    return Allowance(limit, reader(spec.distinct, scope))


def _of_row(text: str, scope: Scope) -> Allowance:
    """Raises Mistake; its place means nothing, whoever reads tables knows the row."""
    spec = parse_spec(text, Place(1, 1))
    allowance = _allowance(spec, scope)
    if spec.distinct is None:
        return allowance
    fact = scope.fact(spec.distinct.subject)
    if fact.needs is not None:  # what is gathered is settled when the rules are read, not by a row
        raise Mistake(spec.distinct.subject.at, f"{quote(fact.name)} cannot be counted by a table")
    return Allowance(allowance.limit, allowance.member, fact.name)
