"""Nodes to a Ruleset: names are resolved, types compared, stages and doors checked. Runs no expect line."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from mailreeve_policyd.facts import FACTS, Door
from mailreeve_policyd.judgement import OnUnknown
from mailreeve_policyd.rules.actions import Decide, Note, compile_action
from mailreeve_policyd.rules.charging import Counter, compile_limit
from mailreeve_policyd.rules.comparisons import facts_of
from mailreeve_policyd.rules.conditions import comparisons_of, compile_condition
from mailreeve_policyd.rules.index import RuleIndex, triggers_of
from mailreeve_policyd.rules.language import Language, check_tag, read_tag
from mailreeve_policyd.rules.nodes import (
    LanguageNode,
    LimitNode,
    Operator,
    RuleNode,
    RulesFile,
    SetNode,
    TableNode,
    TextNode,
    Word,
)
from mailreeve_policyd.rules.outside import Outside
from mailreeve_policyd.rules.ruleset import Rule, Ruleset
from mailreeve_policyd.rules.scope import Scope
from mailreeve_policyd.rules.sets import LiveSet, NamedSet, ReadFile, load_set, path_of
from mailreeve_policyd.rules.source import Mistake, one_of, quote, suggest
from mailreeve_policyd.rules.spelling import texts_of
from mailreeve_policyd.rules.spoofing import check_spoofable
from mailreeve_policyd.rules.tables import LiveTable, Table, load_table
from mailreeve_policyd.rules.texts import check_texts
from mailreeve_policyd.smtp import Stage

MAX_RULES = 2000
"""Of one file: a decision reads them one after another."""

MAX_NAME = 64
"""Characters of a rule's name: it stands in replies, logs and metrics."""

_WEIGHTS = {Operator.MATCHES: 16}
"""What a comparison weighs, if not 1: most take a tenth of a microsecond, and a usual pattern one or two. The
worst takes some hundredths of a second, and four of these are not measured (ruleset.UNTIMED_WEIGHT)."""

_STAGE_HINTS = {
    "recipient": "rcpt", "sender": "mail", "eom": "end-of-message", "end_of_message": "end-of-message",
    "ehlo": "helo", "client": "connect", "body": "end-of-message", "eod": "end-of-message",
    "message": "end-of-message", "end-of-data": "end-of-message", "from": "mail", "to": "rcpt",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Names:
    """Sets and tables of a file, loaded once, and what else is asked outside."""

    sets: Mapping[str, NamedSet | LiveSet]
    tables: Mapping[str, Table | LiveTable]
    outside: Outside = field(default_factory=Outside)
    texts: Mapping[str, TextNode] = field(default_factory=dict)
    language: LanguageNode | None = None
    _languages: dict[tuple[Door, bool], Language] = field(default_factory=dict, repr=False, compare=False)
    """What `reply-language` comes to, made once: by door, and whether what it asks is known yet."""

    @property
    def are_live(self) -> bool:
        """Is one of them asked where it lives?"""
        named = (*self.sets.values(), *self.tables.values())
        return any(isinstance(each, LiveSet | LiveTable) for each in named)

    def but_of(self, changed: frozenset[Path], parsed: RulesFile, folder: Path) -> Names:
        """These names without the sets and tables of files that have changed."""
        stale = {node.name.text for node in _from_files(parsed) if _file_of(node, folder) in changed}
        return Names(
            {name: each for name, each in self.sets.items() if name not in stale},
            {name: each for name, each in self.tables.items() if name not in stale},
            self.outside,
        )

    def scope(self, stage: Stage, door: Door) -> Scope:
        """What a rule may name at a stage."""
        scope = Scope(stage, door, self.sets, self.tables, self.outside, self.texts)
        return replace(scope, language=self._language(self.language, scope)) if self.language else scope

    def _language(self, node: LanguageNode, scope: Scope) -> Language:
        key = (scope.door, _is_known(node, scope))
        if key not in self._languages:
            self._languages[key] = _compile_language(node, scope)
        return self._languages[key]


def _from_files(parsed: RulesFile) -> Iterator[SetNode | TableNode]:
    nodes: tuple[SetNode | TableNode, ...] = (*parsed.sets, *parsed.tables)
    for node in nodes:
        if node.backend is not None and node.backend.text == "file":
            yield node


def files_of(parsed: RulesFile, folder: Path) -> frozenset[Path]:
    """The set and table files that a rules file names."""
    return frozenset(_file_of(node, folder) for node in _from_files(parsed))


def _file_of(node: SetNode | TableNode, folder: Path) -> Path:
    """The file of a set or table that comes from one."""
    return path_of(node.argument, folder) if node.argument is not None else folder


def load_names(
    parsed: RulesFile,
    folder: Path,
    read_file: ReadFile,
    outside: Outside,
    known: Names | None = None,
) -> Names:
    """The sets and tables of a file; those that are `known` are not read again.

    Raises:
        Mistake: a name stands twice, or a file is missing.
        ConfigError: a file is no set or table.
    """
    words = [*(node.name for node in parsed.sets), *(node.name for node in parsed.tables)]
    _check_unique(words, "set or table")
    kept, live = known or Names({}, {}), outside.live
    sets = {
        node.name.text: kept.sets.get(node.name.text) or load_set(node, folder, read_file, live)
        for node in parsed.sets
    }
    tables = {
        node.name.text: kept.tables.get(node.name.text) or load_table(node, folder, read_file, live)
        for node in parsed.tables
    }
    return Names(sets, tables, outside, _load_texts(parsed), _language_node(parsed))


def _load_texts(parsed: RulesFile) -> Mapping[str, TextNode]:
    node = _language_node(parsed)
    return check_texts(parsed.texts, Language(check_tag(node.default)) if node else Language())


def _language_node(parsed: RulesFile) -> LanguageNode | None:
    if not parsed.languages:
        return None
    first, *others = parsed.languages
    if others:
        problem = f"`reply-language` stands in line {first.at.line} already"
        raise Mistake(others[0].at, problem, "a file has one")
    return first


def _is_known(node: LanguageNode, scope: Scope) -> bool:
    """Is what the table is asked by known at this stage? Until it is, all have the default."""
    fact = FACTS.get(node.asked.name) if node.asked is not None else None
    return fact is None or fact.known_from.get(scope.door, scope.stage) <= scope.stage


def _compile_language(node: LanguageNode, scope: Scope) -> Language:
    """The language at a stage.

    Raises:
        Mistake: there is no such fact or table, or the door never knows the fact.
        ConfigError: a row of the table is no language.
    """
    default = check_tag(node.default)
    if node.asked is None or not _is_known(node, scope):
        return Language(default)
    return Language(default, scope.lookup(node.asked, read_tag), (scope.fact(node.asked),))


def _check_unique(words: Iterable[Word], kind: str) -> None:
    first: dict[str, Word] = {}
    for word in words:
        other = first.setdefault(word.text, word)
        if other is not word:
            problem = f"the name {quote(word.text)} is taken by the {kind} of line {other.at.line}"
            raise Mistake(word.at, problem, "each has its own name")


def compile_rules(parsed: RulesFile, file: str, doors: Mapping[Stage, Door], names: Names) -> Ruleset:
    """All blocks, compiled. Several blocks of one stage are one, in the order of the file.

    Raises:
        Mistake: the first rule that means nothing.
        ConfigError: an entry of a set or table file cannot be what a rule needs.
    """
    nodes = [node for block in parsed.blocks for node in block.rules]
    _check_unique([node.name for node in nodes], "rule")
    if len(nodes) > MAX_RULES:
        raise Mistake(nodes[MAX_RULES].name.at, f"more than {MAX_RULES} rules", "name many values in a set")
    for stage, door in doors.items():
        names.scope(stage, door)  # for a mistake in `reply-language`, whoever cites a text
    rules: list[Rule] = []
    earlier: dict[Stage, list[RuleNode]] = {}
    for block in parsed.blocks:
        stage, door = deciding(block.stage, doors)
        scope = names.scope(stage, door)
        above = earlier.setdefault(stage, [])
        for node, text in zip(block.rules, texts_of(block, parsed.source), strict=True):
            rules.append(_compile_rule(node, scope, text))
            check_spoofable(node, above)
            above.append(node)
    blocks = {stage: tuple(rule for rule in rules if rule.stage is stage) for stage in earlier}
    blocks = {stage: found for stage, found in blocks.items() if found}
    indexes = {stage: RuleIndex([rule.triggers for rule in found]) for stage, found in blocks.items()}
    return Ruleset(file, tuple(rules), blocks=blocks, indexes=indexes)


def parse_stage(word: Word) -> Stage:
    """A stage by its name.

    Raises:
        Mistake: there is none of this name.
    """
    try:
        return Stage(word.text)
    except ValueError:
        stages = [stage.value for stage in Stage]
        meant = _STAGE_HINTS.get(word.text.lower())
        hint = f"did you mean `{meant}`?" if meant else suggest(word.text, stages)
        raise Mistake(
            word.at, f"unknown stage {quote(word.text)}", hint or f"stages: {one_of(stages)}"
        ) from None


def deciding(word: Word, doors: Mapping[Stage, Door]) -> tuple[Stage, Door]:
    """A stage by its name, and who decides it.

    Raises:
        Mistake: there is none of this name, or nobody decides it.
    """
    stage = parse_stage(word)
    door = doors.get(stage)
    if door is None:
        hint = f'add "{stage.value}" to `decides` of [policyd] or [milter] in mailreeve.toml'
        raise Mistake(word.at, f"nobody decides {stage.value}", hint)
    return stage, door


def _compile_rule(node: RuleNode, scope: Scope, text: str) -> Rule:
    name = node.name.text
    if len(name) > MAX_NAME:
        raise Mistake(node.name.at, f"the name of this rule is longer than {MAX_NAME} characters")
    body = _compile_body(node, scope)
    clause = compile_condition(node.condition, scope) if node.condition is not None else None
    condition = clause.test if clause is not None else None
    asked = [fact for each in comparisons_of(node.condition) for fact in facts_of(each, scope)]
    asks = tuple({fact.name: fact for fact in asked}.values())
    facts = (*asks, *body.facts, *(scope.language.asks if scope.language else ()))
    observed = node.observed is not None
    at, unknown = node.name.at.line, _on_unknown(node)
    return Rule(
        name,
        scope.stage,
        at,
        condition,
        unknown,
        asks,
        facts,
        body,
        observed,
        clause,
        text,
        triggers_of(node.condition, scope),
        weight=sum(_WEIGHTS.get(each.operator, 1) for each in comparisons_of(node.condition)) or 1,
    )


def _compile_body(node: RuleNode, scope: Scope) -> Decide | Note | Counter:
    if isinstance(node.body, LimitNode):
        return compile_limit(node.body, node.name.text, scope, observed=node.observed is not None)
    return compile_action(node.body, node.name.text, scope)


def _on_unknown(node: RuleNode) -> OnUnknown | None:
    word = node.on_unknown
    if word is None:
        return None
    try:
        return OnUnknown(word.text)
    except ValueError:
        words = [each.value for each in OnUnknown]
        hint = suggest(word.text, words) or f"write {one_of(words)}"
        raise Mistake(word.at, f"unknown {quote(word.text)} after `on-unknown`", hint) from None
