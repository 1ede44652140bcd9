"""How `mailreeve limits` words what it found and ordered: a line for people, an object for programs.

Must not know where it is printed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from mailreeve_admin.limits_desk import Row, Standing
from mailreeve_admin.limits_keys import shown_key
from mailreeve_policyd.escape import escape
from mailreeve_policyd.limits_admin import Order, OrderKind
from mailreeve_policyd.rules.templates import spoken

LAST_TOLD = datetime(9999, 12, 30, tzinfo=UTC)
"""The last moment that can be told in every time zone."""


def format_standing(standing: Standing) -> str:
    """One limit: what the key has used of it, and when it frees."""
    account = standing.account
    observed = " (observe)" if account.observed else ""
    text = f"{account.rule}{observed}: {standing.used} of {standing.maximum} {account.counts}"
    text += f" per {', '.join(account.per)}"
    if standing.is_full and standing.maximum and standing.frees is not None:
        text += f"; FULL, the next fits in {spoken(standing.frees)}"
    if standing.empty is not None:
        text += f"; all is free in {spoken(standing.empty)}"
    if standing.override is not None:
        text += f"\n  {format_order(standing.override)}"
    return text


def format_row(row: Row) -> str:
    """One line of `limits top`."""
    blocked = "  BLOCKED" if row.is_blocked else ""
    share = f"{row.share:.0%}"
    key = f"{row.key} ({', '.join(row.per)})"
    return f"{share:>5}  {row.used} of {row.maximum} {row.counts}  {row.rule}  {key}{blocked}"


def format_order(order: Order) -> str:
    """A block or an override: whom it is about, until when, who ordered it and why."""
    what = f"{order.kind.value} {shown_key(order.per, order.values)} ({', '.join(order.per)})"
    if order.kind is OrderKind.OVERRIDE:
        what += f" {order.rule}: {order.maximum} {order.counts}"
    until = f" until {_said(order.until)}" if order.until is not None else ""
    reason = f": {escape(order.reason)}" if order.reason else ""
    return f"{what}{until}, by {escape(order.by)} at {_said(order.at)}{reason}"


def _said(seconds: float) -> str:
    return _told(seconds).astimezone().isoformat(sep=" ", timespec="minutes")


def standing_object(standing: Standing) -> Mapping[str, Any]:
    """For programs."""
    account = standing.account
    return {
        "rule": account.rule,
        "per": account.per,
        "key": shown_key(account.per, account.charge.values),
        "counts": account.counts,
        "observed": account.observed,
        "used": standing.used,
        "maximum": standing.maximum,
        "frees_in_seconds": _seconds(standing.frees),
        "empty_in_seconds": _seconds(standing.empty),
        "override": order_object(standing.override) if standing.override else None,
    }


def row_object(row: Row) -> Mapping[str, Any]:
    """For programs."""
    return {
        "rule": row.rule,
        "per": row.per,
        "key": row.key,
        "used": row.used,
        "maximum": row.maximum,
        "counts": row.counts,
        "blocked": row.is_blocked,
    }


def blocks_object(blocks: Sequence[Order]) -> Mapping[str, Any]:
    """For programs."""
    return {"blocks": [order_object(each) for each in blocks]}


def order_object(order: Order) -> Mapping[str, Any]:
    """For programs; times are UTC."""
    return {
        "kind": order.kind.value,
        "per": order.per,
        "key": shown_key(order.per, order.values),
        "rule": order.rule,
        "maximum": order.maximum,
        "counts": order.counts,
        "until": None if order.until is None else _utc(order.until),
        "by": order.by,
        "at": _utc(order.at),
        "reason": order.reason,
    }


def _seconds(time: timedelta | None) -> int | None:
    return None if time is None else -(-time // timedelta(seconds=1))


def _told(seconds: float) -> datetime:
    """What is in the store may be beyond every calendar."""
    return datetime.fromtimestamp(min(max(seconds, 0), LAST_TOLD.timestamp()), UTC)


def _utc(seconds: float) -> str:
    return _told(seconds).isoformat(timespec="seconds").replace("+00:00", "Z")
