"""`mailreeve keys`: signing keys, and the DNS records that make them count."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from mailreeve_milter.new_keys import NewKey, Selectors, new_keys, selectors_of
from mailreeve_policyd.config import DEFAULT_FILE, Configuration, load_configuration, parse_configuration
from mailreeve_policyd.errors import ConfigError, ProtocolError
from mailreeve_policyd.escape import escape
from mailreeve_policyd.privileges import find_account
from mailreeve_policyd.smtp import Domain, parse_domain

app = typer.Typer(help="Make signing keys.", no_args_is_help=True)


@app.callback()
def _subject() -> None:
    """Make signing keys."""


@app.command("new")
def new(
    domain: Annotated[str, typer.Argument(help="The domain that they sign for (the one in From).")],
    config: Annotated[Path, typer.Option("--config", "-c", help="The configuration file.")] = DEFAULT_FILE,
    directory: Annotated[
        Path | None, typer.Option(help="Where to put them. [default: keys, beside the configuration file]")
    ] = None,
    selector: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="Name the selectors NAME-r and NAME-e, for a second set of one day. "
            "[default: r and e with the date]",
        ),
    ] = "",
) -> None:
    """Make a 2048-bit RSA and an Ed25519 key for a domain; print the DNS records and the settings.

    The files are 0600 and belong to the configured user. Nothing is signed with them until they stand in
    mailreeve.toml: publish the records first.
    """
    configuration = _configuration(config)
    made = new_keys(
        _domain(domain),
        (directory or config.parent / "keys").absolute(),
        _owner(configuration),
        _selectors(selector) if selector else selectors_of(datetime.now(UTC).date()),
    )
    typer.echo(format_new_keys(made))


def _configuration(path: Path) -> Configuration:
    """What the file says, or the defaults if there is no file yet: keys may be made before it."""
    if path == DEFAULT_FILE and not path.exists():
        return parse_configuration(b"", path)
    return load_configuration(path)


def _domain(text: str) -> Domain:
    try:
        return parse_domain(text)
    except ProtocolError as error:
        raise ConfigError("", "DOMAIN", f"not a domain name: {escape(text)!r}", "example.org") from error


def _selectors(name: str) -> Selectors:
    try:
        return Selectors(parse_domain(f"{name}-r"), parse_domain(f"{name}-e"))
    except ProtocolError as error:
        hint = "letters, digits and hyphens: 2026b"
        raise ConfigError("", "--selector", f"not a selector: {escape(name)!r}", hint) from error


def _owner(configuration: Configuration) -> tuple[int, int] | None:
    """The configured account, where we may give files away; else they stay ours."""
    settings = configuration.settings
    account = find_account(settings.user, settings.group, str(configuration.path))
    return (account.user, account.group) if account and os.geteuid() == 0 else None


def format_new_keys(made: Sequence[NewKey]) -> str:
    """What to do with new keys, in the order in which it is done."""
    lines = [f"Keys made for {made[0].domain}:", ""]
    lines += [f"  {key.path}  ({key.algorithm})" for key in made]
    lines += ["", "1. Publish these records (zone file form):", ""]
    lines += [key.zone_line for key in made]
    lines += ["", "   For a web form, the name and the whole value:", ""]
    for key in made:
        lines += [f"   {key.dns_name}", f"   {key.dns_value}", ""]
    lines += ["2. When they are visible everywhere, add this to mailreeve.toml and reload the milter:", ""]
    lines += [key.settings for key in made]
    return "\n".join(lines).rstrip("\n")
