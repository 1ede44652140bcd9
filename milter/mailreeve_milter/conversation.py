"""One SMTP session as a milter hears it: collects the transaction, asks for evidence and decision.

Knows the order of things and no wire: engines (libmilter, native) call its verbs and carry out what they
answer. Only the stages that this daemon decides may block, and `end_of_message`. RFC 5321 section 3.3 has
the stages; what each action comes to at each of them stands in answers.py.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from mailreeve_milter.answers import CONTINUE, TOO_MANY, Outcome, Response, respond
from mailreeve_milter.conclusion import conclude, give_up
from mailreeve_milter.examination import Examination
from mailreeve_milter.session import Macros, connected_session, declared_size, session_at_mail
from mailreeve_milter.surroundings import Surroundings
from mailreeve_milter.underway import MessageUnderWay, Remembered
from mailreeve_policyd.audit_bound import Consequence, Overrun
from mailreeve_policyd.errors import ProtocolError
from mailreeve_policyd.smtp import Mailbox, Stage, parse_mailbox, parse_path
from mailreeve_policyd.transaction import IPAddress, Session, Transaction


class Conversation:
    """One connection of the MTA: one SMTP session, any number of messages after each other.

    An engine calls the verbs in the order in which the MTA speaks, one at a time. A verb that raises has
    met a bug, or with ProtocolError an MTA that speaks out of turn: the engine logs it and calls `fail`,
    so that what is under way is deferred and never passes unmarked.
    """

    __slots__ = ("_around", "_at_connect", "_has_failed", "_message", "_remembered", "_session")

    def __init__(self, surroundings: Surroundings) -> None:
        self._around = surroundings
        self._session: Session | None = None
        self._message: MessageUnderWay | None = None
        self._at_connect = Remembered()
        self._remembered = Remembered()  # that, and what HELO left
        self._has_failed = False

    @property
    def client(self) -> IPAddress | None:
        """Whose session it is, as far as it is known."""
        session = self._message.session if self._message is not None else self._session
        return session.client_address if session is not None else None

    @property
    def has_failed(self) -> bool:
        """Was `fail` called before, in this message or, without one, in this session?"""
        message = self._message
        return self._has_failed if message is None else message.has_failed and not message.is_ending

    def connect(self, name: str, address: str | None, port: int | None, macros: Macros) -> Response:
        """A client: its name as the MTA gives it, and its address (None: it came by no network)."""
        self.close()
        self._session = connected_session(name, address, port, macros)
        response = self._decide(Stage.CONNECT)
        self._at_connect = self._remembered
        return response

    def helo(self, name: str, macros: Macros) -> Response:
        """HELO or EHLO; again after STARTTLS, in place of the one before."""
        self._message = None
        self._remembered = replace(self._at_connect)
        self._session = replace(self._known_session(macros), helo_name=name or None)
        return self._decide(Stage.HELO)

    def mail(self, path: str, parameters: Sequence[str], macros: Macros) -> Response:
        """MAIL: `path` with its angle brackets, ESMTP parameters as they came (`SIZE=1000`).

        What an earlier message left behind without an end or an abort is forgotten.
        """
        self._message = None
        self._session = session = session_at_mail(self._known_session(macros), macros)
        header = self._around.examiner.collect(session)
        self._message = MessageUnderWay(
            session, header, self._around.instances(), parse_path(path), declared_size(parameters)
        )
        return self._decide(Stage.MAIL)

    def rcpt(self, path: str, macros: Macros) -> Response:  # noqa: ARG002 -- every command has its macros
        """RCPT; a refusal is that recipient's alone."""
        recipients, most = self._current().recipients, self._around.examiner.bounds.recipients
        if len(recipients) >= most:
            self._tell_once("milter.max_recipients", most, "refused", "further recipients are deferred")
            return TOO_MANY
        recipient = parse_path(path) or parse_mailbox("")
        response = self._decide(Stage.RCPT, recipient)
        if response.reply is None:
            recipients.append(recipient)
        return response

    def data(self, macros: Macros) -> Response:
        """DATA: all recipients are known."""
        self._current().queue_id = macros.get("i") or None
        return self._decide(Stage.DATA)

    def header(self, name: bytes, value: bytes) -> None:
        """One header field, its value with the leading space, folds as LF or CRLF."""
        self._current().header.add(name, value)

    def end_of_headers(self) -> None:
        """The empty line: now it is known what of the body must be looked at."""
        self._examination(self._current())

    def body(self, chunk: bytes) -> None:
        """A piece of the body, cut anywhere: hashed if need be, counted, and let go."""
        message = self._current()
        message.body_octets += len(chunk)
        self._examination(message).update(chunk)

    def end_of_message(self, macros: Macros) -> Outcome:
        """The end: evidence, decision, record. The conversation is then ready for the next MAIL."""
        message = self._current()
        message.queue_id = macros.get("i") or message.queue_id
        message.is_ending = True
        if self._has_failed or message.has_failed:
            outcome = give_up(self._around, message)
        else:
            outcome = conclude(self._around, message, self._examination(message), self._remembered)
        self._message = None
        return outcome

    def abort(self) -> None:
        """The message is given up; the session stays."""
        self._message = None

    def close(self) -> None:
        """The session is over; another may follow on the same connection (QUIT_NC)."""
        self._session = None
        self._message = None
        self._at_connect = self._remembered = Remembered()
        self._has_failed = False

    def fail(self) -> None:
        """A verb raised: the message under way is deferred, or without one all mail of the session.

        If its end raised, the record is written here.
        """
        message = self._message
        if message is None:
            self._has_failed = True
            return
        message.has_failed = True
        if message.is_ending:
            self._message = None
            give_up(self._around, message)

    def _known_session(self, macros: Macros) -> Session:
        """The session; where CONNECT never came to us, what the macros tell of it.

        Raises:
            ProtocolError: neither has the client's address. It must not pass for a local submission.
        """
        if self._session is not None:
            return self._session
        session = connected_session(
            macros.get("{client_name}") or "", macros.get("{client_addr}"), None, macros
        )
        if session.client_address is None:
            raise ProtocolError("the MTA did not say who the client is")
        return session

    def _current(self) -> MessageUnderWay:
        if self._message is None:
            raise ProtocolError("the MTA speaks of a message before MAIL")
        return self._message

    def _examination(self, message: MessageUnderWay) -> Examination:
        if message.examination is None:  # an MTA may leave out the end of an empty header
            examiner = self._around.examiner
            message.session = examiner.session_at_end(message.session, message.header)
            message.examination = examiner.begin(message.session, message.header)
        return message.examination

    def _decide(self, stage: Stage, recipient: Mailbox | None = None) -> Response:
        """The decision at a stage before end-of-message, if it is this daemon's."""
        if stage not in self._around.stages:
            return CONTINUE
        started = self._around.stopwatch()
        transaction = self._with_evidence(self._snapshot(stage, recipient))
        verdict = self._around.policy.decide(transaction, (stage,))
        self._around.audit.decision(transaction, verdict, {"total": self._around.stopwatch() - started})
        remembered = self._message.remembered if self._message else self._remembered
        most = self._around.examiner.bounds.added_fields
        if not remembered.keep(verdict, most):
            self._tell_once(
                "milter.max_added_fields", most, "left-out", "further fields of rules are left out"
            )
        return respond(verdict)

    def _tell_once(self, bound: str, maximum: int, consequence: Consequence, reason: str) -> None:
        """Record that the message goes beyond a bound, the first time that it does."""
        message = self._message
        if message is not None:
            if bound in message.exceeded:
                return
            message.exceeded |= {bound}
        queue_id = message.queue_id if message is not None else None
        self._around.audit.overrun(
            Overrun(bound, maximum, consequence, reason, client=self.client, queue_id=queue_id)
        )

    def _snapshot(self, stage: Stage, recipient: Mailbox | None) -> Transaction:
        if self._message is not None:
            return self._message.snapshot(stage, recipient)
        return Transaction(stage, self._session or Session())

    def _with_evidence(self, transaction: Transaction) -> Transaction:
        """With what the stage's rules need; asked once a message."""
        if self._message is None:
            return transaction
        needs = self._around.needs.get(transaction.stage, frozenset())
        self._message.evidence = self._around.examiner.gather(transaction, needs)
        return replace(transaction, evidence=self._message.evidence)
