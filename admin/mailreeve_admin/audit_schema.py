"""The JSON Schema of a line of the record (draft 2020-12), made from the structs that lines are written from.

What the structs cannot say is added here: closed sets of words, bounds, and what each kind of line holds.
"""

from __future__ import annotations

import json
from typing import Any, get_args

import msgspec

from mailreeve_policyd.audit_administration import Administered
from mailreeve_policyd.audit_bound import BoundRecord, Consequence
from mailreeve_policyd.audit_line import MAX_ITEMS
from mailreeve_policyd.audit_record import MAX_WHOLE, AuditRecord
from mailreeve_policyd.escape import MAX_SHOWN
from mailreeve_policyd.notice import NoticeKind
from mailreeve_policyd.smtp import Stage
from mailreeve_policyd.verdict import Action

Schema = dict[str, Any]

DIALECT = "https://json-schema.org/draft/2020-12/schema"
TIME = r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$"

_STAGES = [stage.value for stage in Stage]
_WORDS: dict[str, list[str]] = {
    "AuditRecord.daemon": ["policyd", "milter"],
    "AuditRecord.stage": _STAGES,
    "Decided.action": [action.value for action in Action],
    "Decided.stage": _STAGES,
    "WouldHave.stage": _STAGES,
    "Told.kind": [kind.value for kind in NoticeKind],
    "Administered.daemon": ["admin"],
    "BoundRecord.daemon": ["policyd", "milter"],
    "BoundRecord.consequence": list(get_args(Consequence)),
}
_ALWAYS = ("client", "verdict", "spent_ms")
"""Keys with a default that are written all the same."""

_NOT_IN_DECISION = ("signatures", "removed", "message_id", "author_domain")
_NOT_IN_MESSAGE = ("repeated",)


def audit_schema() -> Schema:
    """The schema of any line: of each kind the whole, so that nothing beyond its keys is allowed."""
    kinds_of_lines = AuditRecord, Administered, BoundRecord
    _, parts = msgspec.json.schema_components(kinds_of_lines, ref_template="#/$defs/{name}")
    parts = {name: _tighten(name, part) for name, part in parts.items()}
    record, administered = parts.pop("AuditRecord"), parts.pop("Administered")
    bound = parts.pop("BoundRecord")
    record["properties"]["spent_ms"]["required"] = ["total"]
    record["required"] += _ALWAYS
    message = _kind("message", record, _NOT_IN_MESSAGE)
    message["properties"] |= {
        "daemon": {"const": "milter"},
        "stage": {"const": Stage.END_OF_MESSAGE.value},
    }
    kinds = {
        "decision": _kind("decision", record, _NOT_IN_DECISION),
        "message": message,
        "administration": _kind("administration", administered, ()),
        "bound": _kind("bound", bound, ()),
    }
    return {
        "$schema": DIALECT,
        "title": "A line of Mailreeve's record",
        "description": "docs/audit.md tells what each key means. A key that is missing means none, or no.",
        "oneOf": [{"$ref": f"#/$defs/{name}"} for name in kinds],
        "$defs": kinds | parts,
    }


def format_audit_schema() -> str:
    """The schema as the text of a file."""
    return json.dumps(audit_schema(), indent=2) + "\n"


def _kind(event: str, part: Schema, without: tuple[str, ...]) -> Schema:
    """One kind of line: the struct that it is written from, less the keys that it never has."""
    properties = {key: value for key, value in part["properties"].items() if key not in without}
    own = {"time": {"type": "string", "pattern": TIME}, "event": {"const": event}}
    return {**part, "properties": properties | own}


def _tighten(name: str, part: Schema) -> Schema:
    """A struct's schema, with nothing beyond its keys, and each key as it is written."""
    properties = {
        key: _property(value, _WORDS.get(f"{name}.{key}"), key in part["required"])
        for key, value in part["properties"].items()
    }
    return {
        "type": "object",
        "properties": properties,
        "required": list(part["required"]),
        "additionalProperties": False,
    }


def _property(value: Schema, words: list[str] | None, is_required: bool) -> Schema:
    """A value, which is missing and not null where there is none."""
    if words:
        return {"enum": words}
    if "anyOf" in value:
        value = next(one for one in value["anyOf"] if one != {"type": "null"})
    kind = value.get("type", "")
    if kind == "boolean":
        return {"type": "boolean"} if is_required else {"const": True}
    if kind == "array":
        return {"type": "array", "items": _property(value["items"], None, True), "maxItems": MAX_ITEMS}
    if kind == "object":
        return {
            "type": "object",
            "propertyNames": {"maxLength": MAX_SHOWN},
            "additionalProperties": _property(value["additionalProperties"], None, True),
            "maxProperties": MAX_ITEMS,
        }
    return dict(_PLAIN.get(kind) or {"$ref": value["$ref"]})


_PLAIN: dict[str, Schema] = {
    "string": {"type": "string", "maxLength": MAX_SHOWN},
    "integer": {"type": "integer", "minimum": 0, "maximum": MAX_WHOLE},
    "number": {"type": "number", "minimum": 0},
}
