"""`mailreeve notices`: do notices reach those who are to be told? Asked before a login is hacked."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer
from msgspec.structs import replace

from mailreeve_policyd.config import DEFAULT_FILE, Configuration
from mailreeve_policyd.config_notices import tells_anybody
from mailreeve_policyd.errors import ConfigError
from mailreeve_policyd.escape import escape
from mailreeve_policyd.launch import account_of, load_as_the_daemon
from mailreeve_policyd.notices_courier import Fate, Target
from mailreeve_policyd.notices_event import NoticeEvent, Reporter, host_name
from mailreeve_policyd.notices_open import check_notices, open_targets
from mailreeve_policyd.privileges import rights_of

EX_TEMPFAIL = 75
"""sysexits.h: somebody was not reached."""

app = typer.Typer(help="Try who is told.", no_args_is_help=True)


@app.callback()
def _subject() -> None:
    """Try who is told."""


@app.command("test")
def send_test(
    user: Annotated[str, typer.Option(help="Tell this login's user, too, as mail_user says.")] = "",
    config: Annotated[Path, typer.Option("--config", "-c", help="The configuration file.")] = DEFAULT_FILE,
) -> None:
    """Send one notice to everybody who is told, once, and say what became of it.

    Ends with 75 if somebody was not reached.
    """
    configuration = load_as_the_daemon(config, _load)
    with rights_of(account_of(configuration)):  # whose the secret of marks is to be, if it is made now
        targets = open_targets(configuration)
    event = Reporter("notices test", host_name()).test()
    if user:
        event = replace(event, login=escape(user), login_raw=user, about_user=True)
    results = list(_deliver(targets, event))
    if user and not configuration.settings.notices.mail_user:
        typer.echo("users are told nothing: mail_user = false")
    for line, _ in results:
        typer.echo(line)
    raise typer.Exit(0 if all(taken for _, taken in results) else EX_TEMPFAIL)


def _load(configuration: Configuration) -> Configuration:
    if not tells_anybody(configuration.settings.notices):
        raise ConfigError(
            str(configuration.path),
            "notices",
            "names nobody who is told",
            'mail_to = ["root@example.org"] or webhook_url = "https://..." under [notices]',
        )
    check_notices(configuration)
    return configuration


def _deliver(targets: tuple[Target, ...], event: NoticeEvent) -> Iterator[tuple[str, bool]]:
    for target in targets:
        addressees = target.addressees(event)
        if not addressees:
            yield f"{target.name}: nobody to tell", True
        for addressee in addressees:
            attempt = target.deliver(event, addressee)
            yield (
                f"{target.name} to {escape(addressee)}: {attempt.fate.value} ({attempt.said})",
                attempt.fate is Fate.TAKEN,
            )
