"""`mailreeve config`: is the configuration right, and what options are there?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, get_args

import typer

from mailreeve_admin import reference
from mailreeve_admin.rules import count_rules
from mailreeve_milter.daemon import Loaded, load_files
from mailreeve_milter.signing_table import SigningKeys
from mailreeve_policyd.config import DEFAULT_FILE, Configuration
from mailreeve_policyd.crew import Generation
from mailreeve_policyd.errors import ConfigError
from mailreeve_policyd.launch import DaemonName, generation_of, load_as_the_daemon
from mailreeve_policyd.places import check_sockets

app = typer.Typer(help="Check the configuration; show its options.", no_args_is_help=True)


@app.command("check")
def check(
    config: Annotated[Path, typer.Option("--config", "-c", help="The configuration file.")] = DEFAULT_FILE,
) -> None:
    """Read the configuration, the rules (their expect lines included) and the keys, as the daemons would.

    Ends with 78 and the place of the first mistake.
    """
    loaded, daemons = load_as_the_daemon(config, _load)
    configuration, ruleset = loaded.configuration, loaded.ruleset
    for daemon in daemons:
        check_sockets(configuration, daemon.listen)
    typer.echo(f"{configuration.path}: right")
    typer.echo(f"{ruleset.file}: right, {count_rules(ruleset)}")
    _say_keys(loaded.keys)
    _say_name(configuration)


def _load(configuration: Configuration) -> tuple[Loaded, list[Generation[None]]]:
    loaded = load_files(configuration)
    both: tuple[DaemonName, ...] = get_args(DaemonName)
    return loaded, [generation_of(configuration, daemon, None, loaded.ruleset) for daemon in both]


def _say_name(configuration: Configuration) -> None:
    """Only the milter needs one: who runs the policy daemon alone is told, and no more."""
    try:
        typer.echo(f"results of checks bear the name {configuration.authserv_id} (authserv_id)")
    except ConfigError as error:
        typer.echo(f"the milter will not start: {error.place} {error.problem}\n  hint: {error.hint}")


def _say_keys(keys: SigningKeys) -> None:
    if keys.domains:
        typer.echo(f"our own mail is signed for {', '.join(sorted(keys.domains))}")
    if keys.has_more:
        typer.echo("other authors are signed as the rules and tables of [signing] say")
    if not keys.domains and not keys.has_more:
        typer.echo("no signing keys: our own mail leaves unsigned (mailreeve keys new DOMAIN makes them)")


@app.command("reference")
def show_reference(
    *,
    write: Annotated[bool, typer.Option("--write", help="Make the pages anew.")] = False,
    check_only: Annotated[bool, typer.Option("--check", help="Fail if a page is out of date.")] = False,
    folder: Annotated[Path, typer.Option(help="Where the pages are.")] = Path("docs/reference"),
) -> None:
    """Show every option, or make or check the pages of the documentation."""
    if write:
        reference.write_pages(folder)
    elif check_only:
        stale = reference.stale_pages(folder)
        for name in stale:
            typer.echo(f"{folder / name}: out of date; run: mailreeve config reference --write", err=True)
        raise typer.Exit(1 if stale else 0)
    else:
        typer.echo(reference.format_configuration_page(), nl=False)


@app.command("example")
def show_example() -> None:
    """Print a mailreeve.toml with every option, commented out, at its default."""
    typer.echo(reference.format_example_file(), nl=False)
