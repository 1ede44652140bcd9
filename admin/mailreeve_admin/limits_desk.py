"""What the commands of `mailreeve limits` do: they ask and order, and write each order into the record.

Knows the rules, the store and the record by their ports; prints nothing.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from msgspec.structs import replace

from mailreeve_admin.limits_keys import Account, WrongWordError, accounts_of, shown_key, what_counts
from mailreeve_policyd.audit import open_sink
from mailreeve_policyd.audit_administration import Operator, current_operator, record_administration
from mailreeve_policyd.config import Configuration
from mailreeve_policyd.escape import escape
from mailreeve_policyd.launch import account_of, load_as_the_daemon, load_rules
from mailreeve_policyd.limits import Charge, OnUnavailable, Unit, Usage, member_hash
from mailreeve_policyd.limits_admin import MAX_REASON, Book, Near, Order, OrderKind, Orders, in_force
from mailreeve_policyd.limits_open import Desk, open_desk
from mailreeve_policyd.privileges import rights_of
from mailreeve_policyd.rules import Ruleset
from mailreeve_policyd.sink import Sink

ASKED_AT_ONCE = 64
"""Counters of one call of the store, for which mail waits."""


@dataclass(frozen=True, slots=True)
class Standing:
    """How a counter stands. `frees` is how long until one more fits, `empty` until all is free."""

    account: Account
    used: int
    maximum: int
    frees: timedelta | None = None
    empty: timedelta | None = None
    override: Order | None = None

    @property
    def is_full(self) -> bool:
        """Does nothing more fit?"""
        return self.used >= self.maximum


@dataclass(frozen=True, slots=True)
class Row:
    """A counter that is near its maximum, or over it."""

    rule: str
    per: tuple[str, ...]
    key: str
    used: int
    maximum: int
    counts: str
    is_blocked: bool

    @property
    def share(self) -> float:
        """Of the maximum; a maximum of 0 is used up."""
        return self.used / self.maximum if self.maximum else 1.0


@dataclass(frozen=True, slots=True)
class Office:
    """The administrator's place of work: the rules in force, the store, the record, and who it is."""

    ruleset: Ruleset
    desk: Desk
    sink: Sink
    operator: Operator

    def standings(self, accounts: Sequence[Account]) -> list[Standing]:
        """How these counters stand. Raises StoreError, as all that follow."""
        book = self.orders()
        orders = in_force_now(book)
        return [self._standing(replace_limit(each, orders), each, book) for each in accounts]

    def orders(self) -> list[Order]:
        """Those that hold, blocks first."""
        found = self.desk.book.read("")
        now = time.time()
        holding = [order for order in found.orders if not order.has_ended(now)] if found else []
        return sorted(holding, key=lambda order: (order.kind.value, order.values))

    def top(self, rule: str | None, count: int) -> list[Row]:
        """Who is near a maximum or over it, the nearest first.

        Raises:
            WrongWordError: there is no such limit.
        """
        limits = {each.name: each for each in self.ruleset.rules if each.counts}
        if rule is not None and rule not in limits:
            accounts_of(self.ruleset, "-", rule=rule)  # says which there are
        near = self.desk.book.near([rule] if rule is not None else list(limits))
        orders = self.orders()
        blocks = {(order.per, shown_key(order.per, order.values)) for order in orders if is_block(order)}
        in_force = in_force_now(orders)
        charges = [in_force.applied(_charge_of(each)) for each in near]
        rows = [
            _row(each, charge, usage, what_counts(limits[each.rule], charge.limit), blocks)
            for each, charge, usage in zip(near, charges, self._usages(charges), strict=True)
        ]
        rows = [row for row in rows if 2 * row.used >= row.maximum]
        return sorted(rows, key=lambda row: (-row.share, -row.used, row.key))[:count]

    def block(self, per: tuple[str, ...], account: Account, until: float | None, reason: str) -> Order:
        """Refuse everything that is counted by a key."""
        order = self._order(OrderKind.BLOCK, account, until, reason)
        self.desk.book.put(order)
        self._record("block", per, order.values, until=until, reason=reason)
        return order

    def override(self, account: Account, maximum: int, until: float, reason: str) -> Order:
        """Another maximum for one counter."""
        order = replace(
            self._order(OrderKind.OVERRIDE, account, until, reason),
            rule=account.rule,
            key=account.charge.key.hex(),
            maximum=maximum,
            counts=account.counts,
        )
        self.desk.book.put(order)
        self._record(
            "override",
            order.per,
            order.values,
            rules=(account.rule,),
            maximum=maximum,
            until=until,
            reason=reason,
        )
        return order

    def withdraw(self, kind: OrderKind, accounts: Sequence[Account], key: str) -> list[Order]:
        """Take back the orders of a kind about these accounts.

        Raises:
            WrongWordError: there are none.
        """
        about = {(each.per, each.charge.values) for each in accounts}
        rules = {each.rule for each in accounts}
        found = [
            order
            for order in self.orders()
            if order.kind is kind
            and (order.per, order.values) in about
            and (order.rule is None or order.rule in rules)
        ]
        if not found:
            raise WrongWordError(f"there is no {kind.value} of {key}: `mailreeve limits list` shows all")
        self.desk.book.remove([order.name for order in found])
        for order in found:
            named = (order.rule,) if order.rule else ()
            self._record(f"un{kind.value}", order.per, order.values, rules=named)
        return found

    def reset(self, accounts: Sequence[Account], reason: str) -> list[Standing]:
        """Drop what these counters hold; how they stood."""
        before = self.standings(accounts)
        self.desk.forget([each.charge.key for each in accounts])
        rules = tuple(each.rule for each in accounts)
        first = accounts[0]
        self._record("reset", first.per, first.charge.values, rules=rules, reason=reason)
        return before

    def _order(self, kind: OrderKind, account: Account, until: float | None, reason: str) -> Order:
        if len(reason) > MAX_REASON:
            raise WrongWordError(f"a reason has at most {MAX_REASON} characters")
        if not _is_unicode(reason):
            raise WrongWordError(f"the reason {escape(reason)!r} is not UTF-8: type it anew")
        charge = account.charge
        return Order(kind, charge.per, charge.values, self.operator.name, time.time(), reason, until)

    def _standing(self, charge: Charge, account: Account, orders: Sequence[Order]) -> Standing:
        (one,) = self.desk.store.usage([charge])
        used = one.used - one.added
        override = next((each for each in orders if each.key == charge.key.hex()), None)
        return Standing(account, used, one.maximum, one.retry_after, self._empty(charge, used), override)

    def _empty(self, charge: Charge, used: int) -> timedelta | None:
        """When all is free: as if somebody asked for as much as there is."""
        if charge.limit.unit is Unit.DISTINCT or not used:
            return None
        whole = replace(charge, amount=used, limit=replace(charge.limit, maximum=used))
        (usage,) = self.desk.store.usage([whole])
        return usage.retry_after

    def _usages(self, charges: Sequence[Charge]) -> Iterator[Usage]:
        for at in range(0, len(charges), ASKED_AT_ONCE):
            for usage in self.desk.store.usage(charges[at : at + ASKED_AT_ONCE]):
                yield replace(usage, used=usage.used - usage.added, added=0)

    def _record(
        self,
        action: str,
        per: tuple[str, ...],
        values: tuple[str, ...],
        *,
        rules: tuple[str, ...] = (),
        maximum: int | None = None,
        until: float | None = None,
        reason: str = "",
    ) -> None:
        key = tuple(shown_key((name,), (value,)) for name, value in zip(per, values, strict=True))
        record_administration(
            self.sink,
            self.operator,
            action,
            per,
            key,
            rules=rules,
            maximum=maximum,
            until=until,
            reason=reason,
        )


class TerminalSink:
    """Where the record's lines go if a daemon's go to its standard output: beside what the command says."""

    def write(self, line: bytes) -> None:
        """Sink.write."""
        sys.stderr.write(line.decode())

    def reopen(self) -> None:
        """Sink.reopen."""

    def close(self) -> None:
        """Sink.close."""


@contextmanager
def at_office(config: Path) -> Iterator[Office]:
    """Work with the store and the rules that the daemons have, with the rights that they have.

    Raises:
        ConfigError: a mistake in the configuration or the rules.
    """
    configuration, ruleset = load_as_the_daemon(config, _load)
    operator = current_operator()
    with rights_of(account_of(configuration)):
        desk = open_desk(configuration)
        try:
            yield Office(ruleset, desk, _sink(configuration), operator)
        finally:
            desk.close()


def _sink(configuration: Configuration) -> Sink:
    if configuration.settings.audit.to == "stdout":
        return TerminalSink()
    return open_sink(configuration, "mailreeve-admin")


def _load(configuration: Configuration) -> tuple[Configuration, Ruleset]:
    open_desk(configuration).close()  # its mistakes, and its modules while root may read them
    return configuration, load_rules(configuration)


def in_force_now(orders: Sequence[Order]) -> Orders:
    """What of these holds now."""
    return in_force(Book("", tuple(orders)), time.time())


def replace_limit(account: Account, orders: Orders) -> Charge:
    """The charge of an account with the maximum that holds."""
    return orders.applied(account.charge)


def is_block(order: Order) -> bool:
    """Is it a block?"""
    return order.kind is OrderKind.BLOCK


def _charge_of(near: Near) -> Charge:
    member = member_hash("") if near.limit.unit is Unit.DISTINCT else None
    return Charge(
        near.rule, near.key, near.limit, 1, member, refuses=False, on_unavailable=OnUnavailable.CLOSED
    )


def _row(
    near: Near,
    charge: Charge,
    usage: Usage,
    counts: str,
    blocks: set[tuple[tuple[str, ...], str]],
) -> Row:
    key = shown_near(near)
    is_blocked = (near.per, key) in blocks
    return Row(near.rule, near.per, key, usage.used, charge.limit.maximum, counts, is_blocked)


def shown_near(near: Near) -> str:
    """The key of a counter, for a person; its values were escaped when they were written down."""
    return ",".join(
        value if "\\" in value else shown_key((name,), (value,))
        for name, value in zip(near.per, near.values, strict=False)
    )


def _is_unicode(text: str) -> bool:
    """Whether the octets of an argument were UTF-8 (PEP 383)."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
