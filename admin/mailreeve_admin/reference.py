"""The generated files of docs/reference: options, facts, the example file, the schema of the record."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec

from mailreeve_admin.audit_schema import format_audit_schema
from mailreeve_policyd.config import options, plain_type
from mailreeve_policyd.rules import actions_reference, facts_reference

CONFIGURATION_PAGE = "configuration.md"
EXAMPLE_FILE = "mailreeve.toml"
FACTS_PAGE = "facts.md"
AUDIT_SCHEMA = "audit.schema.json"


def pages() -> dict[str, str]:
    """Every generated file of docs/reference by its name."""
    return {
        CONFIGURATION_PAGE: format_configuration_page(),
        EXAMPLE_FILE: format_example_file(),
        FACTS_PAGE: format_facts_page(),
        AUDIT_SCHEMA: format_audit_schema(),
    }


def stale_pages(folder: Path) -> list[str]:
    """The names of the generated files that are missing or differ from what would be made now."""
    return [
        name
        for name, text in pages().items()
        if not (folder / name).is_file() or (folder / name).read_text("utf-8") != text
    ]


def write_pages(folder: Path) -> None:
    """Make every generated file anew."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in pages().items():
        (folder / name).write_text(text, "utf-8")


def format_configuration_page() -> str:
    """The reference of mailreeve.toml in Markdown, a table a section."""
    lines = [
        "# mailreeve.toml: every option",
        "",
        "Made from the program by `mailreeve config reference --write`;",
        "[the example file](mailreeve.toml) has the same texts as comments.",
        "An unknown option, a value of the wrong type and options that contradict each other are errors;",
        "`mailreeve config check` tells them with the place and what would be right.",
    ]
    for section, rows in _sections():
        lines += ["", f"## {_heading(section)}", ""]
        lines += ["| option | type | default | meaning |", "| --- | --- | --- | --- |"]
        lines += [
            f"| `{name}` | {_cell(_type_words(field.type))} | {_cell(_default(field))} | {_cell(text)} |"
            for name, field, text in rows
        ]
    return "\n".join(lines) + "\n"


def format_example_file() -> str:
    """A mailreeve.toml in which every option stands commented out with its default."""
    lines = [
        "# mailreeve.toml: every option with its default. Remove the # of what you change.",
        "# Check with: mailreeve config check",
    ]
    for section, rows in _sections():
        if section.endswith("[]"):
            lines += ["", f"#[[{section.removesuffix('[]')}]]"]
        elif section:
            lines += ["", f"[{section}]"]
        for name, field, text in rows:
            if _is_table_list(field.type):
                continue
            value = _toml(field) or _placeholder(field.type)
            lines += ["", *(f"# {line}" for line in _wrap(text)), f"#{name} = {value}"]
    return "\n".join(lines) + "\n"


def format_facts_page() -> str:
    """The reference of the facts and the actions of the rules language, in Markdown."""
    lines = [
        "# Facts and actions: what a rule may ask and do",
        "",
        "Made from the program by `mailreeve config reference --write`; [rules.md](../rules.md) explains.",
        "A fact is known from the stage in its row on, at the daemon that decides that stage.",
        "",
        facts_reference(),
        actions_reference(),
    ]
    return "\n".join(lines).rstrip("\n") + "\n"


_Row = tuple[str, msgspec.inspect.Field, str]


def _sections() -> Iterator[tuple[str, list[_Row]]]:
    """Options by table: ("", ...) for the top of the file, then each table in order."""
    grouped: dict[str, list[_Row]] = {}
    for name, field, text in options():
        section, _, last = name.rpartition(".")
        grouped.setdefault(section, []).append((last, field, text))
    yield from grouped.items()


def _heading(section: str) -> str:
    if not section:
        return "At the top of the file"
    return f"[[{section.removesuffix('[]')}]]" if section.endswith("[]") else f"[{section}]"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _is_table_list(kind: msgspec.inspect.Type) -> bool:
    bare = plain_type(kind)
    return isinstance(bare, msgspec.inspect.VarTupleType) and isinstance(
        bare.item_type, msgspec.inspect.StructType
    )


def _type_words(kind: msgspec.inspect.Type) -> str:
    bare = plain_type(kind)
    if isinstance(bare, msgspec.inspect.LiteralType):
        return ", ".join(f'`"{word}"`' for word in bare.values)
    if isinstance(bare, msgspec.inspect.VarTupleType):
        return "tables" if _is_table_list(bare) else f"list of {_type_words(bare.item_type)}"
    if isinstance(bare, msgspec.inspect.IntType | msgspec.inspect.FloatType):
        word = "whole number" if isinstance(bare, msgspec.inspect.IntType) else "number"
        return word + _range(bare)
    return "true or false" if isinstance(bare, msgspec.inspect.BoolType) else "text"


def _range(kind: msgspec.inspect.IntType | msgspec.inspect.FloatType) -> str:
    low = kind.ge if kind.ge is not None else kind.gt
    if low is None and kind.le is None:
        return ""
    above = "above " if kind.gt is not None else ""
    return (
        f", {above}{low:.12g} to {kind.le:.12g}" if kind.le is not None else f", {above or 'from '}{low:.12g}"
    )


def _toml(field: msgspec.inspect.Field) -> str:
    """The default as it would be written in the file; "" where there is none."""
    if field.default is msgspec.NODEFAULT or field.default is None:
        return ""
    return _toml_value(field.default)


def _placeholder(kind: msgspec.inspect.Type) -> str:
    bare = plain_type(kind)
    if isinstance(bare, msgspec.inspect.LiteralType):
        return f'"{bare.values[0]}"'
    if isinstance(bare, msgspec.inspect.VarTupleType):
        return '["..."]'
    return "0" if isinstance(bare, msgspec.inspect.IntType) else '"..."'


def _toml_value(value: object) -> str:
    if isinstance(value, tuple):
        return "[" + ", ".join(_toml_value(item) for item in value) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{value}"' if isinstance(value, str) else str(value)


def _default(field: msgspec.inspect.Field) -> str:
    if field.default is None:
        return "not given"
    return f"`{_toml(field)}`" if _toml(field) else "none: must be given"


def _wrap(text: str, width: int = 96) -> Iterator[str]:
    line = ""
    for word in text.split():
        if line and len(line) + len(word) >= width:
            yield line
            line = ""
        line += (" " if line else "") + word
    yield line
