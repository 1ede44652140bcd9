"""`mailreeve limits`: who has used what, and what an administrator orders while mail flows.

Only the commands and their options; the work is limits_desk.py's, the wording limits_words.py's.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer

from mailreeve_admin.limits_desk import Office, at_office
from mailreeve_admin.limits_keys import (
    Account,
    WrongWordError,
    account_for,
    accounts_of,
    only_shape,
)
from mailreeve_admin.limits_words import (
    LAST_TOLD,
    blocks_object,
    format_order,
    format_row,
    format_standing,
    order_object,
    row_object,
    standing_object,
)
from mailreeve_policyd.config import DEFAULT_FILE
from mailreeve_policyd.errors import StoreError
from mailreeve_policyd.escape import escape
from mailreeve_policyd.limits_admin import Order, OrderKind

EX_USAGE = 64
"""sysexits.h: the command was used incorrectly."""

EX_TEMPFAIL = 75
"""sysexits.h: the store is away; later it may work."""

app = typer.Typer(
    help="See who has used what of the limits; block, reset and override while mail flows.",
    no_args_is_help=True,
)

ConfigOption = Annotated[Path, typer.Option("--config", "-c", help="The configuration file.")]
KeyArgument = Annotated[
    str, typer.Argument(help="Whom it is about: bob, bob@example.org, 203.0.113.9, or bob,203.0.113.9.")
]
PerOption = Annotated[
    str, typer.Option("--per", metavar="FACTS", help="By which facts the key is counted: sasl_username.")
]
RuleOption = Annotated[str, typer.Option("--rule", metavar="NAME", help="Of this limit alone.")]
ReasonOption = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why, for the record.")]
UntilOption = Annotated[
    str,
    typer.Option(
        "--until",
        metavar="DATE",
        help="2026-12-01, 2026-12-01T18:00 (local time; Z for UTC), or a time from now: 2 hours, 7 days.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="For programs.")]


@app.command("show")
def show(
    key: KeyArgument,
    config: ConfigOption = DEFAULT_FILE,
    per: PerOption = "",
    *,
    as_json: JsonOption = False,
) -> None:
    """Show what a key has used of each limit that counts it, and when that frees."""
    with _working(config) as office:
        standings = office.standings(accounts_of(office.ruleset, key, _facts(per)))
        blocks = _blocks_of(office, [each.account for each in standings])
    if as_json:
        _print_json({"limits": [standing_object(each) for each in standings], **blocks_object(blocks)})
        return
    for block in blocks:
        typer.echo(f"BLOCKED: {format_order(block)}")
    for standing in standings:
        typer.echo(format_standing(standing))


@app.command("top")
def top(
    config: ConfigOption = DEFAULT_FILE,
    rule: RuleOption = "",
    count: Annotated[int, typer.Option("--count", "-n", min=1, max=10_000, help="How many.")] = 20,
    *,
    as_json: JsonOption = False,
) -> None:
    """Show who has used half of a limit or more, the nearest to its maximum first."""
    with _working(config) as office:
        rows = office.top(rule or None, count)
    if as_json:
        _print_json([row_object(row) for row in rows])
    elif not rows:
        typer.echo("nobody has used half of a limit")
    else:
        for row in rows:
            typer.echo(format_row(row))


@app.command("reset")
def reset(
    key: KeyArgument,
    config: ConfigOption = DEFAULT_FILE,
    per: PerOption = "",
    rule: RuleOption = "",
    reason: ReasonOption = "",
    *,
    as_json: JsonOption = False,
) -> None:
    """Free what a key has used, of all limits that count it or of one."""
    with _working(config) as office:
        accounts = _accounts(office, key, per, rule)
        before = office.reset(accounts, reason)
    if as_json:
        _print_json([standing_object(each) for each in before])
        return
    for each in before:
        typer.echo(f"{each.account.rule}: {each.used} of {each.maximum} {each.account.counts} freed")


@app.command("override")
def override(
    key: KeyArgument,
    amount: Annotated[str, typer.Argument(help="The maximum that holds instead: 500/day.")],
    until: UntilOption,
    config: ConfigOption = DEFAULT_FILE,
    per: PerOption = "",
    rule: RuleOption = "",
    reason: ReasonOption = "",
    *,
    as_json: JsonOption = False,
) -> None:
    """Give a key another maximum until a date. What it has used stays counted."""
    with _working(config) as office:
        account, maximum = account_for(_accounts(office, key, per, rule), amount)
        order = office.override(account, maximum, _moment(until), reason)
    _print_orders([order], as_json=as_json)


@app.command("unoverride")
def unoverride(
    key: KeyArgument,
    config: ConfigOption = DEFAULT_FILE,
    per: PerOption = "",
    rule: RuleOption = "",
) -> None:
    """Take back the overrides of a key."""
    with _working(config) as office:
        orders = office.withdraw(OrderKind.OVERRIDE, _accounts(office, key, per, rule), escape(key))
    for order in orders:
        typer.echo(f"taken back: {format_order(order)}")


@app.command("block")
def block(
    key: KeyArgument,
    config: ConfigOption = DEFAULT_FILE,
    per: PerOption = "",
    until: UntilOption = "",
    reason: ReasonOption = "",
    *,
    as_json: JsonOption = False,
) -> None:
    """Refuse all mail that is counted by a key (5.7.1), on all hosts, within two seconds."""
    with _working(config) as office:
        accounts = _accounts(office, key, per, "")
        order = office.block(accounts[0].per, accounts[0], _moment(until) if until else None, reason)
    _print_orders([order], as_json=as_json)
    if not as_json:
        acting = [each for each in accounts if not each.observed]
        for each in acting:
            typer.echo(f"  {each.rule} refuses it at {each.stage.value}")
        if not acting:
            typer.echo("  but all limits that count it are under observe: none refuses it", err=True)


@app.command("unblock")
def unblock(key: KeyArgument, config: ConfigOption = DEFAULT_FILE, per: PerOption = "") -> None:
    """Let a key send again. What it has used stays counted: `reset` frees that."""
    with _working(config) as office:
        accounts = accounts_of(office.ruleset, key, _facts(per))
        orders = office.withdraw(OrderKind.BLOCK, accounts, escape(key))
    for order in orders:
        typer.echo(f"taken back: {format_order(order)}")


@app.command("list")
def list_orders(config: ConfigOption = DEFAULT_FILE, *, as_json: JsonOption = False) -> None:
    """List the blocks and overrides that hold."""
    with _working(config) as office:
        orders = office.orders()
    if not orders and not as_json:
        typer.echo("nothing is blocked or overridden")
    _print_orders(orders, as_json=as_json)


# Work and words


@contextmanager
def _working(config: Path) -> Iterator[Office]:
    try:
        with at_office(config) as office:
            yield office
    except WrongWordError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(EX_USAGE) from error
    except StoreError as error:
        typer.echo(f"the limit store is away, nothing can be asked or ordered: {error}", err=True)
        raise typer.Exit(EX_TEMPFAIL) from error
    except OSError as error:
        place = f" ({error.filename})" if error.filename else ""
        typer.echo(
            f"it is done, but the record cannot be written: {error.strerror or error}{place}", err=True
        )
        raise typer.Exit(EX_TEMPFAIL) from error


def _accounts(office: Office, key: str, per: str, rule: str) -> list[Account]:
    accounts = accounts_of(office.ruleset, key, _facts(per), rule or None)
    only_shape(accounts, key)
    return accounts


def _facts(per: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in per.split(",")) if per else ()


def _blocks_of(office: Office, accounts: Sequence[Account]) -> list[Order]:
    about = {(each.per, each.charge.values) for each in accounts}
    return [
        order
        for order in office.orders()
        if order.kind is OrderKind.BLOCK and (order.per, order.values) in about
    ]


_FROM_NOW = re.compile(r"([0-9]{1,5})\s*(minute|hour|day)s?\Z")


def _moment(text: str) -> float:
    """Seconds since the epoch, in the future."""
    from_now = _FROM_NOW.match(text.strip())
    if from_now is not None:
        return time.time() + timedelta(**{f"{from_now[2]}s": int(from_now[1])}).total_seconds()
    try:
        moment = datetime.fromisoformat(text.strip()).timestamp()
    except (ValueError, OverflowError) as error:
        raise WrongWordError(
            f"{escape(text)!r} is no date: write 2026-12-01, 2026-12-01T18:00, or 7 days"
        ) from error
    if moment <= time.time():
        raise WrongWordError(f"{escape(text)} is over already")
    if moment > LAST_TOLD.timestamp():
        raise WrongWordError(
            f"{escape(text)} is too far away: leave --until out, where it is to hold for ever"
        )
    return moment


def _print_orders(orders: Sequence[Order], *, as_json: bool) -> None:
    if as_json:
        _print_json([order_object(order) for order in orders])
        return
    for order in orders:
        typer.echo(format_order(order))


def _print_json(value: object) -> None:
    typer.echo(json.dumps(value, indent=2))
