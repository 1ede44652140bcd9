"""The header of one message as it comes by, field for field, within bounds.

Knows field names and octets; what they mean is not its business, but for one question that must be
answered however large the header is: which Authentication-Results claim to be ours (RFC 8601 section 5).
"""

from __future__ import annotations

from collections.abc import Callable

from mailreeve_milter.edits import RECEIVED_SPF_FIELD, RESULTS_FIELD
from mailreeve_milter.message import HeaderField, field_from_milter
from mailreeve_milter.message_bounds import MessageBounds
from mailreeve_policyd.escape import decode_wire

MAX_MESSAGE_ID_OCTETS = 998
"""A line's length (RFC 5322 section 2.1.1); a longer one is cut, in the record only."""

TOO_LARGE = "the header is larger than max_header_bytes"
TOO_MANY_FIELDS = "the header has more than max_header_fields"

_MESSAGE_ID = b"message-id"


class CollectedHeader:
    """The fields of a message, top down.

    What is more than `bounds` say is not kept: `excess` says so then, `fields` is empty, and only the forged
    Authentication-Results are still found. `claims` says whether a value claims our authserv-id.
    `received_spf` counts the fields of that name, unless they are kept.
    """

    __slots__ = (
        "_bounds",
        "_claims",
        "_keeps_received_spf",
        "_results_seen",
        "claimed",
        "excess",
        "fields",
        "octets",
        "received_spf",
    )

    def __init__(
        self, bounds: MessageBounds, claims: Callable[[bytes], bool], *, keeps_received_spf: bool = True
    ) -> None:
        self.received_spf = 0
        self._keeps_received_spf = keeps_received_spf
        self._bounds = bounds
        self._claims = claims
        self._results_seen = 0
        self.fields: list[HeaderField] = []
        self.octets = 0
        self.claimed: list[int] = []
        self.excess: str | None = None

    def add(self, name: bytes, value: bytes) -> None:
        """One field as the MTA gives it: `value` with its leading space, folds as LF or CRLF."""
        field = field_from_milter(name, value)
        self.octets += len(name) + len(field.value) + 3  # the colon and the line's end
        if len(name) == len(RESULTS_FIELD) and name.lower() == RESULTS_FIELD:
            self._results_seen += 1
            if self._results_seen > self._bounds.results_read or self._claims(field.value):
                self.claimed.append(self._results_seen)
        elif not self._keeps_received_spf and name.lower() == RECEIVED_SPF_FIELD:
            self.received_spf += 1
        if self.excess is not None:
            return
        if self.octets > self._bounds.header_octets:
            self._give_up(TOO_LARGE)
        elif len(self.fields) >= self._bounds.header_fields:
            self._give_up(TOO_MANY_FIELDS)
        else:
            self.fields.append(field)

    def _give_up(self, excess: str) -> None:
        self.excess = excess
        self.fields = []

    @property
    def message_id(self) -> str | None:
        """Of the first Message-ID field, as it stands there."""
        for field in self.fields:
            if len(field.name) == len(_MESSAGE_ID) and field.name.lower() == _MESSAGE_ID:
                return decode_wire(field.unfolded[:MAX_MESSAGE_ID_OCTETS]) or None
        return None
