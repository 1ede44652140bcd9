"""One connection of an MTA without its socket: octets in, the Conversation's verbs called, octets out.

Knows the order of a conversation on the wire: what was agreed, which steps get an answer, whose macros hold
when. Knows no sockets and no threads, and decides nothing. The native engine hosts it.

A step that has to wait (for DNS, for the limit store) is not done here: it is handed back as a job, for
whoever hosts this to run where that harms nobody.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, TypeVar, TypeVarTuple

from mailreeve_milter.answers import Response
from mailreeve_milter.conversation import Conversation
from mailreeve_milter.failure import log_failure, log_unrecorded
from mailreeve_milter.outcome_packets import CONTINUE_PACKET, FAILED_PACKET, format_outcome, format_response
from mailreeve_milter.protocol import PacketReader
from mailreeve_milter.protocol_words import (
    Abort,
    Body,
    Connect,
    Data,
    EndOfHeaders,
    EndOfMessage,
    Event,
    Header,
    Helo,
    Macros,
    Mail,
    Negotiate,
    Quit,
    QuitForNew,
    Rcpt,
    StepFlag,
    Unknown,
)
from mailreeve_milter.step_macros import StepMacros
from mailreeve_milter.surroundings import Surroundings
from mailreeve_milter.terms import SILENT_UNLESS_DECIDED, terms_for
from mailreeve_policyd.errors import ProtocolError
from mailreeve_policyd.escape import escape
from mailreeve_policyd.resolver import NotAtHandError
from mailreeve_policyd.smtp import Stage
from mailreeve_policyd.transaction import IPAddress

VerbT = TypeVar("VerbT")
ArgumentTs = TypeVarTuple("ArgumentTs")

Job = Callable[[], None]
"""What is left to do of a step. Until it has returned, the exchange must not be touched."""

# As plain numbers: an operation on flags costs a microsecond, and each header field needs two.
_LEADING_SPACE = int(StepFlag.LEADING_SPACE)
_SILENT_HEADER = int(StepFlag.SILENT_HEADER)
_PLAIN_HEADER = _LEADING_SPACE | _SILENT_HEADER
_SILENT_END_OF_HEADERS = int(StepFlag.SILENT_END_OF_HEADERS)
_SILENT_BODY = int(StepFlag.SILENT_BODY)
_SILENT_STEP = {stage: int(flags) for stage, flags in SILENT_UNLESS_DECIDED.items()}


class Exchange:
    """An MTA's connection. `receive` what it sends, then `advance` until there is nothing to do.

    `take_output` gives the octets to send. `ends_message` says that the job that is under way ends a
    message (and PROGRESS may be sent), `is_over` that the MTA has said its last.
    """

    __slots__ = (
        "_actions",
        "_conversation",
        "_has_agreed",
        "_macros",
        "_output",
        "_reader",
        "_steps",
        "_surroundings",
        "ends_message",
        "is_over",
    )

    def __init__(self, surroundings: Surroundings) -> None:
        self._surroundings = surroundings
        self._conversation = Conversation(surroundings)
        self._macros = StepMacros()
        self._reader = PacketReader(surroundings.bounds.packet_octets)
        self._output: list[bytes] = []
        self._has_agreed = False
        self._actions = 0
        self._steps = 0
        self.ends_message = False
        self.is_over = False

    def receive(self, octets: bytes) -> None:
        """The next octets from the MTA. May be called while a job runs."""
        self._reader.feed(octets)

    def advance(self) -> Job | None:
        """Do what the received octets ask for; None when more are needed, or a job to run before going on.

        Raises:
            ProtocolError: the MTA breaks the protocol. Nothing sensible can follow.
        """
        self.ends_message = False
        next_event, steps = self._reader.next_event, self._STEPS
        while not self.is_over:
            event = next_event()
            if event is None:
                return None
            kind = type(event)
            if not self._has_agreed and kind is not Negotiate:
                raise ProtocolError("the MTA does not negotiate first")
            job = steps[kind](self, event)
            if job is not None:
                return job
        return None

    def take_output(self) -> bytes:
        """What is to be sent, in one piece; empty if there is nothing."""
        octets = b"".join(self._output)
        self._output.clear()
        return octets

    @property
    def unfinished_packet(self) -> int | None:
        """A number for the packet of which only a part has come; None where there is none."""
        return self._reader.cut_packets if self._reader.is_within_packet else None

    @property
    def client(self) -> IPAddress | None:
        """Whose session it is, as far as it is known."""
        return self._conversation.client

    @property
    def queue_id(self) -> str | None:
        """The MTA's name for the message that is under way, as it came."""
        return self._macros.get("i")

    def close(self) -> None:
        """The connection is gone."""
        self.is_over = True
        self._conversation.close()

    # -- the connection -------------------------------------------------------------------------------

    def _negotiate(self, event: Negotiate) -> None:
        if self._has_agreed:
            raise ProtocolError("the MTA negotiates twice")
        terms = terms_for(event, self._surroundings.stages)
        self._actions, self._steps = terms.actions, terms.steps
        self._has_agreed = True
        self._output.append(terms.packet)

    def _keep_macros(self, event: Macros) -> None:
        self._macros.put(event)

    def _quit(self, _event: Quit) -> None:
        self.close()

    def _quit_for_new(self, _event: QuitForNew) -> None:
        self._conversation.close()
        self._macros.end_session()

    # -- the session and the envelope -----------------------------------------------------------------

    def _connect(self, event: Connect) -> Job | None:
        verb = self._conversation.connect
        return self._ask(Stage.CONNECT, verb, event.name, event.address, event.port, self._macros)

    def _helo(self, event: Helo) -> Job | None:
        return self._ask(Stage.HELO, self._conversation.helo, event.name, self._macros)

    def _mail(self, event: Mail) -> Job | None:
        return self._ask(Stage.MAIL, self._conversation.mail, event.path, event.parameters, self._macros)

    def _rcpt(self, event: Rcpt) -> Job | None:
        return self._ask(Stage.RCPT, self._conversation.rcpt, event.path, self._macros)

    def _data(self, _event: Data) -> Job | None:
        return self._ask(Stage.DATA, self._conversation.data, self._macros)

    def _ask(
        self, stage: Stage, verb: Callable[[*ArgumentTs], Response], *arguments: *ArgumentTs
    ) -> Job | None:
        """A step that may be refused, where this daemon decides it."""
        if stage in self._surroundings.stages:
            return self._do(stage, lambda: self._answer(verb, *arguments))
        self._enter(verb, *arguments)
        self._continue(_SILENT_STEP[stage])
        return None

    def _answer(self, verb: Callable[[*ArgumentTs], Response], *arguments: *ArgumentTs) -> None:
        packet = self._enter(lambda: format_response(verb(*arguments)))
        self._output.append(packet or FAILED_PACKET)

    def _unknown(self, _event: Unknown) -> None:
        self._output.append(CONTINUE_PACKET)

    # -- the message ----------------------------------------------------------------------------------

    def _header(self, event: Header) -> None:
        take = self._conversation.header
        if self._steps & _PLAIN_HEADER == _PLAIN_HEADER:
            self._enter(take, event.name, event.value)
            self._enter(self._reader.take_fields, take)
            return
        # an older MTA has eaten the space
        value = event.value if self._steps & _LEADING_SPACE else b" " + event.value
        self._enter(take, event.name, value)
        self._continue(_SILENT_HEADER)

    def _end_of_headers(self, _event: EndOfHeaders) -> None:
        self._enter(self._conversation.end_of_headers)
        self._continue(_SILENT_END_OF_HEADERS)

    def _body(self, event: Body) -> None:
        self._enter(self._conversation.body, event.chunk)
        self._continue(_SILENT_BODY)

    def _end_of_message(self, event: EndOfMessage) -> Job | None:
        if event.chunk:
            self._enter(self._conversation.body, event.chunk)
        self.ends_message = True
        return self._do(Stage.END_OF_MESSAGE, self._conclude)

    def _conclude(self) -> None:
        self._output.append(self._enter(self._end) or FAILED_PACKET)
        self._macros.end_message()

    def _end(self) -> bytes:
        outcome = self._conversation.end_of_message(self._macros)
        has_space = bool(self._steps & _LEADING_SPACE)
        return format_outcome(outcome, has_space, self._actions)

    def _abort(self, _event: Abort) -> None:
        self._enter(self._conversation.abort)
        self._macros.end_message()

    def _do(self, stage: Stage, step: Job) -> Job | None:
        """Do a step, or give it back if it has to wait. A step that raised NotAtHandError changed nothing.

        Most need not wait: what DNS said of a domain is remembered, and no limit applies. Handing a step to a
        thread and back costs a tenth of a message.
        """
        if stage in self._surroundings.waiting:
            return step
        try:
            step()
        except NotAtHandError:
            return step
        return None

    # -- the door -------------------------------------------------------------------------------------

    def _continue(self, silent: int) -> None:
        """The answer to a step that is nobody's decision, where the MTA waits for one."""
        if not self._steps & silent:
            self._output.append(CONTINUE_PACKET)

    def _enter(self, verb: Callable[[*ArgumentTs], VerbT], *arguments: *ArgumentTs) -> VerbT | None:
        """Every verb goes through here, and nothing that it raises gets out; None then.

        What raised is deferred: at once where the MTA waits for a decision, else at the message's end.
        """
        try:
            return verb(*arguments)
        except Exception as error:  # noqa: BLE001 -- `_fail` logs it
            self._fail(error)
            return None

    def _fail(self, error: Exception) -> None:
        queue_id = escape(self.queue_id or "no queue id")
        if not self._conversation.has_failed:
            log_failure(queue_id, error, self._surroundings.breaches)
        try:
            self._conversation.fail()
        except Exception as unrecorded:  # noqa: BLE001 -- logged here
            log_unrecorded(queue_id, unrecorded)

    _STEPS: ClassVar[Mapping[type[Event], Callable[[Exchange, Any], Job | None]]] = {
        Negotiate: _negotiate,
        Macros: _keep_macros,
        Connect: _connect,
        Helo: _helo,
        Mail: _mail,
        Rcpt: _rcpt,
        Data: _data,
        Unknown: _unknown,
        Header: _header,
        EndOfHeaders: _end_of_headers,
        Body: _body,
        EndOfMessage: _end_of_message,
        Abort: _abort,
        Quit: _quit,
        QuitForNew: _quit_for_new,
    }
