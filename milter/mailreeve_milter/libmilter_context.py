"""One connection as pymilter shows it, in our types: its macros, and how field values go over its wire.

Imports no pymilter; what is used of its context is the port `Context`.
"""

from __future__ import annotations

from typing import Any, Protocol

from mailreeve_milter.conversation import Conversation
from mailreeve_milter.message import HeaderField
from mailreeve_policyd.escape import decode_wire


class Context(Protocol):
    """pymilter's context of one connection, as far as it is used here."""

    def getpriv(self) -> Any:
        """What `setpriv` was given; None before."""

    def setpriv(self, private: object) -> object:
        """Keep something for this connection."""

    def getsymval(self, name: str) -> str | None:
        """A macro. Raises UnicodeDecodeError where its value is no UTF-8."""

    def setsymlist(self, stage: int, names: str) -> None:
        """Ask for macros, while negotiating."""

    def setreply(self, code: str, status: str, text: str) -> None:
        """The reply that goes with a refusal."""

    def addheader(self, name: str, value: str, index: int) -> None:
        """Insert a field."""

    def chgheader(self, name: str, occurrence: int, value: str | None) -> None:
        """Change or (None) remove a field."""

    def addrcpt(self, recipient: str) -> None:
        """Add a recipient, in angle brackets."""

    def delrcpt(self, recipient: str) -> None:
        """Remove one, in angle brackets, as it came in RCPT."""

    def quarantine(self, reason: str) -> None:
        """Have the message held."""


class ContextMacros:
    """The macros of a context; only for the callback that it is made in."""

    __slots__ = ("_context",)

    def __init__(self, context: Context) -> None:
        self._context = context

    def get(self, name: str, /) -> str | None:
        """See session.Macros. pymilter decodes strictly; the octets are in its error."""
        try:
            return self._context.getsymval(name)
        except UnicodeDecodeError as error:
            return decode_wire(error.object)


class Connection:
    """What is kept of one connection of the MTA: its conversation, what was negotiated, when it last spoke.

    `heard` is the stopwatch's.
    """

    __slots__ = ("can_change_recipients", "can_quarantine", "conversation", "has_leading_space", "heard")

    def __init__(
        self,
        conversation: Conversation,
        *,
        can_quarantine: bool,
        can_change_recipients: bool,
        has_leading_space: bool,
        heard: float,
    ) -> None:
        self.heard = heard
        self.conversation = conversation
        self.can_quarantine = can_quarantine
        self.can_change_recipients = can_change_recipients
        self.has_leading_space = has_leading_space

    def value_from_wire(self, value: bytes) -> bytes:
        """A field's value as it stood in the message; an older MTA has eaten the space."""
        return value if self.has_leading_space else b" " + value

    def value_to_wire(self, field: HeaderField) -> str:
        """A field's value as the MTA wants it: folds as LF, and the space only if it does not add one."""
        value = field.value if self.has_leading_space else field.value.removeprefix(b" ")
        return value.replace(b"\r\n", b"\n").decode("utf-8", "replace")
