"""What a milter answers: the verdict's action as one of the protocol's answers, at each stage.

Knows neither libmilter nor bytes on a socket; both engines turn these values into theirs. The table is
that of DESIGN.md section 3. RFC 5321 section 4.2 (codes), RFC 3463 (enhanced codes).
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

import msgspec

from mailreeve_milter.message import HeaderField
from mailreeve_policyd.escape import ELLIPSIS, escape
from mailreeve_policyd.smtp import EnhancedStatus, Mailbox, Reply, Stage
from mailreeve_policyd.transaction import Transaction
from mailreeve_policyd.verdict import Action, RemoveHeader, Verdict

MAX_REPLY_OCTETS = 980
"""libmilter refuses a reply line that is longer (its MAXREPLYLEN), and Sendmail and Postfix cut near it."""


class Answer(Enum):
    """What the MTA is told (SMFIR_* of the milter protocol)."""

    CONTINUE = "continue"
    ACCEPT = "accept"
    REJECT = "reject"
    TEMPFAIL = "tempfail"
    DISCARD = "discard"


class Response(msgspec.Struct, frozen=True, gc=False):
    """An answer; `reply` stands with REJECT and TEMPFAIL alone."""

    answer: Answer
    reply: Reply | None = None


class InsertHeader(msgspec.Struct, frozen=True, gc=False):
    """A field to insert; `index` 0 is the top of the message, above the MTA's own Received."""

    field: HeaderField
    index: int = 0


class Outcome(msgspec.Struct, frozen=True, gc=False):
    """What becomes of a message, in the order in which an engine does it.

    Removals stand highest occurrence first, so that none moves the next. Insertions all go to the top:
    the last ends uppermost. Recipients are removed before others are added. `quarantine` is the reason for
    the MTA to hold the message. All of these are empty unless the message goes on. `transaction` (with its
    evidence) and `verdict` are what it rests on; engines do not need them.
    """

    response: Response
    removals: tuple[RemoveHeader, ...] = ()
    insertions: tuple[InsertHeader, ...] = ()
    quarantine: str | None = None
    removed_recipients: tuple[Mailbox, ...] = ()
    added_recipients: tuple[str, ...] = ()
    transaction: Transaction | None = None
    verdict: Verdict | None = None

    @property
    def queue_id(self) -> str:
        """What the MTA calls the message, for the log."""
        return escape((self.transaction and self.transaction.queue_id) or "no queue id")

    @property
    def changes_recipients(self) -> bool:
        """Does the message go to others than it was sent to?"""
        return bool(self.removed_recipients or self.added_recipients)


def denied_change(outcome: Outcome, can_quarantine: bool, can_change_recipients: bool) -> str | None:
    """Why an outcome cannot be carried out with an MTA that lets a filter do so much; None: it can."""
    if outcome.quarantine is not None and not can_quarantine:
        return "a message is to be held, and the MTA cannot: it is deferred"
    if outcome.changes_recipients and not can_change_recipients:
        return "a message is to go to others, and the MTA does not let filters say so: it is deferred"
    return None


CONTINUE = Response(Answer.CONTINUE)
ACCEPT = Response(Answer.ACCEPT)

FAILED = Response(
    Answer.TEMPFAIL, Reply(451, EnhancedStatus(4, 3, 0), "Mail filter failure, please try again later")
)
"""A bug of ours: the client learns that it may come again, and nothing else."""

TOO_MANY_FORGED = Reply(554, EnhancedStatus(5, 6, 0), "Too many header fields that claim to be this server's")
"""More than anybody removes one by one (RFC 3463 section 3.7: the content cannot be handled)."""

REFUSED = Reply(550, EnhancedStatus(5, 7, 1), "Refused by local policy")
DEFERRED = Reply(451, EnhancedStatus(4, 7, 1), "Deferred by local policy, please try again later")

TOO_MANY = Response(Answer.TEMPFAIL, Reply(452, EnhancedStatus(4, 5, 3), "Too many recipients"))
"""RFC 5321 section 4.5.3.1.10."""

_REFUSE = {Action.DEFER: Answer.TEMPFAIL, Action.REJECT: Answer.REJECT}

# A milter cannot hand a message to a content filter. The rules are refused that ask it to (rules/verbs.py):
# should a verdict say so all the same, the mail does not pass unfiltered.
_CANNOT = {Action.FILTER: Answer.TEMPFAIL}

# ACCEPT is CONTINUE before end-of-message: the milter's accept would hide the message from us, and it
# would go on neither signed nor cleaned. HOLD and REDIRECT are remembered until end-of-message, and so is
# DISCARD where the protocol has no message to discard yet (connect, helo).
_SESSION = {
    Action.CONTINUE: Answer.CONTINUE,
    Action.ACCEPT: Answer.CONTINUE,
    Action.PERMIT: Answer.CONTINUE,
    Action.DISCARD: Answer.CONTINUE,
    Action.HOLD: Answer.CONTINUE,
    Action.REDIRECT: Answer.CONTINUE,
    **_REFUSE,
    **_CANNOT,
}
_ENVELOPE = {**_SESSION, Action.DISCARD: Answer.DISCARD}
_MESSAGE = {
    Action.CONTINUE: Answer.CONTINUE,
    Action.ACCEPT: Answer.ACCEPT,
    Action.PERMIT: Answer.ACCEPT,
    Action.DISCARD: Answer.DISCARD,
    Action.HOLD: Answer.CONTINUE,
    Action.REDIRECT: Answer.CONTINUE,
    **_REFUSE,
    **_CANNOT,
}

ANSWERS: Mapping[Stage, Mapping[Action, Answer]] = {
    Stage.CONNECT: _SESSION,
    Stage.HELO: _SESSION,
    Stage.MAIL: _ENVELOPE,
    Stage.RCPT: _ENVELOPE,
    Stage.DATA: _ENVELOPE,
    Stage.END_OF_MESSAGE: _MESSAGE,
}


def respond(verdict: Verdict) -> Response:
    """The response that a verdict is, at its own stage."""
    answer = ANSWERS[verdict.stage][verdict.action]
    if answer is Answer.REJECT:
        return Response(answer, _fitting(verdict.reply, 5) or REFUSED)
    if answer is Answer.TEMPFAIL:
        return Response(answer, _fitting(verdict.reply, 4) or DEFERRED)
    return ACCEPT if answer is Answer.ACCEPT else Response(answer)


def _fitting(reply: Reply | None, kind: int) -> Reply | None:
    """The reply, if its code and its enhanced code are both of the class that the answer is."""
    fits = reply is not None and reply.code // 100 == kind and reply.status.kind == kind
    return reply if fits else None


def format_reply_text(reply: Reply) -> str:
    """The text of a reply as it may stand in a milter's reply packet.

    ASCII of one line, `%` doubled (the MTA takes the text for a format), so short that code, enhanced
    code and text together stay under MAX_REPLY_OCTETS.
    """
    room = MAX_REPLY_OCTETS - len(f"{reply.code} {reply.status} ")
    # what is printable was escaped where it came in; a second time would double its backslashes
    line = reply.text if reply.text.isprintable() else escape(reply.text, room)
    doubled = line.encode("ascii", "backslashreplace").decode("ascii").replace("%", "%%")
    if len(doubled) <= room:
        return doubled
    kept = doubled[: room - len(ELLIPSIS)]
    odd = (len(kept) - len(kept.rstrip("%"))) % 2  # a pair that the cut halved
    return kept[: len(kept) - odd] + ELLIPSIS
