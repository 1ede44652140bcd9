"""Authentication-Results: our own field, as RFC 8601 section 2.2 has it. Forged ones: authclaim.py.

Every value may come from a stranger: harmless.py says what may be shown of it. Must not know how results
came about.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

from mailreeve_milter.harmless import (
    MAX_REASON_CHARACTERS,
    MAX_VALUE_OCTETS,
    harmless_text,
    harmless_value,
)
from mailreeve_milter.message import HeaderField
from mailreeve_policyd.authres import MethodResult
from mailreeve_policyd.errors import ProtocolError
from mailreeve_policyd.smtp import parse_domain

FIELD_NAME = b"Authentication-Results"

MAX_RESULTS = 110
"""In one field: 100 signatures, the most that max_signatures allows, a note of more, the other methods."""

LINE_OCTETS = 70
"""After its tab a line is folded before it gets longer, where it has a place for that (78 with the tab)."""

FOLD = "\r\n\t"

# Keyword = sub-domain of RFC 5321: method, result, ptype and property names (section 2.2)
_KEYWORD = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?\Z")
# value = token / quoted-string (RFC 2045 section 5.1)
_TOKEN = re.compile(r"[!#$%&'*+\-.0-9A-Z^_`a-z{|}~]+\Z")
# pvalue may also be [[local-part] "@"] domain-name
_ADDRESS = re.compile(r"[!#$%&'*+\-.0-9A-Z^_`a-z{|}~]*@[A-Za-z0-9_](?:[A-Za-z0-9_.\-]*[A-Za-z0-9_])?\Z")


def format_field(authserv_id: str, results: Sequence[MethodResult]) -> HeaderField:
    """Our field, to be inserted above all others (section 4); folded with CRLF and a tab.

    `authserv_id` is the operator's. Without results the field says `none` (section 2.2, no-result).

    Raises:
        ValueError: a method, result or property that is no Keyword: a mistake of ours, not of the mail.
    """
    written = [_format_result(result) for result in results[:MAX_RESULTS]] or ["none"]
    text = (";" + FOLD).join((_format_id(authserv_id), *written))
    return HeaderField(FIELD_NAME, b" " + text.encode("ascii"))


@lru_cache(maxsize=8)  # a process has one
def _format_id(authserv_id: str) -> str:
    return _format_value(_to_ascii(authserv_id))


def _to_ascii(authserv_id: str) -> str:
    """A host's U-labels as A-labels; in a free text other letters are question marks."""
    if authserv_id.isascii():
        return authserv_id
    try:
        return parse_domain(authserv_id)
    except ProtocolError:
        return authserv_id.encode("ascii", "replace").decode("ascii")


def _format_result(result: MethodResult) -> str:
    """A resinfo = methodspec [reasonspec] *propspec, each on one line with others or alone."""
    line = _methodspec(result.method, result.result)
    lines = ""
    for piece in _pieces(result):
        if len(line) + 1 + len(piece) <= LINE_OCTETS:
            line += " " + piece
        else:
            lines += line + FOLD
            line = piece
    return lines + line


def _pieces(result: MethodResult) -> list[str]:
    """What follows the methodspec."""
    reason = result.reason
    pieces = [_reasonspec(reason[:MAX_REASON_CHARACTERS])] if reason else []
    for name, value in result.properties.items():
        once = len(value) <= MAX_VALUE_OCTETS
        piece = _format_once(name, value) if once else _propspec(name, value)
        if piece is not None:
            pieces.append(piece)
    return pieces


@lru_cache(maxsize=256)  # they are ours, a few dozen
def _methodspec(method: str, result: str) -> str:
    return f"{_keyword(method)}={_keyword(result)}"


@lru_cache(maxsize=1024)  # one a domain and outcome; a third of a megabyte
def _reasonspec(reason: str) -> str:
    return f'reason="{harmless_text(reason)}"'


def _propspec(name: str, value: str) -> str | None:
    """With its pvalue; None where the value cannot be told."""
    ptype, _, property_name = name.partition(".")
    spelled = f"{_keyword(ptype)}.{_keyword(property_name)}"
    written = _format_property(value)
    return None if written is None else f"{spelled}={written}"


# domains, selectors and algorithms come again and again; half a megabyte
_format_once = lru_cache(maxsize=1024)(_propspec)


def _format_property(value: str) -> str | None:
    shown = harmless_value(value)
    if shown is None or _ADDRESS.match(shown):
        return shown
    return _format_value(shown)


def _format_value(text: str) -> str:
    if _TOKEN.match(text):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _keyword(text: str) -> str:
    if _KEYWORD.match(text) is None:
        raise ValueError(f"no keyword of RFC 8601: {text!r}")
    return text
