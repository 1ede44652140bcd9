"""Rules that follow their set and table files: one ruleset at a time, swapped whole between requests."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from mailreeve_policyd.judgement import Judgement, OnUnknown, Step
from mailreeve_policyd.rules.ruleset import Ruleset
from mailreeve_policyd.rules_time import RulesTime
from mailreeve_policyd.smtp import Stage
from mailreeve_policyd.transaction import Transaction
from mailreeve_policyd.watched_files import WatchedFiles


class FollowedRules:
    """A Judge by the newest ruleset; each call is answered by one. Safe from any thread.

    `files` say when: they are looked at by whoever watches. The rules themselves do not change, only what
    stands in the files that they name; the rules file is read again at a reload.
    """

    def __init__(self, ruleset: Ruleset) -> None:
        self._ruleset = ruleset
        self._files = WatchedFiles(ruleset.stamps, self._prepare)

    @property
    def files(self) -> tuple[WatchedFiles, ...]:
        """The files to look at: those of the rules, and those beside them."""
        return (self._files, *self._ruleset.beside)

    @property
    def ruleset(self) -> Ruleset:
        """The one that is in force."""
        return self._ruleset

    def needs(self, stages: Iterable[Stage]) -> frozenset[str]:
        """Judge.needs."""
        return self._ruleset.needs(stages)

    def judge(
        self,
        transaction: Transaction,
        stages: Iterable[Stage],
        on_unknown: OnUnknown,
        rules_time: RulesTime | None = None,
    ) -> Judgement:
        """Judge.judge."""
        return self._ruleset.judge(transaction, stages, on_unknown, rules_time)

    def steps(
        self, transaction: Transaction, stages: Sequence[Stage], on_unknown: OnUnknown
    ) -> tuple[Step, ...]:
        """Judge.steps."""
        return self._ruleset.steps(transaction, stages, on_unknown)

    def _prepare(self, changed: frozenset[Path]) -> Callable[[], None]:
        again = self._ruleset.again
        if again is None:  # pragma: no cover -- a ruleset with stamps has it
            raise ValueError(self._ruleset.file)
        ruleset = again(changed)

        def put_in_force() -> None:
            self._ruleset = ruleset

        return put_in_force
