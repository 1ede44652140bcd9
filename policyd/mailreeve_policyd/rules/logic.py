"""Kleene's three-valued logic over tests: unknown unless the rest settles it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mailreeve_policyd.transaction import Transaction

Test = Callable[[Transaction], bool | None]
"""Asks a transaction; None where it cannot be known now."""


def negate(inner: Test) -> Test:
    """Not: the unknown stays unknown."""

    def test(transaction: Transaction) -> bool | None:
        held = inner(transaction)
        return None if held is None else not held

    return test


def all_of(parts: Sequence[Test]) -> Test:
    """And: one that is false settles it."""
    if len(parts) == 2:
        return _both(*parts)

    def test(transaction: Transaction) -> bool | None:
        unknown = False
        for part in parts:
            held = part(transaction)
            if held is None:
                unknown = True
            elif not held:
                return False
        return None if unknown else True

    return test


def _both(first: Test, second: Test) -> Test:
    """The same of two, without a loop: what most conditions are."""

    def test(transaction: Transaction) -> bool | None:
        held = first(transaction)
        if held:
            return second(transaction)
        if held is None:
            return False if second(transaction) is False else None
        return False

    return test


def any_of(parts: Sequence[Test]) -> Test:
    """Or: one that is true settles it."""

    def test(transaction: Transaction) -> bool | None:
        unknown = False
        for part in parts:
            held = part(transaction)
            if held:
                return True
            unknown |= held is None
        return None if unknown else False

    return test
