"""Limits: which counter a transaction is charged to, how much, and what marks it as counted.

DESIGN.md section 5. Knows no store: it makes `Charge`s.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from mailreeve_policyd.facts import Door, Fact
from mailreeve_policyd.limits import Charge, LimitKeys, OnUnavailable, Unit, member_hash
from mailreeve_policyd.rules.actions import Decide, Note, compile_action, default_consequence
from mailreeve_policyd.rules.allowances import Allowance, compile_quota
from mailreeve_policyd.rules.nodes import LimitNode
from mailreeve_policyd.rules.readers import Reader, countable, reader
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
    charge = _charging(
        rule,
        scope,
        allowance_of=allowances.find,
        readers=tuple(reader(key, scope) for key in node.keys),
        refuses=refuses and not observed,
        on_unavailable=OnUnavailable.OPEN if observed else on_unavailable,
    )
    counted = (allowances.counted,) if allowances.counted else ()
    facts = (*keys, *counted, *allowances.asks, *consequence.facts, *teller.facts)
    return Counter(charge, consequence, facts, keys, teller)


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


def _charging(
    rule: str,
    scope: Scope,
    *,
    allowance_of: Callable[[Transaction], Allowance | None],
    readers: tuple[Reader, ...],
    refuses: bool,
    on_unavailable: OnUnavailable | None,
) -> Callable[[Transaction], Charge | None]:
    amounts, keys, stage = _AMOUNTS, LimitKeys(rule), scope.stage
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
        if allowance.member is not None:
            value = allowance.member(transaction)
            if not value:
                return None
            if allowance.distinct is not None:
                parts.append(allowance.distinct)
            member = member_hash(value)
            return Charge(rule, keys.key(limit, parts), limit, 1, member, None, refuses, on_unavailable)
        amount = amounts[limit.unit](transaction, stage)
        if amount is None:
            return None
        mark = marks[limit.unit](transaction, stage)
        return Charge(rule, keys.key(limit, parts), limit, amount, None, mark, refuses, on_unavailable)

    return charge


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
