"""Which stage blocks a policy request runs: the memory of one policy connection.

Postfix asks everything at RCPT (smtpd_delay_reject, its default), once a recipient and list. So at a
message's first RCPT the blocks connect, helo and mail run first, unless Postfix asked for them earlier,
and once a message. Postfix asks about one message at a time on a connection; another `instance` means that
the one before is over. So the memory is one session and one message. Knows no wire and decides nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import msgspec
from msgspec.structs import replace

from mailreeve_policyd.smtp import Mailbox, Stage
from mailreeve_policyd.transaction import Evidence, IPAddress, Transaction
from mailreeve_policyd.verdict import Verdict

_EARLY = (Stage.CONNECT, Stage.HELO, Stage.MAIL)

Gather = Callable[[Transaction, frozenset[str]], Evidence]
"""Looks up the named evidence (spf, spf_helo, iprev) of a transaction. Never raises for DNS trouble."""


_Client = tuple[IPAddress, int]
"""One SMTP session, as far as a request tells: an address and a port."""


class _Message(msgspec.Struct, gc=False):
    """The message that is under way: what was decided for it, and what was found out about it."""

    instance: str
    decided: frozenset[Stage]
    refusal: Verdict | None = None
    evidence: Evidence = Evidence()
    gathered: frozenset[str] = frozenset()


class Blocks:
    """The memory of one policy connection. `decides` are the stages that this daemon decides."""

    def __init__(self, decides: frozenset[Stage]) -> None:
        self._decides = decides
        self._client: _Client | None = None
        self._session_decided: frozenset[Stage] = frozenset()
        self._mail_decided_for: tuple[Mailbox | None] | None = None
        self._message: _Message | None = None

    def begin(self, transaction: Transaction) -> tuple[Stage, ...]:
        """Take note of a request; the blocks to run for it, in order. None if nothing is to be decided."""
        self._notice_session(transaction)
        self._notice_message(transaction)
        decided = self._message.decided if self._message else self._session_decided
        return _to_run(transaction.stage, self._decides, decided)

    @property
    def refusal(self) -> Verdict | None:
        """That of an early block: it holds for every recipient of the message, decided and charged once."""
        return self._message.refusal if self._message else None

    def remember(self, transaction: Transaction, stages: tuple[Stage, ...], verdict: Verdict) -> None:
        """What was decided. Not for a verdict that could not be carried out at this moment: it is made again.

        A refusal by the rcpt block charged nothing, of the early blocks neither: for the next
        recipient they run again, or their limits would never count this message.
        """
        if transaction.stage in (Stage.CONNECT, Stage.HELO):
            self._session_decided |= {transaction.stage}
        elif transaction.stage is Stage.MAIL:
            self._remember_mail(transaction, verdict)
        elif self._message and transaction.stage is Stage.RCPT:
            if not verdict.action.refuses:
                self._message.decided = self._message.decided.union(stages)
            elif verdict.stage in _EARLY:
                self._message.refusal = verdict

    def with_evidence(self, transaction: Transaction, needs: frozenset[str], gather: Gather) -> Transaction:
        """The transaction with the evidence that its rules need, asked once a message."""
        message = self._message
        if message is None:
            return replace(transaction, evidence=gather(transaction, needs)) if needs else transaction
        if missing := needs - message.gathered:
            found = gather(transaction, missing)
            message.evidence = replace(message.evidence, results=message.evidence.results + found.results)
            message.gathered |= missing
        return replace(transaction, evidence=message.evidence) if message.gathered else transaction

    def _notice_session(self, transaction: Transaction) -> None:
        """Without a port (Postfix before 3.0) two sessions look alike: every request may be a new one."""
        session = transaction.session
        client = None
        if session.client_address and session.client_port:
            client = session.client_address, session.client_port
        if client is None or client != self._client or transaction.stage is Stage.CONNECT:
            self._client = client
            self._session_decided = frozenset()
            self._mail_decided_for = None

    def _notice_message(self, transaction: Transaction) -> None:
        instance = transaction.instance
        if instance is None:
            self._message = None
        elif self._message is None or self._message.instance != instance:
            decided = self._session_decided
            if self._is_decided_at_mail(transaction):
                decided |= {Stage.MAIL}
            self._message = _Message(instance, decided)
            self._mail_decided_for = None

    def _is_decided_at_mail(self, transaction: Transaction) -> bool:
        """Was this message's MAIL asked about, when it had no instance yet (smtpd_delay_reject = no)?"""
        sender, envelope = self._mail_decided_for, transaction.envelope
        return sender is not None and envelope is not None and sender == (envelope.reverse_path,)

    def _remember_mail(self, transaction: Transaction, verdict: Verdict) -> None:
        if transaction.envelope and not verdict.action.refuses:
            self._mail_decided_for = (transaction.envelope.reverse_path,)


@lru_cache(maxsize=1024)  # a few for each daemon, as there are few stages
def _to_run(stage: Stage, decides: frozenset[Stage], decided: frozenset[Stage]) -> tuple[Stage, ...]:
    """Of the blocks that we decide: the stage's own, at RCPT with the earlier ones that did not run yet."""
    early = [each for each in _EARLY if each not in decided] if stage is Stage.RCPT else []
    return tuple(each for each in (*early, stage) if each in decides)
