"""What a Conversation answers, as packets: responses, and the changes that an outcome makes to a message."""

from __future__ import annotations

import logging

from mailreeve_milter.answers import (
    FAILED,
    Answer,
    Outcome,
    Response,
    denied_change,
    format_reply_text,
)
from mailreeve_milter.message import HeaderField
from mailreeve_milter.protocol_reply import (
    ReplyCommand,
    format_added_recipient,
    format_insert,
    format_packet,
    format_quarantine,
    format_removal,
    format_removed_recipient,
    format_reply,
)
from mailreeve_milter.protocol_words import ActionFlag
from mailreeve_policyd.escape import encode_wire, escape_ascii

log = logging.getLogger(__name__)

MAX_QUARANTINE_CHARACTERS = 200
"""Of the reason, which Postfix and Sendmail put into one log line."""

_QUARANTINE = int(ActionFlag.QUARANTINE)
_RECIPIENTS = int(ActionFlag.ADD_RECIPIENTS | ActionFlag.DELETE_RECIPIENTS)

_ANSWERS = {
    Answer.CONTINUE: format_packet(ReplyCommand.CONTINUE),
    Answer.ACCEPT: format_packet(ReplyCommand.ACCEPT),
    Answer.REJECT: format_packet(ReplyCommand.REJECT),
    Answer.TEMPFAIL: format_packet(ReplyCommand.TEMPFAIL),
    Answer.DISCARD: format_packet(ReplyCommand.DISCARD),
}


def format_response(response: Response) -> bytes:
    """An answer as the packet that it is."""
    reply = response.reply
    if reply is None:
        return _ANSWERS[response.answer]
    return format_reply(reply.code, str(reply.status), (format_reply_text(reply),))


CONTINUE_PACKET = _ANSWERS[Answer.CONTINUE]
FAILED_PACKET = format_response(FAILED)
PROGRESS_PACKET = format_packet(ReplyCommand.PROGRESS)
"""The message is still being looked at: the MTA waits on."""


def format_outcome(outcome: Outcome, has_leading_space: bool, granted: int) -> bytes:
    """The changes to a message, in order, and its answer.

    `has_leading_space` says that values have the space after the colon on this connection, `granted` what the
    MTA lets a filter do (ActionFlag, as a plain number). A message with which something else is to be done
    is deferred.
    """
    denied = denied_change(outcome, bool(granted & _QUARANTINE), not _RECIPIENTS & ~granted)
    if denied is not None:
        name = outcome.queue_id
        log.error("%s: not as the rules say: %s", name, denied, extra={"queue_id": name})
        return FAILED_PACKET
    packets = [
        format_removal(removal.name.encode("ascii"), removal.occurrence) for removal in outcome.removals
    ]
    for insertion in outcome.insertions:
        value = _value_to_wire(insertion.field, has_leading_space)
        packets.append(format_insert(insertion.index, insertion.field.name, value))
    packets += [format_removed_recipient(encode_wire(each.text)) for each in outcome.removed_recipients]
    packets += [format_added_recipient(each.encode("ascii")) for each in outcome.added_recipients]
    if outcome.quarantine is not None:
        reason = escape_ascii(outcome.quarantine, MAX_QUARANTINE_CHARACTERS)
        packets.append(format_quarantine(reason.encode("ascii")))
    packets.append(format_response(outcome.response))
    return b"".join(packets)


def _value_to_wire(field: HeaderField, has_leading_space: bool) -> bytes:
    """Folds as LF, and the space only where the MTA does not add one."""
    value = field.value if has_leading_space else field.value.removeprefix(b" ")
    return value.replace(b"\r\n", b"\n")
