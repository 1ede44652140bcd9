"""The canonical forms of RFC 6376 section 3.4: header fields whole, the body as it streams by.

Knows octets alone. Every operation works on whole chunks, because a regular expression a line costs
ten times as much. Memory is a chunk's, whatever the body holds: runs of empty lines are counted, runs
of white space are one space.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Protocol

from mailreeve_milter.message import HeaderField, unfold

CRLF = b"\r\n"

_OPEN_ENDS = (b" \r", b"\r", b" ")  # of a chunk: what follows decides whether a space stays

MAX_EMPTY_LINES_AT_ONCE = 32_768
"""Empty lines that turn out not to be the last ones are given on in pieces of 64 KB."""

Sink = Callable[[bytes], None]
"""Takes the canonical body, piece by piece."""


class Canonicalization(Enum):
    """The words of c=."""

    SIMPLE = "simple"
    RELAXED = "relaxed"

    # A member is one object. Enum's own hash is a function of Python.
    __hash__ = object.__hash__


def canonical_field(field: HeaderField, canonicalization: Canonicalization) -> bytes:
    """The field with its CRLF (sections 3.4.1 and 3.4.2).

    `relaxed` is done here and not by dkimpy, which also strips VT and FF, being no WSP.
    """
    if canonicalization is Canonicalization.SIMPLE:
        return field.raw
    return relaxed_field(field)


def canonical_name(name: bytes) -> bytes:
    """A field's name as `relaxed` has it, by which fields are found, too."""
    return name.lower().rstrip(b" \t")


def relaxed_field(field: HeaderField) -> bytes:
    """The field with its CRLF as of section 3.4.2."""
    value = field.value
    if b"\n" in value:
        value = unfold(value)
    if b"\t" in value:
        value = value.replace(b"\t", b" ")
    while b"  " in value:
        value = value.replace(b"  ", b" ")
    return field.name.lower().rstrip(b" \t") + b":" + value.strip(b" ") + CRLF


def _reduce(octets: bytes) -> bytes:
    """Each run of WSP as one space."""
    text = octets.replace(b"\t", b" ")
    while b"  " in text:
        text = text.replace(b"  ", b" ")
    return text


class BodyCanonicalizer(Protocol):
    """Makes a canonical body from chunks, cut anywhere."""

    def update(self, chunk: bytes) -> None:
        """The next octets of the body, with CRLF line ends as on the wire."""

    def finish(self) -> None:
        """The body is complete. Called once."""


def body_canonicalizer(canonicalization: Canonicalization, sink: Sink) -> BodyCanonicalizer:
    """A new canonicalizer that gives its output to `sink`."""
    if canonicalization is Canonicalization.SIMPLE:
        return SimpleBody(sink, even_if_empty=True)
    return RelaxedBody(sink)


class SimpleBody:
    """Section 3.4.3: empty lines at the end are ignored, one CRLF ends the body.

    `even_if_empty` is that section's rule that a body without any line is one CRLF; `relaxed`, which
    shares the rest, leaves it empty.
    """

    __slots__ = ("_empty_lines", "_even_if_empty", "_open_cr", "_sink", "_written")

    def __init__(self, sink: Sink, *, even_if_empty: bool) -> None:
        self._sink = sink
        self._even_if_empty = even_if_empty
        self._empty_lines = 0  # CRLFs held back: they may be the last ones
        self._open_cr = False  # a CR at the end of a chunk: its LF may follow
        self._written = False

    def update(self, chunk: bytes) -> None:
        """See BodyCanonicalizer."""
        octets = b"\r" + chunk if self._open_cr else chunk
        self._open_cr = octets.endswith(b"\r")
        if self._open_cr:
            octets = octets[:-1]
        kept, line_ends = _split_line_ends(octets)
        if kept:
            self._write_empty_lines()
            self._sink(kept)
            self._written = True
        self._empty_lines += line_ends

    def finish(self) -> None:
        """See BodyCanonicalizer."""
        if self._open_cr:  # a bare CR is text
            self._write_empty_lines()
            self._sink(b"\r")
            self._written = True
        if self._written or self._even_if_empty:
            self._sink(CRLF)

    def _write_empty_lines(self) -> None:
        while self._empty_lines:
            lines = min(self._empty_lines, MAX_EMPTY_LINES_AT_ONCE)
            self._sink(CRLF * lines)
            self._empty_lines -= lines
            self._written = True


def _split_line_ends(octets: bytes) -> tuple[bytes, int]:
    """The octets without the CRLFs that they end in, and how many those were."""
    text = octets.rstrip(CRLF)
    tail = octets[len(text) :]
    if tail == CRLF or not tail:
        return text, len(tail) // 2
    marked = tail.replace(CRLF, b"*")  # a tail is CRs and LFs alone, bare ones among them
    kept = marked.rstrip(b"*")
    return text + kept.replace(b"*", CRLF), len(marked) - len(kept)


class RelaxedBody:
    """Section 3.4.4: as `simple`, and white space is one space, and none at the end of a line.

    A last line without CRLF is a line: white space at its end is ignored before the CRLF is added
    (dkimpy keeps it; SMTP cannot transport such a line).
    """

    __slots__ = ("_held", "_lines")

    def __init__(self, sink: Sink) -> None:
        self._lines = SimpleBody(sink, even_if_empty=False)
        self._held = b""  # one of _OPEN_ENDS

    def update(self, chunk: bytes) -> None:
        """See BodyCanonicalizer."""
        text = _reduce(self._held + chunk if self._held else chunk).replace(b" \r\n", CRLF)
        self._held = b""
        if text.endswith(_OPEN_ENDS):
            self._held = next(end for end in _OPEN_ENDS if text.endswith(end))
            text = text[: -len(self._held)]
        self._lines.update(text)

    def finish(self) -> None:
        """See BodyCanonicalizer."""
        if self._held.endswith(b"\r"):
            self._lines.update(self._held)
        self._lines.finish()
