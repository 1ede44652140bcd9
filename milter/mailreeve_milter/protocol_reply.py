"""The milter protocol, version 6: what a filter answers, as packets. No IO, no policy.

The other direction of protocol.py. What is given here is ours, so that what cannot stand in a packet is a
bug: ValueError.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from struct import Struct

from mailreeve_milter.protocol_words import (
    OLDEST_VERSION,
    VERSION,
    ActionFlag,
    MacroPlace,
    Negotiate,
    StepFlag,
)
from mailreeve_policyd.errors import ProtocolError

_NUMBER = Struct("!I")
_AGREEMENT = Struct("!III")
_FIELD_HEAD = Struct("!IcI")
_NUL = "a NUL in a text of the milter protocol"


class ReplyCommand(Enum):
    """What a filter sends (SMFIR_*), as far as a filter that leaves bodies and senders alone does."""

    ADD_RECIPIENT = b"+"
    REMOVE_RECIPIENT = b"-"
    ACCEPT = b"a"
    CONTINUE = b"c"
    DISCARD = b"d"
    INSERT_HEADER = b"i"
    CHANGE_HEADER = b"m"
    NEGOTIATE = b"O"
    PROGRESS = b"p"
    QUARANTINE = b"q"
    REJECT = b"r"
    SKIP = b"s"
    TEMPFAIL = b"t"
    REPLY = b"y"


def format_packet(command: ReplyCommand, data: bytes = b"") -> bytes:
    """A packet."""
    return _NUMBER.pack(len(data) + 1) + command.value + data


def format_reply(code: int, status: str, lines: Sequence[str]) -> bytes:
    """An SMTP reply of at least one line; each gets the code and the enhanced code (RFC 2034 section 4)."""
    rows = [f"{code}-{status} {line}" for line in lines[:-1]]
    rows.append(f"{code} {status} {lines[-1]}")
    text = "\r\n".join(rows)
    return format_packet(ReplyCommand.REPLY, _terminated(text.encode("ascii")))


def format_insert(index: int, name: bytes, value: bytes) -> bytes:
    """Insert a field; 0 is above all others."""
    return _format_field(ReplyCommand.INSERT_HEADER, index, name, value)


def format_removal(name: bytes, occurrence: int) -> bytes:
    """Remove the field of that name and occurrence, counted from 1: it is changed to nothing."""
    return _format_field(ReplyCommand.CHANGE_HEADER, occurrence, name, b"")


def _format_field(command: ReplyCommand, number: int, name: bytes, value: bytes) -> bytes:
    if b"\0" in name or b"\0" in value:
        raise ValueError(_NUL)
    octets = 1 + _NUMBER.size + len(name) + 1 + len(value) + 1
    return b"%b%b\0%b\0" % (_FIELD_HEAD.pack(octets, command.value, number), name, value)


def format_added_recipient(address: bytes) -> bytes:
    """Have the message go to this address as well; without angle brackets."""
    return format_packet(ReplyCommand.ADD_RECIPIENT, _terminated(b"<" + address + b">"))


def format_removed_recipient(address: bytes) -> bytes:
    """Have it not go to this recipient, given as it came in RCPT, without angle brackets."""
    return format_packet(ReplyCommand.REMOVE_RECIPIENT, _terminated(b"<" + address + b">"))


def format_quarantine(reason: bytes) -> bytes:
    """Have the message held."""
    return format_packet(ReplyCommand.QUARANTINE, _terminated(reason))


def _terminated(text: bytes) -> bytes:
    if b"\0" in text:
        raise ValueError(_NUL)
    return text + b"\0"


@dataclass(frozen=True, slots=True)
class Agreement:
    """What both sides do."""

    version: int
    actions: ActionFlag
    steps: StepFlag


def agree(offer: Negotiate, needed: ActionFlag, wanted: ActionFlag, steps: StepFlag) -> Agreement:
    """What is used of an offer: all `needed` actions, and what there is of `wanted` actions and `steps`.

    Raises:
        ProtocolError: an MTA that is too old, or does not let filters do what is needed.
    """
    if offer.version < OLDEST_VERSION:
        raise ProtocolError(f"the MTA speaks version {offer.version} of the milter protocol")
    if needed & ~offer.actions:
        raise ProtocolError(f"the MTA does not let filters add and remove header fields ({offer.actions:#x})")
    actions = needed | (wanted & offer.actions)
    return Agreement(min(offer.version, VERSION), ActionFlag(actions), StepFlag(steps & offer.steps))


def format_agreement(agreement: Agreement, macros: Mapping[MacroPlace, Sequence[str]]) -> bytes:
    """The answer to an offer, with the macros that are asked for, if that was agreed."""
    data = _AGREEMENT.pack(agreement.version, agreement.actions, agreement.steps)
    if agreement.actions & ActionFlag.SET_MACROS:
        data += b"".join(
            _NUMBER.pack(place) + _terminated(" ".join(names).encode("ascii"))
            for place, names in macros.items()
        )
    return format_packet(ReplyCommand.NEGOTIATE, data)
