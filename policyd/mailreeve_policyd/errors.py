"""The three kinds of trouble that are raised; a check's failing outcome is a value and never one of these.

Anything else that is raised is a bug of ours: each door has one `except Exception` that logs the
traceback and gives the fail-safe answer.
"""

from __future__ import annotations

from dataclasses import dataclass

from mailreeve_policyd.escape import escape

MAX_PATH = 4096
"""Characters of a path in a message: as many as Linux takes (PATH_MAX)."""


class ResolverError(Exception):
    """DNS cannot say now: timeout, SERVFAIL, refused, budget spent. Becomes temperror, never fail."""


class StoreError(Exception):
    """The limit store cannot say now. Becomes what the limit's on-unavailable says."""


class ProtocolError(Exception):
    """A peer broke its protocol or grammar. The door logs it, closes, sends nothing."""


class BoundError(ProtocolError):
    """A peer sent more than it may. The door closes as for any ProtocolError, and records it.

    `bound` is the name of the setting that says how much, or of the constant; `maximum` its value.
    """

    def __init__(self, problem: str, bound: str, maximum: int) -> None:
        super().__init__(problem)
        self.bound = bound
        self.maximum = maximum


@dataclass(eq=False)  # not frozen: contextlib and threading set __traceback__ on what they pass on
class ConfigError(Exception):
    """The operator's mistake: where it is, what it is, and what would be right.

    `place` is a key (`milter.listen`) or `line:column`; `excerpt` holds the offending line and a
    caret below it, where the file is one of rules.
    """

    file: str
    place: str
    problem: str
    hint: str | None = None
    excerpt: str | None = None

    def __str__(self) -> str:
        head = ":".join(part for part in (escape(self.file, MAX_PATH), self.place) if part)
        lines = [f"{head}: {self.problem}"]
        if self.excerpt:
            lines.append(self.excerpt)
        if self.hint:
            lines.append(f"  hint: {self.hint}")
        return "\n".join(lines)
