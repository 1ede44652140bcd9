"""Is every line of the record as docs/reference/audit.schema.json promises?"""

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match

from tests.lab.process import LabError
from tests.lab.tree import REPOSITORY

SCHEMA = REPOSITORY / "docs/reference/audit.schema.json"


@cache
def validator() -> Draft202012Validator:
    """Of the schema that is in the repository."""
    schema = json.loads(SCHEMA.read_text())
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def check_record(record: Any) -> None:
    """LabError for a record that breaks the promise, with where it does."""
    error = best_match(validator().iter_errors(record))
    if error is not None:
        raise LabError(f"no record as {SCHEMA.name} has it: {error.json_path}: {error.message}: {record}")


def check_file(path: Path) -> None:
    """As `check_record`, each whole line of a file; one that a full disk or a killed process tore is none.

    Lines that differ in nothing but their texts and numbers are looked at a few times, not each of thousands.
    """
    seen: dict[str, int] = {}
    for record in _records(path):
        shape = _shape(record)
        seen[shape] = seen.get(shape, 0) + 1
        if seen[shape] <= TIMES:
            check_record(record)


BEGIN = b'{"time":"20'
"""Of every line, those that were torn included."""

TIMES = 20
"""How many lines of one shape are looked at: the schema takes a millisecond a line."""


def _records(path: Path) -> Iterator[Any]:
    for line in path.read_bytes().splitlines() if path.exists() else ():
        try:
            yield json.loads(line)
        except ValueError:
            if not line.startswith(BEGIN[: len(line)]):
                raise LabError(
                    f"{path.name} holds what is no record and no begin of one: {line[:200]!r}"
                ) from None


def _shape(value: Any) -> str:
    """What kinds of things stand where."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{_shape(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(sorted({_shape(one) for one in value})) + "]"
    return type(value).__name__
