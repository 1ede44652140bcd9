"""The words of the milter protocol, version 6: commands, flags, macro places, events.

The protocol has no RFC: it is what Sendmail's libmilter and Postfix speak (libmilter's mfdef.h has the
numbers).
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum, IntFlag

import msgspec

VERSION = 6
OLDEST_VERSION = 2
"""Of Sendmail 8.12. What came before has other flags."""


class Command(IntEnum):
    """What an MTA sends (SMFIC_*)."""

    ABORT = ord("A")
    BODY = ord("B")
    CONNECT = ord("C")
    MACRO = ord("D")
    END_OF_MESSAGE = ord("E")
    HELO = ord("H")
    QUIT_FOR_NEW = ord("K")
    HEADER = ord("L")
    MAIL = ord("M")
    END_OF_HEADERS = ord("N")
    NEGOTIATE = ord("O")
    QUIT = ord("Q")
    RCPT = ord("R")
    DATA = ord("T")
    UNKNOWN = ord("U")


class ActionFlag(IntFlag):
    """What a filter may do (SMFIF_*)."""

    ADD_HEADERS = 0x001
    CHANGE_BODY = 0x002
    ADD_RECIPIENTS = 0x004
    DELETE_RECIPIENTS = 0x008
    CHANGE_HEADERS = 0x010
    QUARANTINE = 0x020
    CHANGE_SENDER = 0x040
    ADD_RECIPIENTS_WITH_PARAMETERS = 0x080
    SET_MACROS = 0x100


class StepFlag(IntFlag):
    """What an MTA leaves out, does without an answer, or understands (SMFIP_*)."""

    NO_CONNECT = 0x000001
    NO_HELO = 0x000002
    NO_MAIL = 0x000004
    NO_RCPT = 0x000008
    NO_BODY = 0x000010
    NO_HEADERS = 0x000020
    NO_END_OF_HEADERS = 0x000040
    SILENT_HEADER = 0x000080
    NO_UNKNOWN = 0x000100
    NO_DATA = 0x000200
    SKIP = 0x000400
    REJECTED_RECIPIENTS = 0x000800
    SILENT_CONNECT = 0x001000
    SILENT_HELO = 0x002000
    SILENT_MAIL = 0x004000
    SILENT_RCPT = 0x008000
    SILENT_DATA = 0x010000
    SILENT_UNKNOWN = 0x020000
    SILENT_END_OF_HEADERS = 0x040000
    SILENT_BODY = 0x080000
    LEADING_SPACE = 0x100000


class MacroPlace(IntEnum):
    """Where a filter may ask for macros of its choice (SMFIR_SETSYMLIST)."""

    CONNECT = 0
    HELO = 1
    MAIL = 2
    RCPT = 3
    DATA = 4
    END_OF_MESSAGE = 5
    END_OF_HEADERS = 6


# -- events ---------------------------------------------------------------------------------------------
# Structs: a message is thirty of them, and a named tuple takes three times as long, a dataclass eight times.


class Negotiate(msgspec.Struct, frozen=True, gc=False):
    """What the MTA speaks and offers. Flags that nobody knows may be among them."""

    version: int
    actions: int
    steps: int


class Macros(msgspec.Struct, frozen=True, gc=False):
    """Macros that belong to the next step of the kind `command`."""

    command: int
    values: Mapping[str, str]


class Connect(msgspec.Struct, frozen=True, gc=False):
    """A client. `address` is an IP address, None where it came by no network."""

    name: str
    address: str | None
    port: int | None


class Helo(msgspec.Struct, frozen=True, gc=False):
    """HELO or EHLO."""

    name: str


class Mail(msgspec.Struct, frozen=True, gc=False):
    """MAIL: `path` with its angle brackets."""

    path: str
    parameters: tuple[str, ...]


class Rcpt(msgspec.Struct, frozen=True, gc=False):
    """RCPT."""

    path: str
    parameters: tuple[str, ...]


class Data(msgspec.Struct, frozen=True, gc=False):
    """DATA."""


class Unknown(msgspec.Struct, frozen=True, gc=False):
    """An SMTP command that the MTA does not know."""


class Header(msgspec.Struct, frozen=True, gc=False):
    """A field; `value` has its leading space if that was agreed."""

    name: bytes
    value: bytes


class EndOfHeaders(msgspec.Struct, frozen=True, gc=False):
    """The empty line."""


class Body(msgspec.Struct, frozen=True, gc=False):
    """A piece of the body."""

    chunk: bytes


class EndOfMessage(msgspec.Struct, frozen=True, gc=False):
    """The end, with what was left of the body (mostly nothing)."""

    chunk: bytes


class Abort(msgspec.Struct, frozen=True, gc=False):
    """The message is given up, or over."""


class Quit(msgspec.Struct, frozen=True, gc=False):
    """The session and the connection are over."""


class QuitForNew(msgspec.Struct, frozen=True, gc=False):
    """The session is over, another follows on the same connection (SMFIC_QUIT_NC)."""


Event = (
    Negotiate | Macros | Connect | Helo | Mail | Rcpt | Data | Unknown | Header | EndOfHeaders | Body
    | EndOfMessage | Abort | Quit | QuitForNew
)  # fmt: skip
