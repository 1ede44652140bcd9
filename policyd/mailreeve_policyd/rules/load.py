"""A rules file on disk to a Ruleset that has passed its own expect lines; nothing in between takes force."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from mailreeve_policyd.errors import ConfigError
from mailreeve_policyd.facts import Door
from mailreeve_policyd.judgement import OnUnknown
from mailreeve_policyd.rules.compiler import compile_rules, load_names
from mailreeve_policyd.rules.expects import run_expects
from mailreeve_policyd.rules.outside import Outside
from mailreeve_policyd.rules.parser import parse
from mailreeve_policyd.rules.ruleset import Ruleset
from mailreeve_policyd.rules.sets import ReadFile
from mailreeve_policyd.rules.source import MAX_RULES_BYTES, Mistake, Source, read_text
from mailreeve_policyd.smtp import Stage

_NOTHING = Outside()


def load_ruleset(path: Path, doors: Mapping[Stage, Door], on_unknown: OnUnknown = OnUnknown.DEFER) -> Ruleset:
    """The rules of a file and of the set and table files beside it, tested by its expect lines.

    `doors` says who decides each stage and lacks stages that nobody decides. `on_unknown` is the
    setting, for the expect lines.

    Raises:
        ConfigError: the first mistake, with file, `line:column`, excerpt and hint; or a failing expect.
    """
    text = read_text(path, str(path), MAX_RULES_BYTES)
    return parse_ruleset(text, str(path), doors, on_unknown, folder=path.parent)


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
        names = load_names(parsed, folder, read_file, outside)
        ruleset = compile_rules(parsed, file, doors, names)
        run_expects(parsed, ruleset, doors, names, on_unknown)
    except Mistake as mistake:
        raise source.error(mistake) from mistake
    return ruleset
