"""The end of a message: evidence, decision, what is changed in it, and the record. Knows no protocol."""

from __future__ import annotations

from dataclasses import replace

from mailreeve_milter.answers import FAILED, Answer, Outcome, respond
from mailreeve_milter.collected import CollectedHeader
from mailreeve_milter.edits import added_fields, insert_on_top, remove_results
from mailreeve_milter.examination import NOTHING, Additions, Examination
from mailreeve_milter.message import HeaderField, fields_named
from mailreeve_milter.surroundings import Surroundings
from mailreeve_milter.underway import MessageUnderWay, Remembered, hold_reason
from mailreeve_policyd.escape import decode_wire
from mailreeve_policyd.smtp import Stage
from mailreeve_policyd.transaction import Transaction
from mailreeve_policyd.verdict import Action, AddHeader, Edit, Verdict

MAX_MESSAGE_ID_OCTETS = 998
"""A line's length (RFC 5322 section 2.1.1); a longer one is cut, in the record only."""

_END = (Stage.END_OF_MESSAGE,)
_UNDECIDED = Verdict(Action.CONTINUE, Stage.END_OF_MESSAGE)


def conclude(
    around: Surroundings,
    message: MessageUnderWay,
    examination: Examination,
    earlier: Remembered,
) -> Outcome:
    """What becomes of a message that is complete. `earlier` is what connect and helo left for it.

    Asks DNS and the limit store, writes the record. What does not go on is neither signed nor changed.
    """
    watch = around.stopwatch
    started = watch()
    transaction = _complete(message)
    evidence = examination.conclude(transaction, around.needs.get(transaction.stage, frozenset()))
    transaction = replace(transaction, evidence=evidence)
    judged = watch()
    verdict = earlier.discard or _decide(around, transaction)
    decided = watch()
    response = respond(verdict)
    outcome, additions = Outcome(response, transaction=transaction, verdict=verdict), NOTHING
    if response.answer in (Answer.CONTINUE, Answer.ACCEPT):
        additions = examination.additions(evidence)
        outcome = _changed(outcome, verdict, message, additions, earlier)
    ended = watch()
    spent = {
        "total": ended - started,
        "evidence": judged - started,
        "decision": decided - judged,
        "changes": ended - decided,
    }
    around.audit.message(
        transaction,
        verdict,
        spent,
        signatures=additions.signatures,
        edits=(*outcome.removals, *_named(additions.fields)),
        error=examination.undone,
    )
    return outcome


def _decide(around: Surroundings, transaction: Transaction) -> Verdict:
    return around.policy.decide(transaction, _END) if Stage.END_OF_MESSAGE in around.stages else _UNDECIDED


def _changed(
    outcome: Outcome, verdict: Verdict, message: MessageUnderWay, additions: Additions, earlier: Remembered
) -> Outcome:
    """The outcome of a message that goes on, with everything that is changed in it."""
    by_rules = added_fields((*earlier.fields, *message.remembered.fields, *verdict.edits))
    held = hold_reason(verdict) if verdict.action is Action.HOLD else None
    return replace(
        outcome,
        removals=remove_results(message.header.claimed),
        insertions=insert_on_top((*additions.fields, *by_rules)),
        quarantine=held or message.remembered.hold or earlier.hold,
    )


def give_up(around: Surroundings, message: MessageUnderWay) -> Outcome:
    """The fail-safe for a message in which a bug was met: it is deferred, and the record says why."""
    transaction = _complete(message)
    verdict = Verdict(Action.DEFER, Stage.END_OF_MESSAGE, reply=FAILED.reply)
    around.audit.message(
        transaction, verdict, {"total": 0.0}, error="an error inside the milter, see its log"
    )
    return Outcome(FAILED, transaction=transaction, verdict=verdict)


def _complete(message: MessageUnderWay) -> Transaction:
    return replace(
        message.snapshot(Stage.END_OF_MESSAGE),
        size=message.octets,
        message_id=_message_id(message.header),
    )


def _message_id(header: CollectedHeader) -> str | None:
    found = fields_named(header.fields, b"message-id")
    return decode_wire(found[0].unfolded[:MAX_MESSAGE_ID_OCTETS]) or None if found else None


def _named(fields: tuple[HeaderField, ...]) -> tuple[Edit, ...]:
    """Fields that were added, for the record."""
    return tuple(AddHeader(decode_wire(field.name), decode_wire(field.unfolded)) for field in fields)
