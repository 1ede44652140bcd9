"""A rules file on disk to a Ruleset that has passed its own expect lines; nothing in between takes force."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from mailreeve_policyd.errors import ConfigError
from mailreeve_policyd.escape import escape
from mailreeve_policyd.facts import Door, FactValue
from mailreeve_policyd.judgement import OnUnknown
from mailreeve_policyd.rules.advice import advise
from mailreeve_policyd.rules.compiler import Names, compile_rules, files_of, load_names
from mailreeve_policyd.rules.expects import run_expects
from mailreeve_policyd.rules.nodes import RulesFile, SetNode, TableNode
from mailreeve_policyd.rules.outside import Outside
from mailreeve_policyd.rules.parser import parse
from mailreeve_policyd.rules.ruleset import Named, Ruleset
from mailreeve_policyd.rules.sets import NamedSet, ReadFile
from mailreeve_policyd.rules.source import MAX_RULES_BYTES, Mistake, Source, read_text
from mailreeve_policyd.rules.tables import Table
from mailreeve_policyd.smtp import Stage
from mailreeve_policyd.watched_files import stamp_of

_NOTHING = Outside()


def load_ruleset(
    path: Path,
    doors: Mapping[Stage, Door],
    on_unknown: OnUnknown = OnUnknown.DEFER,
    outside: Outside = _NOTHING,
) -> Ruleset:
    """The rules of a file and of the set and table files beside it, tested by its expect lines.

    `doors` says who decides each stage and lacks stages that nobody decides. `on_unknown` is the
    setting, for the expect lines. `outside` is what rules may ask beside the transaction.

    Raises:
        ConfigError: the first mistake, with file, `line:column`, excerpt and hint; or a failing expect.
    """
    text = read_text(path, str(path), MAX_RULES_BYTES)
    return parse_ruleset(text, str(path), doors, on_unknown, folder=path.parent, outside=outside)


def parse_ruleset(
    text: str,
    file: str,
    doors: Mapping[Stage, Door],
    on_unknown: OnUnknown = OnUnknown.DEFER,
    *,
    folder: Path = Path(),
    read_file: ReadFile = read_text,
    outside: Outside = _NOTHING,
) -> Ruleset:
    """As `load_ruleset`, for a text; `file` names it in messages, `folder` is where its files lie."""
    source = Source(file, text)
    try:
        if len(text) > MAX_RULES_BYTES:
            raise ConfigError(file, "", f"larger than {MAX_RULES_BYTES} bytes")
        parsed = parse(source)
    except Mistake as mistake:
        raise source.error(mistake) from mistake
    return _make(_Origin(source, parsed, doors, on_unknown, folder, read_file, outside), None)


@dataclass(frozen=True, slots=True)
class _Origin:
    """What a ruleset is made of but for the files that it names, so that it can be made again."""

    source: Source
    parsed: RulesFile
    doors: Mapping[Stage, Door]
    on_unknown: OnUnknown
    folder: Path
    read_file: ReadFile
    outside: Outside


def _make(origin: _Origin, known: Names | None) -> Ruleset:
    """The rules with the sets and tables that are `known` and all others from their files, tested."""
    parsed = origin.parsed
    stamps = {path: stamp_of(path) for path in files_of(parsed, origin.folder)}  # before they are read
    try:
        names = load_names(parsed, origin.folder, origin.read_file, origin.outside, known)
        ruleset = compile_rules(parsed, origin.source.file, origin.doors, names)
        run_expects(parsed, ruleset, origin.doors, names, origin.on_unknown)
    except Mistake as mistake:
        raise origin.source.error(mistake) from mistake

    def again(changed: frozenset[Path]) -> Ruleset:
        return _make(origin, names.but_of(changed, parsed, origin.folder))

    def given(facts: Mapping[str, FactValue]) -> Ruleset:
        outside = replace(names.outside, given=facts)
        asked = Names(names.sets, names.tables, outside, names.texts, names.language)
        return compile_rules(parsed, origin.source.file, origin.doors, asked)

    notes = advise(parsed, origin.doors, names.sets, origin.outside.unfound)
    return replace(
        ruleset,
        notes=notes,
        stamps=stamps,
        again=again,
        beside=origin.outside.files,
        named=tuple(_named(parsed, names)),
        given=given,
    )


def _named(parsed: RulesFile, names: Names) -> Iterator[Named]:
    for node in parsed.sets:
        found = names.sets[node.name.text]
        size = len(found.entries) if isinstance(found, NamedSet) else None
        yield Named("set", node.name.text, _source(node), size)
    for table in parsed.tables:
        rows = names.tables[table.name.text]
        yield Named("table", table.name.text, _source(table), len(rows) if isinstance(rows, Table) else None)


def _source(node: SetNode | TableNode) -> str:
    if node.backend is None or node.argument is None:
        return "here"
    return f'{node.backend.text} "{escape(node.argument.text)}"'
