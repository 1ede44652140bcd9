"""`mailreeve rules`: is the rules file right, before a daemon reads it; what does it say, and why?"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from mailreeve_admin.explain import Asking, Left, Moment, Told, explain, moments_of, parse_facts
from mailreeve_policyd.config import DEFAULT_FILE, Configuration
from mailreeve_policyd.judgement import OnUnknown, Outcome
from mailreeve_policyd.launch import account_of, doors_of, load_as_the_daemon, load_rules
from mailreeve_policyd.limits_open import open_store
from mailreeve_policyd.privileges import rights_of
from mailreeve_policyd.rules import Ruleset
from mailreeve_policyd.rules.charging import Counter
from mailreeve_policyd.rules.consequences import Decide, Note
from mailreeve_policyd.rules.ruleset import Named, Rule
from mailreeve_policyd.rules.source import Mistake, Place, one_of, suggest
from mailreeve_policyd.smtp import Stage

EX_USAGE = 64
"""sysexits.h: the command was used incorrectly."""

app = typer.Typer(help="Check the rules file; ask what it says of a message.", no_args_is_help=True)


@app.callback()
def _subject() -> None:
    """Check the rules file; ask what it says of a message."""


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


@app.command("list")
def list_rules(
    config: Annotated[Path, typer.Option("--config", "-c", help="The configuration file.")] = DEFAULT_FILE,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """List the rules in order with what they do, and the sets and tables with their sizes."""
    ruleset = load_as_the_daemon(config, load_rules)
    rules = [rule for stage in Stage for rule in ruleset.rules_at(stage)]
    if as_json:
        _print_json(
            {"rules": [_rule_json(each) for each in rules], "named": list(map(_named_json, ruleset.named))}
        )
        return
    for rule in rules:
        counted = _keys(rule)
        per = f"  per {', '.join(counted)}" if counted else ""
        typer.echo(f"{rule.stage.value:15} {_title(rule)}  {_action(rule)}{per}")
    for each in ruleset.named:
        size = "asked as mail comes" if each.size is None else f"{each.size} {_entries(each)}"
        typer.echo(f"{each.kind:15} {each.name}  {each.source}: {size}")


@app.command("explain")
def explain_rules(
    facts: Annotated[list[str], typer.Argument(help="sasl_username=bob client_address=203.0.113.9 ...")],
    config: Annotated[Path, typer.Option("--config", "-c", help="The configuration file.")] = DEFAULT_FILE,
    stage: Annotated[
        str, typer.Option("--stage", metavar="STAGE", help="This stage alone; what is not given is absent.")
    ] = "",
    *,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Say rule by rule what the rules make of a message, and why. Counts nothing, asks no daemon and no DNS.

    Every stage is decided for which the facts are enough. What the limits hold is what they hold now.
    """
    configuration, ruleset = load_as_the_daemon(config, _load)
    try:
        given = parse_facts(facts)
        moments, left = moments_of(doors_of(configuration), ruleset, given, _stage(stage) if stage else None)
        with rights_of(account_of(configuration)):
            store = open_store(configuration)
            try:
                told = explain(ruleset, store, moments, given, OnUnknown(configuration.settings.on_unknown))
            finally:
                store.close()
    except Mistake as mistake:
        typer.echo(f"{mistake.problem}{f': {mistake.hint}' if mistake.hint else ''}", err=True)
        raise typer.Exit(EX_USAGE) from mistake
    if as_json:
        _print_json({"moments": [_moment_json(each) for each in told], "left": list(map(_left_json, left))})
    else:
        _print_explanation(told, left, moments[len(told) :])


def _load(configuration: Configuration) -> tuple[Configuration, Ruleset]:
    open_store(configuration).close()  # its mistakes, and its modules while root may read them
    return configuration, load_rules(configuration)


def _stage(word: str) -> Stage:
    try:
        return Stage(word)
    except ValueError as error:
        stages = [each.value for each in Stage]
        hint = suggest(word, stages) or f"the stages are {one_of(stages)}"
        raise Mistake(Place(1, 1), f"there is no stage {word[:40]!r}", hint) from error


_HELD = {True: "yes", False: "no", None: "cannot be known"}


def _print_explanation(told: Sequence[Moment], left: Sequence[Left], unreached: Sequence[Asking]) -> None:
    for moment in told:
        for rule in moment.rules:
            _print_rule(rule)
        decided = f", by {moment.verdict.rule}" if moment.verdict.rule else ", by no rule"
        typer.echo(f"=> {moment.stage.value}: {moment.verdict.action.value}{decided}")
        for line in _effects(moment):
            typer.echo(f"   {line}")
        typer.echo(f"   {moment.door.value} answers: {moment.answer}\n")
    for _, stage, _ in unreached:
        typer.echo(f"{stage.value}: not reached")
    for each in left:
        missing = ", ".join(each.missing)
        typer.echo(
            f"{each.stage.value}: not decided, its rules ask {missing}"
            f" (give it, or `--stage {each.stage.value}` to decide without)"
        )
    if not told and not left:
        typer.echo("no rule is asked there")


def _print_rule(told: Told) -> None:
    step, rule = told.step, told.rule
    standing = (
        f": {step.detail}" if step.outcome in (Outcome.WITHIN, Outcome.EXCEEDED) and step.detail else ""
    )
    typer.echo(f"{rule.stage.value} {_title(rule)}  {_action(rule)}  {step.outcome.value}{standing}")
    if step.outcome is Outcome.DOES_NOT_COUNT:
        typer.echo(f"    {step.detail}")
    if step.outcome is Outcome.NOT_REACHED:
        return
    for part in told.parts:
        values = f" ({', '.join(f'{name}={value}' for name, value in part.facts)})" if part.facts else ""
        typer.echo(f"    {'  ' * part.depth}{part.text}: {_HELD[part.held]}{values}")


def _effects(moment: Moment) -> list[str]:
    verdict = moment.verdict
    return [
        *(f"adds {edit.name}: {edit.value}" for edit in verdict.edits),
        *(f"sends a copy to {address}" for address in verdict.copies),
        *(f"warns: {text}" for text in verdict.warnings),
        *(f"tells people: {notice.text}" for notice in verdict.notices),
        *(f"cannot do here: {rule}" for rule in verdict.skipped),
        *(
            f"under observe {each.rule} would {each.action} {each.text or ''}".rstrip()
            for each in verdict.observed
        ),
        *(f"{each.rule}: its key is blocked by the administrator" for each in verdict.limits if each.blocked),
        *(f"{each.rule}: the store is away, this machine counts" for each in verdict.limits if each.degraded),
    ]


def _title(rule: Rule) -> str:
    return f"{'observe ' if rule.observed else ''}{rule.name} (line {rule.line})"


def _action(rule: Rule) -> str:
    if isinstance(rule.body, Counter):
        consequence = rule.body.consequence
        return f"limit, else {_word(consequence)}"
    return _word(rule.body)


def _word(does: Decide | Note) -> str:
    return does.verdict.value if isinstance(does, Decide) else does.verb.value


def _keys(rule: Rule) -> tuple[str, ...]:
    return tuple(fact.name for fact in rule.body.keys) if isinstance(rule.body, Counter) else ()


def _entries(named: Named) -> str:
    return "entries" if named.kind == "set" else "rows"


def _print_json(value: object) -> None:
    typer.echo(json.dumps(value, indent=2))


def _rule_json(rule: Rule) -> Mapping[str, Any]:
    return {
        "stage": rule.stage.value,
        "rule": rule.name,
        "line": rule.line,
        "action": _action(rule),
        "per": _keys(rule),
        "observed": rule.observed,
        "text": rule.text,
    }


def _named_json(named: Named) -> Mapping[str, Any]:
    return {"kind": named.kind, "name": named.name, "source": named.source, "size": named.size}


def _left_json(left: Left) -> Mapping[str, Any]:
    return {"stage": left.stage.value, "missing": left.missing}


def _moment_json(moment: Moment) -> Mapping[str, Any]:
    verdict = moment.verdict
    return {
        "door": moment.door.value,
        "stage": moment.stage.value,
        "rules": [_told_json(each) for each in moment.rules],
        "action": verdict.action.value,
        "rule": verdict.rule,
        "answer": moment.answer,
        "effects": _effects(moment),
        "limits": [
            {
                "rule": each.rule,
                "used": each.used,
                "maximum": each.maximum,
                "exceeded": each.exceeded,
                "blocked": each.blocked,
                "degraded": each.degraded,
            }
            for each in verdict.limits
        ],
    }


def _told_json(told: Told) -> Mapping[str, Any]:
    return {
        "stage": told.rule.stage.value,
        "rule": told.rule.name,
        "line": told.rule.line,
        "outcome": told.step.outcome.value,
        "detail": told.step.detail,
        "clauses": [
            {"text": part.text, "held": part.held, "depth": part.depth, "facts": dict(part.facts)}
            for part in told.parts
        ],
    }
