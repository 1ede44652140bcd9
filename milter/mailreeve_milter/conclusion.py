"""The end of a message: evidence, decision, what is changed in it, and the record. Knows no protocol."""

from __future__ import annotations

from msgspec.structs import replace

from mailreeve_milter.answers import FAILED, TOO_MANY_FORGED, Answer, Outcome, respond
from mailreeve_milter.edits import added_fields, insert_on_top, remove_received_spf, remove_results
from mailreeve_milter.examination import NOTHING, Additions, Examination
from mailreeve_milter.recipients import changed_recipients
from mailreeve_milter.surroundings import Surroundings
from mailreeve_milter.underway import Judged, MessageUnderWay, Remembered, hold_reason
from mailreeve_policyd.escape import decode_wire
from mailreeve_policyd.smtp import Stage
from mailreeve_policyd.transaction import Transaction
from mailreeve_policyd.verdict import Action, Verdict

_END = (Stage.END_OF_MESSAGE,)
_UNDECIDED = Verdict(Action.CONTINUE, Stage.END_OF_MESSAGE)
_NO_NEEDS: frozenset[str] = frozenset()


def conclude(
    around: Surroundings, message: MessageUnderWay, examination: Examination, earlier: Remembered
) -> Outcome:
    """What becomes of a message that is complete. `earlier` is what connect and helo left for it.

    Asks DNS and the limit store, writes the record. What does not go on is neither signed nor changed.
    """
    watch = around.stopwatch
    judged = message.judged = message.judged or _judge(around, message, examination)
    transaction = judged.transaction
    verdict = earlier.discard or _refuse_crowd(around, message) or _decide(around, transaction)
    decided = watch()
    outcome = Outcome(respond(verdict), transaction=transaction, verdict=verdict)
    additions = NOTHING
    if outcome.response.answer in (Answer.CONTINUE, Answer.ACCEPT):
        additions = examination.additions(judged.evidence)
        outcome = _with_changes(outcome, verdict, message, additions, earlier)
    changed = watch()
    around.audit.message(
        transaction,
        verdict,
        {
            "total": changed - judged.began,
            "evidence": judged.ended - judged.began,
            "decision": decided - judged.ended,
            "changes": changed - decided,
        },
        signatures=additions.signatures,
        added=[decode_wire(field.name) for field in additions.fields],
        removed=[edit.name for edit in outcome.removals],
        error=examination.undone,
    )
    return outcome


def _judge(around: Surroundings, message: MessageUnderWay, examination: Examination) -> Judged:
    began = around.stopwatch()
    transaction = message.snapshot(Stage.END_OF_MESSAGE)
    evidence = examination.conclude(transaction, around.needs.get(Stage.END_OF_MESSAGE, _NO_NEEDS))
    return Judged(replace(transaction, evidence=evidence), evidence, began, around.stopwatch())


def _refuse_crowd(around: Surroundings, message: MessageUnderWay) -> Verdict | None:
    """Forged fields can only go one by one; a message with a crowd of them is refused as it is."""
    if len(message.header.claimed) + message.header.received_spf <= around.examiner.bounds.removals:
        return None
    return Verdict(Action.REJECT, Stage.END_OF_MESSAGE, reply=TOO_MANY_FORGED)


def _decide(around: Surroundings, transaction: Transaction) -> Verdict:
    return around.policy.decide(transaction, _END) if Stage.END_OF_MESSAGE in around.stages else _UNDECIDED


def _with_changes(
    outcome: Outcome, verdict: Verdict, message: MessageUnderWay, additions: Additions, earlier: Remembered
) -> Outcome:
    """The outcome of a message that goes on, with everything that is changed in it."""
    by_rules = added_fields((*earlier.fields, *message.remembered.fields, *verdict.edits))
    held = hold_reason(verdict) if verdict.action is Action.HOLD else None
    target = verdict.target if verdict.action is Action.REDIRECT else None
    removed, added = changed_recipients(
        message.recipients,
        target or message.remembered.redirect or earlier.redirect,
        (*earlier.copies, *message.remembered.copies, *verdict.copies),
    )
    return replace(
        outcome,
        removals=(
            *remove_results(message.header.claimed),
            *remove_received_spf(message.header.received_spf),
        ),
        insertions=insert_on_top((*additions.fields, *by_rules)),
        quarantine=held or message.remembered.hold or earlier.hold,
        removed_recipients=removed,
        added_recipients=added,
    )


def give_up(around: Surroundings, message: MessageUnderWay) -> Outcome:
    """The fail-safe for a message in which a bug was met: it is deferred, and the record says why."""
    transaction = message.snapshot(Stage.END_OF_MESSAGE)
    verdict = Verdict(Action.DEFER, Stage.END_OF_MESSAGE, reply=FAILED.reply)
    around.audit.message(
        transaction, verdict, {"total": 0.0}, error="an error inside the milter, see its log"
    )
    return Outcome(FAILED, transaction=transaction, verdict=verdict)
