"""Limits: which counter a transaction is charged to, how much, and what marks it as counted.

DESIGN.md section 5. Knows no store: it makes `Charge`s.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

from msgspec.structs import replace as replace_fields

from mailreeve_policyd.facts import Door, Fact
from mailreeve_policyd.limits import Charge, Limit, LimitKeys, OnUnavailable, Unit, member_hash
from mailreeve_policyd.rules.actions import Decide, Note, compile_action, default_consequence
from mailreeve_policyd.rules.allowances import Allowance, Allowances, compile_quota
from mailreeve_policyd.rules.nodes import FromTable, LimitNode
from mailreeve_policyd.rules.readers import Reader, countable, reader, speller, table_key
from mailreeve_policyd.rules.scope import Scope
from mailreeve_policyd.rules.sets import normal_text
from mailreeve_policyd.rules.source import Mistake, one_of, quote, suggest
from mailreeve_policyd.rules.telling import LimitTeller
from mailreeve_policyd.rules.templates import Allowed
from mailreeve_policyd.rules.texts import compile_saying
from mailreeve_policyd.smtp import Stage
from mailreeve_policyd.transaction import Transaction
from mailreeve_policyd.verdict import Action

MAX_KEYS = 8
"""Facts that one limit counts by together."""


Account = Callable[[Sequence[str]], Charge | None]
"""One unit under the key that a person names, a text for each fact; None where it counts no such key.

The limit is what the rule or its table has for these texts alone. Raises StoreError where a live table
cannot say.
"""


@dataclass(frozen=True, slots=True)
class Counter:
    """A limit rule, compiled: `charge` gives its charge, or None where the limit does not apply.

    It raises StoreError where the limit stands in a live table that cannot say, without a default.
    """

    charge: Callable[[Transaction], Charge | None]
    consequence: Decide | Note
    facts: tuple[Fact, ...]
    keys: tuple[Fact, ...]
    teller: LimitTeller
    account: Account


def compile_limit(node: LimitNode, rule: str, scope: Scope, *, observed: bool = False) -> Counter:
    """A limit with its consequence; under `observe` it never refuses, and an outage does not matter to it.

    Raises:
        Mistake: a fact or unit is not known at this stage, or a bound is passed.
        ConfigError: a row of its table is wrong here.
    """
    keys = _keys(node, scope)
    allowances = compile_quota(node.quota, scope)
    teller = _teller(node, rule, scope, keys, allowances.counted)
    consequence = (
        compile_action(node.otherwise, rule, scope, teller)
        if node.otherwise
        else default_consequence(rule, scope)
    )
    refuses = consequence.action is Action.DEFER or consequence.action is Action.REJECT
    on_unavailable = _on_unavailable(node)
    blank = Charge(
        rule,
        b"",
        _NO_LIMIT,
        1,
        refuses=refuses and not observed,
        on_unavailable=OnUnavailable.OPEN if observed else on_unavailable,
        per=tuple(key.name for key in keys),
        observed=observed,
    )
    readers = tuple(reader(key, scope) for key in node.keys)
    charge = _charging(blank, scope, allowance_of=allowances.find, readers=readers)
    counted = (allowances.counted,) if allowances.counted else ()
    facts = (*keys, *counted, *allowances.asks, *consequence.facts, *teller.facts)
    return Counter(charge, consequence, facts, keys, teller, _accounting(blank, node, scope, allowances))


def _teller(
    node: LimitNode, rule: str, scope: Scope, keys: tuple[Fact, ...], counted: Fact | None
) -> LimitTeller:
    teller = LimitTeller(rule, scope.stage, keys, distinct=counted, language=scope.language)
    if node.warning is None:
        return teller
    percent, argument = node.warning.percent, node.warning.argument
    if not 1 <= percent.value <= 100:
        raise Mistake(percent.at, "a limit warns at 1% to 100% of its maximum", "write `warn at 80%`")
    text = compile_saying(argument, scope, Allowed.LIMIT_WARNING) if argument is not None else None
    return replace(teller, percent=percent.value, text=text)


def _on_unavailable(node: LimitNode) -> OnUnavailable | None:
    word = node.on_unavailable
    if word is None:
        return None
    try:
        return OnUnavailable(word.text)
    except ValueError:
        words = [each.value for each in OnUnavailable]
        hint = suggest(word.text, words) or f"write {one_of(words)}"
        raise Mistake(word.at, f"unknown {quote(word.text)} after `on-unavailable`", hint) from None


_NO_LIMIT = Limit(0, Unit.MESSAGES, timedelta(seconds=1))


def _charging(
    blank: Charge,
    scope: Scope,
    *,
    allowance_of: Callable[[Transaction], Allowance | None],
    readers: tuple[Reader, ...],
) -> Callable[[Transaction], Charge | None]:
    """`blank` is what is the same in all charges of the rule."""
    rule, refuses, on_unavailable = blank.rule, blank.refuses, blank.on_unavailable
    per, observed = blank.per, blank.observed
    amounts, key_of, stage = _AMOUNTS, LimitKeys(rule).key, scope.stage
    marks = {**_MARKS, **_MARKS_OF_COMMANDS} if _hears_commands(scope) else _MARKS

    def charge(transaction: Transaction) -> Charge | None:
        allowance = allowance_of(transaction)
        if allowance is None:
            return None
        limit = allowance.limit
        parts = []
        for read in readers:
            part = read(transaction)
            if not part:
                return None  # it never counts under an empty key
            parts.append(part)
        values = tuple(parts)
        if allowance.member is not None:
            value = allowance.member(transaction)
            if not value:
                return None
            key = key_of(limit, _with_distinct(values, allowance))
            member = member_hash(value)
            return Charge(rule, key, limit, 1, member, None, refuses, on_unavailable, per, values, observed)
        amount = amounts[limit.unit](transaction, stage)
        if amount is None:
            return None
        key, mark = key_of(limit, values), marks[limit.unit](transaction, stage)
        return Charge(rule, key, limit, amount, None, mark, refuses, on_unavailable, per, values, observed)

    return charge


def _with_distinct(values: tuple[str, ...], allowance: Allowance) -> tuple[str, ...]:
    return values if allowance.distinct is None else (*values, allowance.distinct)


def _accounting(blank: Charge, node: LimitNode, scope: Scope, allowances: Allowances) -> Account:
    spell = tuple(speller(key, scope) for key in node.keys)
    keys, row_at = LimitKeys(blank.rule), _row_key(node)

    def account(texts: Sequence[str]) -> Charge | None:
        if len(texts) != len(spell):
            return None
        found = [spell_one(text) for spell_one, text in zip(spell, texts, strict=True)]
        values = tuple(part for part in found if part)
        row = None
        if allowances.of_row is not None and row_at is not None:
            row = allowances.of_row(table_key(texts[row_at]))
        allowance = row or allowances.fixed
        if len(values) < len(texts) or allowance is None:
            return None
        key = keys.key(allowance.limit, _with_distinct(values, allowance))
        member = member_hash("") if allowance.member is not None else None
        return replace_fields(blank, key=key, limit=allowance.limit, member=member, values=values)

    return account


def _row_key(node: LimitNode) -> int | None:
    """Which of the facts that the rule counts by is the key of its table."""
    if not isinstance(node.quota, FromTable):
        return None
    asked = node.quota.key.name if node.quota.key.table is None else None
    names = [key.subject.name if key.subject.table is None else "" for key in node.keys]
    return names.index(asked) if asked in names else None


# How much, and what must be counted only once. The stage is the block's: a mail block that runs with the
# first recipient still counts a message.


def _one(transaction: Transaction, stage: Stage) -> int | None:
    del transaction, stage
    return 1


def _recipients(transaction: Transaction, stage: Stage) -> int | None:
    if stage is Stage.RCPT:
        return 1
    if transaction.recipient_count is not None:
        return max(1, transaction.recipient_count)
    return max(1, len(transaction.envelope.recipients) if transaction.envelope else 1)


def _bytes(transaction: Transaction, stage: Stage) -> int | None:
    del stage
    return transaction.size


def _message_mark(transaction: Transaction, stage: Stage) -> bytes | None:
    del stage
    return member_hash(transaction.instance) if transaction.instance else None


def _recipient_mark(transaction: Transaction, stage: Stage) -> bytes | None:
    if stage is not Stage.RCPT or not transaction.instance:
        return _message_mark(transaction, stage)
    if transaction.recipient is None:
        return None
    return member_hash(f"{transaction.instance}\0{normal_text(str(transaction.recipient))}")


_AMOUNTS: Mapping[Unit, Callable[[Transaction, Stage], int | None]] = {
    Unit.MESSAGES: _one,
    Unit.RECIPIENTS: _recipients,
    Unit.BYTES: _bytes,
}
_MARKS: Mapping[Unit, Callable[[Transaction, Stage], bytes | None]] = {
    Unit.MESSAGES: _message_mark,
    Unit.RECIPIENTS: _recipient_mark,
    Unit.BYTES: _message_mark,
}


def _hears_commands(scope: Scope) -> bool:
    """A milter is told of each RCPT once. Postfix's policy protocol asks about one again for each list."""
    return scope.door is Door.MILTER and scope.stage is Stage.RCPT


# One mailbox that is named again is one more recipient: the MTA may deliver a copy for each.
_MARKS_OF_COMMANDS: Mapping[Unit, Callable[[Transaction, Stage], bytes | None]] = {
    Unit.RECIPIENTS: lambda _transaction, _stage: None
}


def _keys(node: LimitNode, scope: Scope) -> tuple[Fact, ...]:
    if len(node.keys) > MAX_KEYS:
        raise Mistake(node.keys[MAX_KEYS].subject.at, f"a limit counts by at most {MAX_KEYS} facts together")
    return tuple(countable(key, scope) for key in node.keys)
