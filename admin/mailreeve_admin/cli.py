"""The `mailreeve` command: one verb for each thing that an operator starts, asks or makes.

Knows how to talk to a person: words, colours, exit codes. Everything else lives with its subject.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from mailreeve_admin import check, configuration, keys, limits, notices, rules
from mailreeve_policyd import __version__
from mailreeve_policyd.config import DEFAULT_FILE
from mailreeve_policyd.errors import ConfigError

EX_CONFIG = 78
"""sysexits.h: something was found in an unconfigured or misconfigured state."""

ConfigOption = Annotated[Path, typer.Option("--config", "-c", help="The configuration file.")]

app = typer.Typer(
    name="mailreeve",
    help="Email policy and authentication beside your mail server.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.add_typer(configuration.app, name="config")
app.add_typer(rules.app, name="rules")
app.add_typer(limits.app, name="limits")
app.add_typer(keys.app, name="keys")
app.add_typer(notices.app, name="notices")
app.command("check")(check.check)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"mailreeve {__version__}")
        raise typer.Exit


@app.callback()
def _top(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Email policy and authentication beside your mail server."""


@app.command()
def policyd(config: ConfigOption = DEFAULT_FILE) -> None:
    """Run the policy daemon, which Postfix asks by check_policy_service."""
    from mailreeve_policyd.daemon import run_policyd  # noqa: PLC0415 -- a command loads what it needs

    raise typer.Exit(run_policyd(config))


@app.command()
def milter(config: ConfigOption = DEFAULT_FILE) -> None:
    """Run the milter, which the MTA asks by smtpd_milters."""
    from mailreeve_milter.daemon import run_milter  # noqa: PLC0415 -- a command loads what it needs

    raise typer.Exit(run_milter(config))


@app.command("run")
def run_both(config: ConfigOption = DEFAULT_FILE) -> None:
    """Run the policy daemon and the milter under one parent: for small machines and containers."""
    from mailreeve_milter.together import run_together  # noqa: PLC0415 -- a command loads what it needs

    raise typer.Exit(run_together(config))


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """The entry point: an operator's mistake is told plainly and ends with EX_CONFIG.

    `arguments` are those of the command line if there are none. Always raises SystemExit.
    """
    try:
        app(arguments)
    except ConfigError as error:
        typer.echo(str(error), err=True)
        sys.exit(EX_CONFIG)
    sys.exit(0)
