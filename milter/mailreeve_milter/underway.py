"""One mail transaction while it lasts, from MAIL to its end, and what verdicts left for later."""

from __future__ import annotations

import msgspec
from msgspec.structs import replace

from mailreeve_milter.collected import CollectedHeader
from mailreeve_milter.examination import Examination
from mailreeve_policyd.smtp import Mailbox, Stage
from mailreeve_policyd.transaction import Envelope, Evidence, Session, Transaction
from mailreeve_policyd.verdict import Action, AddHeader, Verdict


class Remembered(msgspec.Struct):
    """What earlier verdicts left for the end of the message: a hold, a discard, fields and recipients to add.

    Each field and each copy is there once, however often a rule said so: at rcpt it does for every recipient.
    `redirect` is the address that gets the message instead of its recipients: the last one that was said, as
    Postfix has it.
    """

    hold: str | None = None
    discard: Verdict | None = None
    fields: tuple[AddHeader, ...] = ()
    redirect: str | None = None
    copies: tuple[str, ...] = ()

    def keep(self, verdict: Verdict, most_fields: int) -> bool:
        """A verdict of a stage before the end. False if fields were left out: there are so many already."""
        is_whole = True
        if verdict.edits:
            new = [edit for edit in verdict.edits if edit not in self.fields]
            room = most_fields - len(self.fields)
            self.fields += tuple(new[:room])
            is_whole = len(new) <= room
        if verdict.copies:
            self.copies += tuple([copy for copy in verdict.copies if copy not in self.copies])
        if verdict.action is Action.REDIRECT:
            self.redirect = verdict.target
        if verdict.action is Action.HOLD and self.hold is None:
            self.hold = hold_reason(verdict)
        if verdict.action is Action.DISCARD:
            # its warnings were written when it was decided
            self.discard = replace(verdict, stage=Stage.END_OF_MESSAGE, warnings=())
        return is_whole


def hold_reason(verdict: Verdict) -> str:
    """What a held message is held for, for the MTA's log."""
    return verdict.reason or verdict.rule or "held"


class Judged(msgspec.Struct, frozen=True):
    """The transaction at its end, with its evidence; `began` and `ended` say when that was gathered.

    Both are seconds of the stopwatch.
    """

    transaction: Transaction
    evidence: Evidence
    began: float
    ended: float


class MessageUnderWay(msgspec.Struct):
    """The message. `recipients` are those that were accepted so far, `queue_id` is the MTA's.

    `evidence` is what rules of earlier stages needed to know of the envelope. `judged` is there as soon as it
    is known: an end that is done again, because its decision has to wait, does not look at the message again.
    `exceeded` are the bounds that it went beyond, as far as the record was told.
    """

    session: Session
    header: CollectedHeader
    instance: str
    reverse_path: Mailbox | None
    declared_size: int | None
    recipients: list[Mailbox] = []
    queue_id: str | None = None
    body_octets: int = 0
    evidence: Evidence | None = None
    examination: Examination | None = None
    judged: Judged | None = None
    remembered: Remembered = msgspec.field(default_factory=Remembered)
    is_ending: bool = False
    has_failed: bool = False
    exceeded: frozenset[str] = frozenset()

    @property
    def octets(self) -> int:
        """Its size as it came: the header, the empty line, the body."""
        return self.header.octets + len(b"\r\n") + self.body_octets

    def snapshot(self, stage: Stage, recipient: Mailbox | None = None) -> Transaction:
        """The transaction at a stage; `recipient` is the one asked about at rcpt."""
        recipients = tuple(self.recipients)
        count = len(recipients) if stage >= Stage.DATA else None
        is_complete = stage is Stage.END_OF_MESSAGE
        return Transaction(
            stage,
            self.session,
            Envelope(self.reverse_path, recipients),
            recipients[0] if count == 1 else recipient,
            count,
            self.octets if is_complete else self.declared_size,
            self.queue_id,
            self.instance,
            evidence=self.evidence,
            message_id=self.header.message_id if is_complete else None,
        )
