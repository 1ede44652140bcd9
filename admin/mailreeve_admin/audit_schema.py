"""The JSON Schema of a line of the record (draft 2020-12), made from the structs that lines are written from.

What the structs cannot say is added here: closed sets of words, bounds, and what each kind of line holds.
"""

from __future__ import annotations

import json
from typing import Any

import msgspec

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
    "AuditRecord.event": ["decision", "message"],
    "AuditRecord.stage": _STAGES,
    "Decided.action": [action.value for action in Action],
    "Decided.stage": _STAGES,
    "WouldHave.stage": _STAGES,
    "Told.kind": [kind.value for kind in NoticeKind],
}
_ALWAYS = ("client", "verdict", "spent_ms")
"""Keys with a default that are written all the same."""

_DECISION: Schema = {"signatures": False, "removed": False, "message_id": False, "author_domain": False}
_MESSAGE: Schema = {
    "daemon": {"const": "milter"},
    "stage": {"const": Stage.END_OF_MESSAGE.value},
    "repeated": False,
}


def audit_schema() -> Schema:
    """The schema of any line."""
    _, parts = msgspec.json.schema_components((AuditRecord,), ref_template="#/$defs/{name}")
    parts = {name: _tighten(name, part) for name, part in parts.items()}
    record = parts.pop("AuditRecord")
    record["properties"]["time"]["pattern"] = TIME
    record["properties"]["spent_ms"]["required"] = ["total"]
    record["required"] = [*record["required"], *_ALWAYS]
    return {
        "$schema": DIALECT,
        **record,
        "title": "A line of Mailreeve's record",
        "description": "docs/audit.md tells what each key means. A key that is missing means none, or no.",
        "oneOf": [_kind("decision", _DECISION), _kind("message", _MESSAGE)],
        "$defs": parts,
    }


def format_audit_schema() -> str:
    """The schema as the text of a file."""
    return json.dumps(audit_schema(), indent=2) + "\n"


def _kind(event: str, properties: Schema) -> Schema:
    return {"properties": {"event": {"const": event}, **properties}}


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
