"""Where in a rules file something stands, and how a mistake there is told.

Knows text, lines and carets; no grammar. `Mistake` is what the rooms of this package raise among
themselves; it becomes a ConfigError here, where the file is known.
"""

from __future__ import annotations

import difflib
import logging
import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from mailreeve_policyd.errors import ConfigError
from mailreeve_policyd.escape import escape
from mailreeve_policyd.regular_file import open_regular

log = logging.getLogger(__name__)

MAX_RULES_BYTES = 1_048_576
"""A rules file is read by people: a megabyte is far beyond that, and parsed within seconds."""

EXCERPT_WIDTH = 100
"""Characters of the offending line that are shown: what a terminal holds."""

LEFT_OF_CARET = 60
"""How many of them stand before the caret, where the line is longer than that."""


@dataclass(frozen=True, slots=True)
class Place:
    """A place in the rules file; both count from 1."""

    line: int
    column: int


@dataclass(eq=False)
class Mistake(Exception):  # noqa: N818 -- it is raised as what the administrator made
    """The administrator's mistake at a place of the rules file.

    Raised within this package only. `problem` and `hint` are finished sentences without a full stop;
    what they quote has passed `quote`.
    """

    at: Place
    problem: str
    hint: str | None = None


@dataclass(frozen=True, slots=True)
class Source:
    """The text of a rules file and its name."""

    file: str
    text: str

    def error(self, mistake: Mistake) -> ConfigError:
        """The mistake with file, `line:column`, the line and a caret below the place."""
        place = f"{mistake.at.line}:{mistake.at.column}"
        return ConfigError(self.file, place, mistake.problem, mistake.hint, self._excerpt(mistake.at))

    def _excerpt(self, at: Place) -> str:
        lines = self.text.split("\n")
        line = lines[at.line - 1] if at.line <= len(lines) else ""
        start = max(0, at.column - 1 - LEFT_OF_CARET)
        before = _shown(line[start : at.column - 1])
        after = _shown(line[at.column - 1 : start + EXCERPT_WIDTH])
        return f"    {before}{after}".rstrip() + f"\n    {' ' * len(before)}^"


def _shown(text: str) -> str:
    """One column a character, whatever it is, so that the caret stands right."""
    return "".join(c if c.isprintable() else " " if c in "\t\r" else "?" for c in text)


def quote(text: str) -> str:
    """A word of the file as a message shows it: short, escaped, in backticks."""
    return f"`{escape(text, 60)}`"


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word that was probably meant, or None."""
    found = difflib.get_close_matches(word.lower().replace("-", "_"), [*known], n=1, cutoff=0.6)
    found = found or difflib.get_close_matches(word.lower(), [*known], n=1, cutoff=0.6)
    return found[0] if found else None


def one_of(words: Iterable[str]) -> str:
    """`a, b or c`."""
    *init, last = words
    return f"{', '.join(init)} or {last}" if init else last


def suggest(word: str, known: Iterable[str]) -> str | None:
    """The hint for a word that is not known: the nearest one that is."""
    near = nearest(word, known)
    return f"did you mean `{near}`?" if near else None


def read_text(path: Path, shown: str, limit: int) -> str:
    """A UTF-8 file of at most `limit` bytes; a byte order mark is dropped.

    Raises:
        ConfigError: it cannot be read, is too large, or is not UTF-8 (with line and column).
    """
    try:
        with open_regular(path) as file:
            _warn_if_anyone_writes(file.fileno(), shown)
            raw = file.read(limit + 1)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "not a path"
        raise ConfigError(shown, "", f"cannot be read: {reason}") from error
    return decode_text(raw, shown, limit)


def _warn_if_anyone_writes(descriptor: int, shown: str) -> None:
    if os.fstat(descriptor).st_mode & stat.S_IWOTH:
        log.warning("%s can be written by every user of this machine: chmod o-w", escape(shown, 255))


def decode_text(raw: bytes, shown: str, limit: int) -> str:
    """The bytes of a file as text; see `read_text`."""
    if len(raw) > limit:
        raise ConfigError(shown, "", f"larger than {limit} bytes")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        column = error.start - (raw.rfind(b"\n", 0, error.start) + 1) + 1
        problem = f"not UTF-8: the byte 0x{error.object[error.start]:02x}"
        raise ConfigError(shown, f"{line}:{column}", problem, "save the file as UTF-8") from error
