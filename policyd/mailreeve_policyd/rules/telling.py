"""What limits tell people: the notices of `warn at N%` and of a limit that is exceeded."""

from __future__ import annotations

from dataclasses import dataclass

from mailreeve_policyd.facts import Fact
from mailreeve_policyd.limits import Charge, Unit, Usage
from mailreeve_policyd.notice import Notice, NoticeKind, notice_key
from mailreeve_policyd.rules.language import Language
from mailreeve_policyd.rules.scope import shown
from mailreeve_policyd.rules.templates import spoken, usage_values
from mailreeve_policyd.rules.texts import Saying
from mailreeve_policyd.smtp import Stage
from mailreeve_policyd.transaction import Transaction


@dataclass(frozen=True, slots=True)
class LimitTeller:
    """What one limit rule tells. `percent` is 0 where it does not warn; `distinct` is what it counts then."""

    rule: str
    stage: Stage
    keys: tuple[Fact, ...]
    percent: int = 0
    text: Saying | None = None
    distinct: Fact | None = None
    language: Language | None = None

    @property
    def facts(self) -> tuple[Fact, ...]:
        """What its text asks."""
        return self.text.facts if self.text else ()

    def warning(self, transaction: Transaction, charge: Charge, usage: Usage) -> Notice | None:
        """Its warning, if this call reached the share of the maximum at which it warns."""
        mark = -(-usage.maximum * self.percent // 100)
        if not self.percent or not usage.has_reached(mark):
            return None
        if self.text is not None:
            text = self.text.render(transaction, usage_values(charge, usage))
        else:
            text = f"{self.rule}: {self._standing(charge, usage)}"
        return self.notice(NoticeKind.WARNING, text, transaction, charge, usage)

    def exceeded(self, transaction: Transaction, charge: Charge, usage: Usage) -> Notice:
        """That its limit is exceeded, and what it says is done."""
        text = f"{self.rule}: limit exceeded, {self._standing(charge, usage)}"
        return self.notice(NoticeKind.EXCEEDED, text, transaction, charge, usage)

    def _standing(self, charge: Charge, usage: Usage) -> str:
        return f"{usage.used} of {usage.maximum} {self._unit(charge)} in {spoken(charge.limit.period)}"

    def _unit(self, charge: Charge) -> str:
        unit = charge.limit.unit
        return f"distinct {self.distinct.name}" if unit is Unit.DISTINCT and self.distinct else unit.value

    def notice(
        self, kind: NoticeKind, text: str, transaction: Transaction, charge: Charge, usage: Usage
    ) -> Notice:
        """A notice about this limit's counter: told once a period, and apart from other kinds."""
        period = charge.limit.period
        return Notice(
            kind,
            self.rule,
            self.stage,
            text,
            notice_key(kind, self.rule, period, (charge.key.hex(),)),
            period,
            tuple((fact.name, shown(fact, transaction)) for fact in self.keys),
            transaction.session.sasl_username,
            usage.used,
            usage.maximum,
            self._unit(charge),
            period,
            language_of(self.language, transaction),
        )


def language_of(language: Language | None, transaction: Transaction) -> str | None:
    """The language in which somebody is told; None where the file does not say."""
    return language.of(transaction) if language is not None else None
