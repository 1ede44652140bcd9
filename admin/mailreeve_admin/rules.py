"""`mailreeve rules`: is the rules file right, before a daemon reads it?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mailreeve_policyd.config import DEFAULT_FILE
from mailreeve_policyd.launch import load_as_the_daemon, load_rules
from mailreeve_policyd.rules import Ruleset
from mailreeve_policyd.smtp import Stage

app = typer.Typer(help="Check the rules file.", no_args_is_help=True)


@app.callback()
def _subject() -> None:
    """Check the rules file."""


@app.command("check")
def check(
    config: Annotated[Path, typer.Option("--config", "-c", help="The configuration file.")] = DEFAULT_FILE,
) -> None:
    """Read the rules as the daemons would and run their expect lines; list them by stage.

    Ends with 78 and the place of the first mistake, or of the expect line that fails.
    """
    ruleset = load_as_the_daemon(config, load_rules)
    typer.echo(f"{ruleset.file}: right, {count_rules(ruleset)}")
    for stage in Stage:
        for rule in ruleset.rules_at(stage):
            typer.echo(f"  {stage.value:15} {rule.name} (line {rule.line})")
    for note in ruleset.notes:
        typer.echo(f"note: {note}")


def count_rules(ruleset: Ruleset) -> str:
    """How many rules there are, for a line of text."""
    count = len(ruleset.rules)
    return f"{count} rule{'s' if count != 1 else ''}"
