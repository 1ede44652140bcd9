"""Which fields of a message are ours to remove and to add. Edits are values here; engines carry them out.

RFC 8601 section 5: fields that claim to be ours are removed, highest occurrence first, since each removal
renumbers those below it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mailreeve_milter.answers import InsertHeader
from mailreeve_milter.message import HeaderField
from mailreeve_policyd.verdict import AddHeader, RemoveHeader

RESULTS_FIELD = b"authentication-results"
"""The name in lower case, for comparison."""

RECEIVED_SPF_FIELD = b"received-spf"


def remove_results(occurrences: Sequence[int]) -> tuple[RemoveHeader, ...]:
    """Removals of these Authentication-Results fields (counted from 1), highest first."""
    if not occurrences:  # most messages
        return ()
    return tuple(
        RemoveHeader("Authentication-Results", number) for number in sorted(occurrences, reverse=True)
    )


def remove_received_spf(count: int) -> tuple[RemoveHeader, ...]:
    """Removals of all of so many Received-SPF fields."""
    return tuple([RemoveHeader("Received-SPF", number) for number in range(count, 0, -1)])


def insert_on_top(fields: Sequence[HeaderField]) -> tuple[InsertHeader, ...]:
    """Insertions after which these fields stand at the top of the message, in this order."""
    return tuple([InsertHeader(field) for field in reversed(fields)])


def added_fields(edits: Iterable[AddHeader]) -> tuple[HeaderField, ...]:
    """The fields that rules add, in order."""
    return tuple([HeaderField(edit.name.encode("ascii"), b" " + _to_wire(edit.value)) for edit in edits])


def _to_wire(value: str) -> bytes:
    """One line of UTF-8; a lone octet that came by the wire becomes U+FFFD, as it has no text."""
    return value.encode("utf-8", "surrogateescape").decode("utf-8", "replace").encode("utf-8")
