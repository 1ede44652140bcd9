"""Texts with facts in braces: `{client_address} may not send for {sender_domain}`.

What comes from the wire enters escaped, as ASCII (a reply has nothing else without RFC 6531) and bounded,
and the whole is bounded again. `{{` and `}}` are braces.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from itertools import pairwise

from mailreeve_policyd.escape import ELLIPSIS
from mailreeve_policyd.facts import FACTS, Fact
from mailreeve_policyd.judgement import Exceeded
from mailreeve_policyd.limits import Charge, Usage
from mailreeve_policyd.rules.nodes import Subject, Text, Word
from mailreeve_policyd.rules.scope import Scope, shown
from mailreeve_policyd.rules.source import Mistake, Place, quote, suggest
from mailreeve_policyd.transaction import Transaction

MAX_TEXT = 400
"""Characters of a text when its facts stand in it: a reply line has 512 octets with its codes (RFC 5321
section 4.5.3.1.5), and an MTA adds words of its own."""

RETRY_AFTER = "retry_after"
RETRY_AFTER_SECONDS = "retry_after_seconds"
WAITS = frozenset((RETRY_AFTER, RETRY_AFTER_SECONDS))
"""Names that only the text of a limit's `else` may use."""

STANDING = frozenset(("used", "maximum", "period"))
"""Names that only the texts of a limit may use: `else` and `warn at`."""

# literal brace | {name} | a brace that is neither
_PART = re.compile(r"(\{\{|\}\}|\{[^{}]*\}|[{}])")

# {TABLE[FACT]}: what stands in a table
_FROM_TABLE = re.compile(r"([A-Za-z_][A-Za-z0-9_-]*)\[([a-z_]+)\]\Z")

_UNITS = ((86_400, "day"), (3600, "hour"), (60, "minute"), (1, "second"))


class Allowed(Enum):
    """What may stand in a text beside facts, and whether it must be ASCII."""

    REPLY = "reply"
    """Goes over the wire: ASCII (RFC 5321 section 4.2), facts alone."""
    LIMIT_REPLY = "limit reply"
    """The same of a limit's `else`: waits and standing, too."""
    NOTICE = "notice"
    """For people: any printable text."""
    LIMIT_NOTICE = "limit notice"
    LIMIT_WARNING = "limit warning"
    """Nothing is refused yet: no waits."""

    @property
    def is_ascii(self) -> bool:
        """Must it be ASCII?"""
        return self in (Allowed.REPLY, Allowed.LIMIT_REPLY)

    @property
    def names(self) -> frozenset[str]:
        """The names that are no facts."""
        if self in (Allowed.LIMIT_REPLY, Allowed.LIMIT_NOTICE):
            return WAITS | STANDING
        return STANDING if self is Allowed.LIMIT_WARNING else frozenset()


@dataclass(frozen=True, slots=True)
class Template:
    """A text in parts: literal, a fact, or (as `_Value`) a name of WAITS or STANDING."""

    parts: tuple[str | Fact | _Value, ...]
    is_ascii: bool = True

    @property
    def facts(self) -> tuple[Fact, ...]:
        """The facts that stand in it."""
        return tuple(part for part in self.parts if isinstance(part, Fact))

    @property
    def tells_wait(self) -> bool:
        """Does it say how long to wait?"""
        return any(isinstance(part, _Value) and part.name in WAITS for part in self.parts)

    def render(self, transaction: Transaction, values: Mapping[str, str] | None = None) -> str:
        """One printable line of at most MAX_TEXT characters, in ASCII where that is asked."""
        text = "".join([self._render(part, transaction, values or {}) for part in self.parts])
        return text if len(text) <= MAX_TEXT else text[: MAX_TEXT - len(ELLIPSIS)] + ELLIPSIS

    def _render(self, part: str | Fact | _Value, transaction: Transaction, values: Mapping[str, str]) -> str:
        if isinstance(part, str):
            return part
        if isinstance(part, Fact):
            return shown(part, transaction, ascii_only=self.is_ascii)
        return values.get(part.name, "a while")


@dataclass(frozen=True, slots=True)
class _Value:
    name: str


def compile_template(text: Text, scope: Scope, allowed: Allowed = Allowed.REPLY, offset: int = 0) -> Template:
    """The text of an action, from its character `offset` on.

    Raises:
        Mistake: a name in braces is no fact that is known here, or the text is no ASCII or too long.
    """
    wanted = text.text[offset:]
    if not wanted.isprintable() or (allowed.is_ascii and not wanted.isascii()):
        hint = "a reply and a header field are ASCII (RFC 5321 section 4.2)"
        raise Mistake(text.at, "this text holds a character that is no printable ASCII", hint)
    if len(wanted) > MAX_TEXT:
        raise Mistake(text.at, f"this text is longer than {MAX_TEXT} characters", "a reply is one line")
    parts = []
    column = text.at.column + 1 + offset  # after the quote
    for part in _PART.split(wanted):
        if part:
            parts.append(_compile(part, Place(text.at.line, column), scope, allowed))
        column += len(part)
    return Template(tuple(parts), allowed.is_ascii)


def _compile(part: str, at: Place, scope: Scope, allowed: Allowed) -> str | Fact | _Value:
    if part in ("{{", "}}"):
        return part[0]
    if part in ("{", "}"):
        raise Mistake(at, f"a single {quote(part)} in a text", f"write {{fact}}, or `{part * 2}` for a brace")
    if not part.startswith("{"):
        return part
    name = part[1:-1]
    if name in allowed.names:
        return _Value(name)
    if name in WAITS or name in STANDING:
        raise Mistake(at, f"{quote(part)} stands only in the text of a limit", "write it after `else`")
    if table := _FROM_TABLE.match(name):
        return scope.fact(Subject(at, table[2], table=Word(at, table[1])))
    if name not in FACTS:
        raise Mistake(at, f"unknown name {quote(part)} in a text", suggest(name, [*FACTS, *WAITS, *STANDING]))
    return scope.fact(Subject(at, name))


def values_of(exceeded: Exceeded) -> Mapping[str, str]:
    """What WAITS and STANDING are in a text."""
    standing, wait = usage_values(exceeded.charge, exceeded.usage), exceeded.longest
    if wait is None:
        return standing
    return {**standing, RETRY_AFTER: spoken(wait), RETRY_AFTER_SECONDS: str(_whole_seconds(wait))}


def usage_values(charge: Charge, usage: Usage) -> Mapping[str, str]:
    """What STANDING is in a text."""
    period = spoken(charge.limit.period)
    return {"used": str(usage.used), "maximum": str(usage.maximum), "period": period}


def _whole_seconds(wait: timedelta) -> int:
    return max(1, -(-wait // timedelta(seconds=1)))


def spoken(wait: timedelta) -> str:
    """For people: rounded up, its two largest units. 250 seconds are "4 minutes 10 seconds"."""
    seconds = _whole_seconds(wait)
    for (size, _), (smaller, _) in pairwise(_UNITS):
        if seconds >= size:
            seconds = -(-seconds // smaller) * smaller
            break
    return " ".join(_words(seconds)[:2])


def _words(seconds: int) -> Sequence[str]:
    words = []
    for size, name in _UNITS:
        count, seconds = divmod(seconds, size)
        if count:
            words.append(f"{count} {name}{'s' if count > 1 else ''}")
    return words
