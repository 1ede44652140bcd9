"""libmilter's side of a Conversation: pymilter's callbacks, and a worker that serves and drains.

The only file that imports pymilter, of which it uses the C module's functions: its classes would put a
wrapper around every callback.
It turns callbacks into the Conversation's verbs and carries out what they answer; it decides nothing.

libmilter allows one filter a process and calls plain functions, so that what is registered here is the
process's: a foreign seam. What libmilter does that this file rests on:

- It fakes "no reply" for an MTA that wants one, and drops a reply where none was to be. A step of which
  no reply was to come must never *end* with a refusal: libmilter would then ignore the rest of the
  message and let the MTA wait. So a bug there is remembered, and answered at end-of-message.
- After QUIT_NC there is no negotiation: pymilter has forgotten the last one. The worker remembers it.
"""

from __future__ import annotations

import ctypes
import logging
import os
import socket
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

import Milter

from mailreeve_milter.answers import (
    FAILED,
    Answer,
    Outcome,
    Response,
    denied_change,
    format_reply_text,
)
from mailreeve_milter.conversation import Conversation
from mailreeve_milter.failure import log_failure, log_unrecorded, may_tell
from mailreeve_milter.libmilter_context import Connection, Context, ContextMacros
from mailreeve_milter.session import WANTED_MACROS, Macros
from mailreeve_milter.surroundings import Surroundings
from mailreeve_policyd.audit_bound import Overrun
from mailreeve_policyd.escape import decode_wire, escape, escape_ascii
from mailreeve_policyd.moderation import Moderation
from mailreeve_policyd.smtp import Stage
from mailreeve_policyd.worker import WorkerContext

log = logging.getLogger(__name__)

AnswerT = TypeVar("AnswerT")

NAME = "mailreeve"
"""As Sendmail's X line may call the filter; libmilter puts it into its own log lines."""

NEEDED_ACTIONS = Milter.ADDHDRS | Milter.CHGHDRS
RECIPIENT_ACTIONS = Milter.ADDRCPT | Milter.DELRCPT
WANTED_ACTIONS = Milter.QUARANTINE | RECIPIENT_ACTIONS | Milter.SETSYMLIST

NO_MACRO = "{mailreeve}"
"""Asked for where no macro is wanted: no MTA has it, so none is sent. An empty list cannot be asked for."""

SETTLE_SECONDS = 0.5
"""A connection may have been accepted and not yet have spoken when a worker retires."""

POLL_SECONDS = 0.05
"""How often a retiring worker looks whether it has finished."""

MAX_QUARANTINE_CHARACTERS = 200
"""Of the reason, which Postfix and Sendmail put into one log line."""

_CODES = {
    Answer.CONTINUE: Milter.CONTINUE,
    Answer.ACCEPT: Milter.ACCEPT,
    Answer.REJECT: Milter.REJECT,
    Answer.TEMPFAIL: Milter.TEMPFAIL,
    Answer.DISCARD: Milter.DISCARD,
}

# By stage: what makes the step silent, where this daemon does not decide it.
_SILENT = {
    Stage.CONNECT: Milter.P_NR_CONN,
    Stage.HELO: Milter.P_NR_HELO,
    Stage.MAIL: Milter.P_NR_MAIL,
    Stage.RCPT: Milter.P_NR_RCPT,
    Stage.DATA: Milter.P_NODATA | Milter.P_NR_DATA,
}

_MACRO_STAGES = {
    Stage.CONNECT: Milter.M_CONNECT,
    Stage.HELO: Milter.M_HELO,
    Stage.MAIL: Milter.M_ENVFROM,
    Stage.RCPT: Milter.M_ENVRCPT,
    Stage.DATA: Milter.M_DATA,
    Stage.END_OF_MESSAGE: Milter.M_EOM,
}


class Callbacks:
    """The callbacks of the process's one filter, for all of its connections."""

    def __init__(self, surroundings: Surroundings) -> None:
        self._surroundings = surroundings
        self._lock = threading.Lock()
        self._open = 0
        self._negotiated = (NEEDED_ACTIONS, 0)
        stages = surroundings.stages
        # What pymilter cannot decode ends before these callbacks. Where client or HELO are decided here it
        # is deferred, or it would evade the rules. Elsewhere going on is right: the octets belong to no
        # name that SPF could check, and to no field that is looked at.
        self._defers_undecodable = bool(stages & {Stage.CONNECT, Stage.HELO})
        self._steps = Milter.P_NOUNKNOWN | Milter.P_NR_EOH | Milter.P_NR_BODY
        self._steps |= 0 if self._defers_undecodable else Milter.P_NR_HDR  # to defer needs an answer
        for stage, bits in _SILENT.items():
            self._steps |= 0 if stage in stages else bits

    @property
    def open_connections(self) -> int:
        """Connections of MTAs that have begun and not ended."""
        return self._open

    def register(self) -> None:
        """Make these the process's callbacks."""
        Milter.set_connect_callback(self.connect)
        Milter.set_helo_callback(self.helo)
        Milter.set_envfrom_callback(self.mail)
        Milter.set_envrcpt_callback(self.rcpt)
        Milter.set_header_callback(self.header)
        Milter.set_eoh_callback(self.end_of_headers)
        Milter.set_body_callback(self.body)
        Milter.set_eom_callback(self.end_of_message)
        Milter.set_abort_callback(self.abort)
        Milter.set_close_callback(self.close)
        Milter.register(NAME, unknown=None, data=self.data, negotiate=self.negotiate)
        policy = Milter.TEMPFAIL if self._defers_undecodable else Milter.CONTINUE
        Milter.set_exception_policy(policy)

    # -- the connection -------------------------------------------------------------------------------

    def negotiate(self, context: Context, options: list[int]) -> int:
        """Pick what is used of what the MTA offers."""
        offered_actions, offered_steps = options[0], options[1]
        if NEEDED_ACTIONS & ~offered_actions:
            if may_tell(self._surroundings.breaches):
                log.error("the MTA does not let filters add and remove header fields (%#x)", offered_actions)
            return int(Milter.REJECT)
        if self._open >= self._surroundings.bounds.most:
            self._tell_full()
            return int(Milter.REJECT)  # closed: the MTA does its default action
        actions = NEEDED_ACTIONS | (offered_actions & WANTED_ACTIONS)
        steps = self._steps | (offered_steps & Milter.P_HDR_LEADSPC)
        options[:] = [actions, steps, 0, 0]
        self._negotiated = (actions, steps)
        if actions & Milter.SETSYMLIST:
            ask_for_macros(context)
        self._begin(context)
        return int(Milter.CONTINUE)

    def _tell_full(self) -> None:
        most = self._surroundings.bounds.most
        reason = f"all {most} connections of a worker are taken: a further one was refused"
        if self._surroundings.audit.overrun(Overrun("milter.max_connections", most, "closed", reason)):
            log.warning(
                "all %d connections (milter.max_connections) are taken: a further one was refused", most
            )

    def _begin(self, context: Context) -> Connection:
        actions, steps = self._negotiated
        connection = Connection(
            Conversation(self._surroundings),
            can_quarantine=bool(actions & Milter.QUARANTINE),
            can_change_recipients=not RECIPIENT_ACTIONS & ~actions,
            has_leading_space=bool(steps & Milter.P_HDR_LEADSPC),
            heard=self._surroundings.stopwatch(),
        )
        with self._lock:
            self._open += 1
        context.setpriv(connection)
        return connection

    def close(self, context: Context) -> int:
        """The connection or (QUIT_NC) the session is over."""
        connection: Connection | None = context.getpriv()
        if connection is not None:
            with self._lock:
                self._open -= 1
            self._tell_silent(connection)
            connection.conversation.close()
            context.setpriv(None)
        return int(Milter.CONTINUE)

    def _tell_silent(self, connection: Connection) -> None:
        """Record that libmilter closed a connection for its silence; of its other reasons it tells none."""
        bounds = self._surroundings.bounds
        if self._surroundings.stopwatch() - connection.heard < bounds.idle_seconds:
            return
        problem = f"said nothing for {bounds.idle_seconds:g} seconds"
        told = self._surroundings.audit.overrun(
            Overrun(
                "milter.idle_timeout_seconds",
                bounds.idle_seconds,
                "closed",
                f"it {problem}",
                client=connection.conversation.client,
            )
        )
        if told:
            log.warning("an MTA was disconnected: it %s", problem)

    # -- the session and the envelope -----------------------------------------------------------------

    def connect(self, context: Context, name: str, _family: int, address: Any) -> int:
        """A network client's address comes as a tuple that begins with address and port."""
        if context.getpriv() is None:
            self._begin(context)
        where, port = address[:2] if isinstance(address, tuple) else (None, None)
        return self._ask(context, Stage.CONNECT, lambda talk, macros: talk.connect(name, where, port, macros))

    def helo(self, context: Context, name: str) -> int:
        """HELO or EHLO."""
        return self._ask(context, Stage.HELO, lambda talk, macros: talk.helo(name, macros))

    def mail(self, context: Context, path: bytes, *parameters: bytes) -> int:
        """MAIL."""
        words = tuple(decode_wire(word) for word in parameters)
        return self._ask(
            context, Stage.MAIL, lambda talk, macros: talk.mail(decode_wire(path), words, macros)
        )

    def rcpt(self, context: Context, path: bytes, *_parameters: bytes) -> int:
        """RCPT."""
        return self._ask(context, Stage.RCPT, lambda talk, macros: talk.rcpt(decode_wire(path), macros))

    def data(self, context: Context) -> int:
        """DATA."""
        return self._ask(context, Stage.DATA, lambda talk, macros: talk.data(macros))

    def _ask(self, context: Context, stage: Stage, verb: Callable[[Conversation, Macros], Response]) -> int:
        code = self._enter(
            context,
            lambda connection: give_answer(context, verb(connection.conversation, ContextMacros(context))),
        )
        return code if stage in self._surroundings.stages else int(Milter.NOREPLY)

    # -- the message ----------------------------------------------------------------------------------

    def header(self, context: Context, name: str, value: bytes) -> int:
        """One field."""
        self._enter(
            context,
            lambda one: one.conversation.header(name.encode("utf-8"), one.value_from_wire(value)),
        )
        return int(Milter.CONTINUE if self._defers_undecodable else Milter.NOREPLY)

    def end_of_headers(self, context: Context) -> int:
        """The empty line."""
        self._enter(context, lambda one: one.conversation.end_of_headers())
        return int(Milter.NOREPLY)

    def body(self, context: Context, chunk: bytes) -> int:
        """A piece of the body."""
        self._enter(context, lambda one: one.conversation.body(chunk))
        return int(Milter.NOREPLY)

    def end_of_message(self, context: Context) -> int:
        """The end, where alone the message may be changed."""
        macros = ContextMacros(context)
        return self._enter(
            context, lambda one: carry_out(context, one, one.conversation.end_of_message(macros))
        )

    def abort(self, context: Context) -> int:
        """The message is given up."""
        self._enter(context, lambda one: one.conversation.abort())
        return int(Milter.CONTINUE)

    def _enter(self, context: Context, act: Callable[[Connection], AnswerT]) -> AnswerT | int:
        """The door: every verb goes through here, and nothing that it raises gets out."""
        try:
            connection: Connection = context.getpriv()
            connection.heard = self._surroundings.stopwatch()
            return act(connection)
        except Exception as error:  # noqa: BLE001 -- `fail` logs it
            return fail(context, error, self._surroundings.breaches)


def ask_for_macros(context: Context) -> None:
    """Ask for the macros that are read, and for none where none are: each costs a packet a header field."""
    for stage, number in _MACRO_STAGES.items():
        context.setsymlist(number, " ".join(WANTED_MACROS[stage]) or NO_MACRO)
    context.setsymlist(Milter.M_EOH, NO_MACRO)


def give_answer(context: Context, response: Response) -> int:
    """The code to return for a response, its reply having been set."""
    if response.reply is not None:
        reply = response.reply
        context.setreply(str(reply.code), str(reply.status), format_reply_text(reply))
    return int(_CODES[response.answer])


def carry_out(context: Context, connection: Connection, outcome: Outcome) -> int:
    """Change the message as the outcome says, and give its answer. At end-of-message only."""
    denied = denied_change(outcome, connection.can_quarantine, connection.can_change_recipients)
    if denied is not None:
        name = outcome.queue_id
        log.error("%s: not as the rules say: %s", name, denied, extra={"queue_id": name})
        return give_answer(context, FAILED)
    for removal in outcome.removals:
        context.chgheader(removal.name, removal.occurrence, None)
    for insertion in outcome.insertions:
        name, value = insertion.field.name.decode("ascii"), connection.value_to_wire(insertion.field)
        context.addheader(name, value, insertion.index)
    for removed in outcome.removed_recipients:
        context.delrcpt(f"<{removed.text}>")
    for added in outcome.added_recipients:
        context.addrcpt(f"<{added}>")
    if outcome.quarantine is not None:
        context.quarantine(escape_ascii(outcome.quarantine, MAX_QUARANTINE_CHARACTERS))
    return give_answer(context, outcome.response)


def fail(context: Context, error: Exception, breaches: Moderation) -> int:
    """The door's answer to a bug, or to an MTA that breaks the protocol: log it, defer what is under way."""
    queue_id = escape(ContextMacros(context).get("i") or "no queue id")
    connection: Connection | None = context.getpriv()
    if connection is None or not connection.conversation.has_failed:
        log_failure(queue_id, error, breaches)
    if connection is None:
        return int(Milter.TEMPFAIL)
    try:
        connection.conversation.fail()
        return give_answer(context, FAILED)
    except Exception as unrecorded:  # noqa: BLE001 -- logged here
        log_unrecorded(queue_id, unrecorded)
        return int(Milter.TEMPFAIL)


def serve(context: WorkerContext, surroundings: Surroundings, listener: socket.socket) -> None:
    """Serve connections of `listener` until the parent retires this worker and its mail is finished.

    libmilter's loop has a thread of its own: it blocks the signals of the thread that it runs in, and
    those are the worker's to ignore.

    Raises:
        RuntimeError: libmilter cannot serve.
    """
    callbacks = Callbacks(surroundings)
    callbacks.register()
    _allow_large_packets(surroundings.bounds.packet_octets)
    Milter.settimeout(max(1, int(surroundings.bounds.idle_seconds)))
    Milter.setconn(f"fd:{listener.fileno()}")
    stop = threading.Event()
    loop = _Loop(stop)
    loop.start()
    context.serving(lambda: _retire(listener, stop), surroundings.audit.reopen)
    stop.wait()
    if loop.problem is not None:
        raise RuntimeError("libmilter cannot serve") from loop.problem
    _finish(callbacks)


def _allow_large_packets(octets: int) -> None:
    """Take header fields that are longer than libmilter's 64 KB: Postfix sends up to header_size_limit.

    Without this one such field ends the connection, and its mail is deferred for ever. pymilter does not
    pass the function on; it is found through the library that pymilter's module is linked with.
    """
    library = ctypes.CDLL(sys.modules["milter"].__file__)
    try:
        library.smfi_setmaxdatasize(ctypes.c_size_t(octets))
    except AttributeError:
        log.warning("this libmilter takes no header field of more than 64 KB")


class _Loop(threading.Thread):
    """libmilter's main loop. It ends by itself only in trouble."""

    def __init__(self, stop: threading.Event) -> None:
        super().__init__(name="libmilter", daemon=True)
        self._stop_event = stop
        self.problem: Exception | None = None

    def run(self) -> None:
        try:
            Milter.main()
            self.problem = RuntimeError("its loop ended")
        except Milter.error as error:
            self.problem = error
        finally:
            self._stop_event.set()


def _retire(listener: socket.socket, stop: threading.Event) -> None:
    """Take nothing new; what is open goes on.

    libmilter cannot be told so: another socket, which nobody knows, takes the place of the listening one
    under its number. No file system need be writable for it.
    """
    with socket.socket(socket.AF_UNIX) as unused:
        unused.bind("")  # Linux chooses an abstract name (unix(7), autobind)
        unused.listen(1)
        unused.setblocking(False)
        os.dup2(unused.fileno(), listener.fileno())
    stop.set()


def _finish(callbacks: Callbacks) -> None:
    """Wait until every connection has ended; the parent sees to it that this does not take too long."""
    quiet = 0.0
    while quiet < SETTLE_SECONDS:
        time.sleep(POLL_SECONDS)
        quiet = 0.0 if callbacks.open_connections else quiet + POLL_SECONDS
