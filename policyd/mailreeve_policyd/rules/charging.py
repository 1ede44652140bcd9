"""Limits: which counter a transaction is charged to, how much, and what marks it as counted.

DESIGN.md section 5. Knows no store: it makes `Charge`s.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import IPv6Address

from mailreeve_policyd.facts import CANNOT_KNOW, Door, Fact, FactType
from mailreeve_policyd.judgement import Consequence
from mailreeve_policyd.limits import Charge, Limit, LimitKeys, Unit, member_hash
from mailreeve_policyd.rules.actions import compile_action, default_consequence
from mailreeve_policyd.rules.nodes import FromTable, Key, LimitNode, Spec
from mailreeve_policyd.rules.quota import limit_of
from mailreeve_policyd.rules.scope import Scope
from mailreeve_policyd.rules.sets import normal_mailbox, normal_text
from mailreeve_policyd.rules.source import Mistake, quote
from mailreeve_policyd.rules.tables import Row, Table
from mailreeve_policyd.smtp import Stage
from mailreeve_policyd.transaction import Transaction, parse_address
from mailreeve_policyd.verdict import Action

IPV6_PREFIX = 64
"""One customer's network (RFC 6177): counting single addresses would count nobody twice."""

MIN_IPV6_PREFIX = 32
"""A provider's allocation. Shorter ones are nobody's, and `/24` would be meant for IPv4."""

MAX_KEYS = 8
"""Facts that one limit counts by together."""

Reader = Callable[[Transaction], str | None]

_FIRST_STAGE = {
    Unit.MESSAGES: (Stage.MAIL, "messages are counted from mail on"),
    Unit.RECIPIENTS: (Stage.RCPT, "recipients are counted from rcpt on"),
    Unit.BYTES: (Stage.END_OF_MESSAGE, "before end-of-message `size` is only the client's claim"),
    Unit.DISTINCT: (Stage.CONNECT, ""),
}


@dataclass(frozen=True, slots=True)
class Counter:
    """A limit rule, compiled: `charge` gives its charge, or None where the limit does not apply."""

    charge: Callable[[Transaction], Charge | None]
    consequence: Consequence
    facts: tuple[Fact, ...]
    keys: tuple[Fact, ...]


def compile_limit(node: LimitNode, rule: str, scope: Scope) -> Counter:
    """A limit with its consequence.

    Raises:
        Mistake: a fact or unit is not known at this stage, or a bound is passed.
        ConfigError: a row of its table is wrong here.
    """
    consequence = (
        compile_action(node.otherwise, rule, scope, of_limit=True)
        if node.otherwise
        else default_consequence(rule, scope)
    )
    keys = _keys(node, scope)
    readers = tuple(_reader(key, fact) for key, fact in zip(node.keys, keys, strict=True))
    limit_for, asked = _limits(node.quota, scope)
    member_key = node.quota.distinct if isinstance(node.quota, Spec) else None
    member = _reader(member_key, _countable(member_key, scope)) if member_key else None
    refuses = consequence.action is Action.DEFER or consequence.action is Action.REJECT
    charge = _charging(rule, scope, limit_for=limit_for, readers=readers, member=member, refuses=refuses)
    counted = (_countable(member_key, scope),) if member_key else ()
    return Counter(charge, consequence, (*keys, *counted, *asked, *consequence.facts), keys)


def _charging(
    rule: str,
    scope: Scope,
    *,
    limit_for: Callable[[Transaction], Limit | None],
    readers: tuple[Reader, ...],
    member: Reader | None,
    refuses: bool,
) -> Callable[[Transaction], Charge | None]:
    amounts, keys, stage = _AMOUNTS, LimitKeys(rule), scope.stage
    marks = {**_MARKS, **_MARKS_OF_COMMANDS} if _hears_commands(scope) else _MARKS

    def charge(transaction: Transaction) -> Charge | None:
        limit = limit_for(transaction)
        if limit is None:
            return None
        parts = []
        for read in readers:
            part = read(transaction)
            if not part:
                return None  # it never counts under an empty key
            parts.append(part)
        if member is not None:
            value = member(transaction)
            if not value:
                return None
            return Charge(rule, keys.key(limit, parts), limit, 1, member_hash(value), None, refuses)
        amount = amounts[limit.unit](transaction, stage)
        if amount is None:
            return None
        mark = marks[limit.unit](transaction, stage)
        return Charge(rule, keys.key(limit, parts), limit, amount, None, mark, refuses)

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


# What it counts by


def _keys(node: LimitNode, scope: Scope) -> tuple[Fact, ...]:
    if len(node.keys) > MAX_KEYS:
        raise Mistake(node.keys[MAX_KEYS].subject.at, f"a limit counts by at most {MAX_KEYS} facts together")
    return tuple(_countable(key, scope) for key in node.keys)


def _countable(key: Key, scope: Scope) -> Fact:
    fact = scope.fact(key.subject)
    if fact.type is FactType.LIST:
        raise Mistake(key.subject.at, f"{quote(fact.name)} is a list and cannot be counted by")
    if key.prefix is None:
        return fact
    if fact.type is not FactType.NETWORK_ADDRESS:
        raise Mistake(key.prefix.at, f"{quote(fact.name)} is no network address and has no prefix")
    if not MIN_IPV6_PREFIX <= key.prefix.value <= 128:
        problem = f"the prefix of an IPv6 address is from {MIN_IPV6_PREFIX} to 128 here"
        raise Mistake(key.prefix.at, problem, "IPv4 addresses are always counted whole")
    return fact


def _reader(key: Key, fact: Fact) -> Reader:
    read = fact.read
    if fact.type is FactType.NETWORK_ADDRESS:
        return _address_reader(fact, key.prefix.value if key.prefix else IPV6_PREFIX)

    def text(transaction: Transaction) -> str | None:
        value = read(transaction)
        return None if value is None or value == CANNOT_KNOW else normal_text(str(value))

    return text


def _address_reader(fact: Fact, prefix: int) -> Reader:
    read, shift = fact.read, 128 - prefix

    def address(transaction: Transaction) -> str | None:
        value = read(transaction)
        if isinstance(value, IPv6Address):
            return f"{int(value) >> shift:x}/{prefix}"
        return None if value is None else str(value)

    return address


# How many


def _limits(
    quota: Spec | FromTable, scope: Scope
) -> tuple[Callable[[Transaction], Limit | None], tuple[Fact, ...]]:
    """The limit of a transaction, and what it asks to find it."""
    if isinstance(quota, Spec):
        limit = limit_of(quota)
        _check_stage(quota, limit, scope)
        return (lambda _: limit), ()
    table = scope.table(quota.table)
    fact = _countable(Key(quota.key), scope)
    default = _default(quota, scope)
    _check_units(table, scope)
    own = _rows_for(fact, table)
    read = fact.read

    def look_up(transaction: Transaction) -> Limit | None:
        value = read(transaction)
        return default if value is None else own.get(normal_text(str(value)), default)

    return look_up, (fact,)


def _default(quota: FromTable, scope: Scope) -> Limit | None:
    if quota.default is None:
        return None
    limit = limit_of(quota.default)
    _check_stage(quota.default, limit, scope)
    if limit.unit is Unit.DISTINCT:
        raise Mistake(quota.default.maximum.at, "a table has no entries for `distinct`", "write two limits")
    return limit


def _check_stage(spec: Spec, limit: Limit, scope: Scope) -> None:
    first, reason = _FIRST_STAGE[limit.unit]
    if scope.stage < first:
        at = spec.unit.at if spec.unit else spec.maximum.at
        raise Mistake(at, f"{limit.unit.value} cannot be limited at {scope.stage.value}", reason)


def _check_units(table: Table, scope: Scope) -> None:
    for unit, row in table.units().items():
        first, reason = _FIRST_STAGE[unit]
        if scope.stage < first:
            raise table.error(row, f"{unit.value} cannot be limited at {scope.stage.value}", reason)


def _rows_for(fact: Fact, table: Table) -> Mapping[str, Limit]:
    """The rows by their keys in the fact's own form.

    Raises:
        ConfigError: two rows are for the same key, or a key is nothing that the fact can be.
    """
    found: dict[str, Row] = {}
    for row in table.rows:
        key = _row_key(fact, row.key)
        if key is None:
            raise table.error(row, f"{quote(row.key)} is no address")
        other = found.setdefault(key, row)
        if other is not row:
            raise table.error(row, f"{quote(row.key)} stands in line {other.line} already")
    return {key: row.limit for key, row in found.items()}


def _row_key(fact: Fact, key: str) -> str | None:
    if fact.type is FactType.NETWORK_ADDRESS:
        address = parse_address(key)
        return None if address is None else str(address)
    return normal_mailbox(key) if fact.type is FactType.MAILBOX else normal_text(key)
