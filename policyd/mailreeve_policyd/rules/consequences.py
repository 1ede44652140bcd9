"""What a rule does once it applies: compiled actions. They read the transaction and make values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mailreeve_policyd.facts import Fact
from mailreeve_policyd.judgement import Decision, Exceeded, Remark
from mailreeve_policyd.notice import NOTIFY_WINDOW, Notice, NoticeKind, notice_key
from mailreeve_policyd.rules.language import Language
from mailreeve_policyd.rules.telling import LimitTeller, language_of
from mailreeve_policyd.rules.templates import values_of
from mailreeve_policyd.rules.texts import Saying
from mailreeve_policyd.rules.verbs import Verb
from mailreeve_policyd.smtp import EnhancedStatus, Reply, Stage
from mailreeve_policyd.transaction import Transaction
from mailreeve_policyd.verdict import Action, AddHeader, Observed

_NO_VALUES: Mapping[str, str] = {}


@dataclass(frozen=True, slots=True)
class Decide:
    """An action that decides. As a limit's consequence it may tell how long to wait."""

    rule: str
    stage: Stage
    verdict: Action
    status: EnhancedStatus | None = None
    text: Saying | None = None
    target: str | None = None

    @property
    def action(self) -> Action | None:
        """The action that it decides."""
        return self.verdict

    @property
    def facts(self) -> tuple[Fact, ...]:
        """What its text asks."""
        return self.text.facts if self.text else ()

    def decide(self, transaction: Transaction, exceeded: Exceeded | None) -> Decision:
        """The decision, its text filled in."""
        if exceeded is not None and exceeded.can_never_pass and self.verdict.refuses:
            return self._never(transaction, exceeded)
        if self.target is not None:
            return Decision(self.stage, self.rule, self.verdict, target=self.target)
        values = _NO_VALUES if exceeded is None else values_of(exceeded)
        text = self.text.render(transaction, values) if self.text else None
        if self.status is None:
            return Decision(self.stage, self.rule, self.verdict, reason=text)
        reply = Reply(_code(self.status, self.stage), self.status, text or "")
        return Decision(self.stage, self.rule, self.verdict, reply)

    def _never(self, transaction: Transaction, exceeded: Exceeded) -> Decision:
        """A request larger than its limit would be deferred for ever (DESIGN.md section 5, promise 3)."""
        if self.verdict is Action.REJECT and self.status and self.text and not self.text.tells_wait:
            text = self.text.render(transaction, values_of(exceeded))
            reply = Reply(_code(self.status, self.stage), self.status, text)
        else:
            status = EnhancedStatus(5, 7, 1)
            reply = Reply(_code(status, self.stage), status, f"Larger than the limit {self.rule} allows")
        return Decision(self.stage, self.rule, Action.REJECT, reply)

    def remark(self, transaction: Transaction, exceeded: Exceeded | None) -> Remark:
        """Never asked of an action that decides."""
        raise TypeError(f"{self.verdict} decides, for {transaction.stage} and {exceeded}")

    def observed(self, transaction: Transaction, exceeded: Exceeded | None) -> Observed:
        """What it would have decided."""
        made = self.decide(transaction, exceeded)
        text = str(made.reply) if made.reply else made.target or made.reason
        return Observed(self.rule, self.stage, made.action.value, text)


@dataclass(frozen=True, slots=True)
class Note:
    """An action that goes on; `field` is the name of the field that `add-header` adds."""

    rule: str
    stage: Stage
    verb: Verb
    text: Saying
    field: str | None = None
    teller: LimitTeller | None = None
    """With `notify` as what a limit does."""
    language: Language | None = None

    @property
    def action(self) -> Action | None:
        """It decides nothing."""
        return None

    @property
    def facts(self) -> tuple[Fact, ...]:
        """What its text asks."""
        return self.text.facts

    def decide(self, transaction: Transaction, exceeded: Exceeded | None) -> Decision:
        """Never asked of an action that goes on."""
        raise TypeError(f"{self.rule} decides nothing, for {transaction.stage} and {exceeded}")

    def remark(self, transaction: Transaction, exceeded: Exceeded | None) -> Remark:
        """What it does, its text filled in."""
        text = self.text.render(transaction, _NO_VALUES if exceeded is None else values_of(exceeded))
        match self.verb:
            case Verb.ADD_HEADER:
                return Remark(self.rule, edit=AddHeader(self.field or "", text))
            case Verb.BCC:
                return Remark(self.rule, copy_to=text)
            case Verb.NOTIFY:
                return Remark(self.rule, notice=self._notice(text, transaction, exceeded))
            case _:
                return Remark(self.rule, warning=text)

    def _notice(self, text: str, transaction: Transaction, exceeded: Exceeded | None) -> Notice:
        if self.teller is not None and exceeded is not None:
            return self.teller.notice(NoticeKind.EXCEEDED, text, transaction, exceeded.charge, exceeded.usage)
        return Notice(
            NoticeKind.NOTIFY,
            self.rule,
            self.stage,
            text,
            notice_key(NoticeKind.NOTIFY, self.rule, NOTIFY_WINDOW, (text,)),
            NOTIFY_WINDOW,
            login=transaction.session.sasl_username,
            language=language_of(self.language, transaction),
        )

    def observed(self, transaction: Transaction, exceeded: Exceeded | None) -> Observed:
        """What it would have done."""
        text = self.text.render(transaction, _NO_VALUES if exceeded is None else values_of(exceeded))
        shown = f"{self.field}: {text}" if self.field else text
        return Observed(self.rule, self.stage, self.verb.value, shown)


def _code(status: EnhancedStatus, stage: Stage) -> int:
    """550 and 451 stand in the lists of RFC 5321 section 4.3.2 for each command; a greeting has 554."""
    if status.kind == 4:
        return 451
    return 554 if stage is Stage.CONNECT else 550
