"""The Postfix policy protocol (SMTPD_POLICY_README): octets in, transactions out; verdicts in, octets out.

No IO, no policy. A request is `name=value` lines and an empty one, an answer `action=...` and an empty
line. Who breaks the protocol gets no answer: Postfix then tries again and at last does its default_action.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import msgspec

from mailreeve_policyd.errors import BoundError, ProtocolError
from mailreeve_policyd.escape import ELLIPSIS, decode_wire, encode_wire, escape, escape_ascii
from mailreeve_policyd.smtp import Mailbox, Stage, parse_mailbox
from mailreeve_policyd.transaction import Envelope, IPAddress, Session, Tls, Transaction, parse_address
from mailreeve_policyd.verdict import Action, AddHeader, Verdict

MAX_DIGITS = 18
"""A number of the wire fits 64 bits, or it is none."""

MAX_TEXT = 400
"""Characters of a reply's text. Postfix puts the address before it; a reply line has 512 octets
(RFC 5321 section 4.5.3.1.5)."""

MAX_HEADER = 900
"""Characters of a field to prepend: one line of RFC 5322 section 2.1.1, and half of what Postfix reads."""

REQUEST = "smtpd_access_policy"

DUNNO = b"action=DUNNO\n\n"
"""No opinion: Postfix goes on with its list."""

_STAGES: Mapping[str, Stage] = {
    "CONNECT": Stage.CONNECT,
    "EHLO": Stage.HELO,
    "HELO": Stage.HELO,
    "MAIL": Stage.MAIL,
    "RCPT": Stage.RCPT,
    "DATA": Stage.DATA,
    "END-OF-MESSAGE": Stage.END_OF_MESSAGE,
}

_BEFORE_MAIL = frozenset({Stage.CONNECT, Stage.HELO})
_FROM_DATA = frozenset({Stage.DATA, Stage.END_OF_MESSAGE})
_FROM_RCPT = _FROM_DATA | {Stage.RCPT}


@dataclass(frozen=True, slots=True)
class RequestBounds:
    """How large a request may be, unless the settings say otherwise.

    Postfix 3.12 sends some thirty attributes, each far below its line_length_limit of 2048 but for names of
    certificates in xtext: 2 KB, at most 60.
    """

    octets: int = 65_536
    line_octets: int = 8_192
    attributes: int = 200


DEFAULT_BOUNDS = RequestBounds()


class RequestParser:
    """Cuts what comes over one connection into requests, however it is chunked."""

    __slots__ = ("_bounds", "_buffer", "_searched")

    def __init__(self, bounds: RequestBounds = DEFAULT_BOUNDS) -> None:
        self._bounds = bounds
        self._buffer = b""
        self._searched = 0

    def feed(self, octets: bytes) -> Iterator[Mapping[str, str]]:
        """Take octets; the iterator gives each request that is complete: see `next_request`."""
        self.take(octets)
        return iter(self.next_request, None)

    @property
    def is_between_requests(self) -> bool:
        """Is nothing of a request waiting for its rest?"""
        return not self._buffer

    def take(self, octets: bytes) -> None:
        """Octets as they came."""
        self._buffer = self._buffer + octets if self._buffer else octets

    def next_request(self) -> Mapping[str, str] | None:
        """The next request that is complete, or None: its values by attribute.

        Values are decoded by `decode_wire`. Of an attribute that comes twice the first counts.

        Raises:
            BoundError: what comes next is more than a request may be.
            ProtocolError: what comes next is none. The parser is not used again.
        """
        buffer, most = self._buffer, self._bounds.octets
        end = buffer.find(b"\n\n", self._searched)
        if 0 < end < most:
            self._buffer = buffer[end + 2 :]
            self._searched = 0
            return parse_attributes(buffer[:end], self._bounds)
        if len(buffer) > most:
            raise BoundError(f"a request of more than {most} octets", "policyd.max_request_bytes", most)
        if buffer[:1] == b"\n":
            raise ProtocolError("a request without attributes")
        self._searched = max(0, len(buffer) - 1)
        return None


def parse_attributes(block: bytes, bounds: RequestBounds = DEFAULT_BOUNDS) -> Mapping[str, str]:
    """The lines of one request, without the empty line at its end.

    Raises:
        BoundError: a line that is longer, or more attributes, than `bounds` allow.
        ProtocolError: a NUL, a line without `=` or without a name, or another request than
            smtpd_access_policy.
    """
    most = bounds.line_octets
    if len(block) > most and len(max(block.split(b"\n"), key=len)) > most:
        raise BoundError(f"a line of more than {most} octets", "policyd.max_line_bytes", most)
    attributes = _plain_attributes(block) or _any_attributes(block, bounds.attributes)
    if len(attributes) > bounds.attributes:
        raise _too_many(bounds.attributes)
    if attributes.get("request") != REQUEST:
        raise ProtocolError(f"not a request for {REQUEST}: {escape(attributes.get('request', 'none'), 80)}")
    return attributes


def _plain_attributes(block: bytes) -> Mapping[str, str] | None:
    """Nearly every request: each line has one `=`, nothing needs an escape in JSON, no name comes twice.

    So the lines become the text of a JSON object, which takes half as long to read as to split them one by
    one. Where that is no object, or another one than the lines say, the answer is None.
    """
    if b'"' in block or b"\\" in block:
        return None
    text = b'{"' + block.replace(b"=", b'":"').replace(b"\n", b'","') + b'"}'
    try:
        attributes = _decode(text)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    # Each line made the text four octets longer, but for the last, which made it six: with as many
    # attributes as lines no name came twice.
    are_all = len(text) == len(block) + 4 * len(attributes) + 2
    return attributes if are_all and "" not in attributes else None


_decode = msgspec.json.Decoder(dict[str, str]).decode


def _any_attributes(block: bytes, most: int) -> Mapping[str, str]:
    if b"\0" in block:
        raise ProtocolError("a NUL in a request")
    if block.count(b"\n") >= most:
        raise _too_many(most)
    lines = decode_wire(block).split("\n")
    lines.reverse()  # the first of two is the last to be entered
    try:
        attributes = dict([line.split("=", 1) for line in lines])
    except ValueError:  # one without `=`
        raise _no_attribute(lines) from None
    if "" in attributes:
        raise _no_attribute(lines)
    return attributes


def _too_many(most: int) -> BoundError:
    return BoundError(f"a request of more than {most} attributes", "policyd.max_attributes", most)


def _no_attribute(lines: Sequence[str]) -> ProtocolError:
    wrong = next(line for line in reversed(lines) if line.find("=") < 1)
    return ProtocolError(f"a line that is no attribute: {escape(wrong, 80)}")


def parse_transaction(attributes: Mapping[str, str]) -> Transaction | None:
    """The moment that a request asks about. An empty value is an absent one, `unknown` no name.

    None for VRFY, ETRN and a state that this version does not know: they are no part of a mail
    transaction, and get DUNNO.

    Raises:
        ProtocolError: no protocol_state.
    """
    state = attributes.get("protocol_state")
    if not state:
        raise ProtocolError("a request without protocol_state")
    stage = _STAGES.get(state)
    if stage is None:
        return None
    given = {name: value for name, value in attributes.items() if value}
    get = given.get
    recipient = _mailbox(get("recipient")) if stage in _FROM_RCPT else None
    return Transaction(
        stage,
        _session(given),
        None if stage in _BEFORE_MAIL else _envelope(get("sender"), stage, recipient),
        recipient,
        _number(get("recipient_count")) if stage in _FROM_DATA else None,
        _number(get("size")),
        get("queue_id"),
        get("instance"),
        given,
    )


@lru_cache(maxsize=4096)
def _address(text: str | None) -> IPAddress | None:
    """Remembered: the same few are in nearly every request, and ipaddress takes 5 us for one."""
    return parse_address(text) if text else None


def _session(given: Mapping[str, str]) -> Session:
    get = given.get
    return Session(  # in the order of its fields: by their names it takes three times as long
        _address(get("client_address")),
        _number(get("client_port")),
        _name(get("client_name")),
        _name(get("reverse_client_name")),
        get("helo_name"),
        get("protocol_name"),
        _address(get("server_address")),
        _number(get("server_port")),
        get("sasl_method"),
        get("sasl_username"),
        get("sasl_sender"),
        _tls(given) if "encryption_protocol" in given else None,
        get("policy_context"),
    )


def _tls(given: Mapping[str, str]) -> Tls:
    get = given.get
    return Tls(
        get("encryption_protocol"),
        get("encryption_cipher"),
        _number(get("encryption_keysize")),
        _xtext(get("ccert_subject")),
        _xtext(get("ccert_issuer")),
        _xtext(get("ccert_fingerprint")),
        _xtext(get("ccert_pubkey_fingerprint")),
    )


def _envelope(sender: str | None, stage: Stage, recipient: Mailbox | None) -> Envelope:
    """Who was accepted is known where there is one recipient alone."""
    accepted = (recipient,) if recipient and stage in _FROM_DATA else ()
    return Envelope(_mailbox(sender), accepted)


def _mailbox(text: str | None) -> Mailbox | None:
    return parse_mailbox(text) if text else None


def _name(text: str | None) -> str | None:
    """A client's name; Postfix says `unknown` where it found none."""
    return None if text == "unknown" else text


def _number(text: str | None) -> int | None:
    """Zero stands for "not available", as an empty value does."""
    if text is None or len(text) > MAX_DIGITS or not (text.isascii() and text.isdigit()):
        return None
    return int(text) or None


# xtext = *( xchar / hexchar ), hexchar = "+" 2(%x30-39 / %x41-46) (RFC 3461 section 4)
_HEXCHAR = re.compile(rb"\+([0-9A-F]{2})")


def _xtext(text: str | None) -> str | None:
    if text is None or "+" not in text:
        return text
    return decode_wire(_HEXCHAR.sub(lambda match: bytes.fromhex(match[1].decode()), encode_wire(text)))


# access(5). ACCEPT is no OK: Postfix does not say which list asks; OK in the wrong one makes an open relay.
_ACTIONS: Mapping[Action, str] = {
    Action.CONTINUE: "DUNNO",
    Action.ACCEPT: "DUNNO",
    Action.PERMIT: "OK",
    Action.DEFER: "DEFER_IF_PERMIT",
    Action.REJECT: "REJECT",
    Action.DISCARD: "DISCARD",
    Action.HOLD: "HOLD",
    Action.REDIRECT: "REDIRECT",
    Action.FILTER: "FILTER",
}

# What concerns a message is skipped by Postfix where there is none yet, and PREPEND where it is written.
_MESSAGE_ACTIONS = frozenset({Action.DISCARD, Action.HOLD, Action.REDIRECT, Action.FILTER})
_NO_PREPEND = _BEFORE_MAIL | {Stage.END_OF_MESSAGE}


@dataclass(frozen=True, slots=True)
class Answer:
    """What Postfix is told: the fields to prepend and the copies among it, and what it could not be told.

    `too_early` says that a later request of the same message can carry out what this one could not.
    """

    octets: bytes
    prepended: tuple[AddHeader, ...] = ()
    copied: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()
    too_early: bool = False


_NOTHING = Answer(DUNNO)


def format_answer(verdict: Verdict, moment: Stage) -> Answer:
    """A verdict as an answer to a request at `moment`, which may come later than the block that decided.

    An answer carries one action: where it is DUNNO otherwise, the first field to add is prepended, or
    without one the first copy is sent; all others are skipped. Text is made one line of ASCII, and cut.
    """
    if verdict.action is Action.CONTINUE and not verdict.edits and not verdict.copies:
        return _NOTHING  # nearly every answer
    skipped = (
        *(f"add-header {edit.name}" for edit in verdict.edits),
        *(f"bcc {address}" for address in verdict.copies),
    )
    if moment in _BEFORE_MAIL and verdict.action in _MESSAGE_ACTIONS:
        return Answer(DUNNO, skipped=(verdict.rule or verdict.action.value, *skipped), too_early=True)
    if _ACTIONS[verdict.action] != "DUNNO" or not skipped:
        return Answer(_action(_ACTIONS[verdict.action], _text(verdict)), skipped=skipped)
    if not verdict.edits:
        return _copy(verdict.copies[0], moment, skipped)
    if moment in _NO_PREPEND:
        return Answer(DUNNO, skipped=skipped, too_early=moment in _BEFORE_MAIL)
    first = verdict.edits[0]
    line = _one_line(f"{first.name}: {first.value}", MAX_HEADER)
    return Answer(_action("PREPEND", line), (first,), skipped=skipped[1:])


def _copy(address: str, moment: Stage, skipped: tuple[str, ...]) -> Answer:
    if moment in _BEFORE_MAIL:
        return Answer(DUNNO, skipped=skipped, too_early=True)
    return Answer(_action("BCC", _one_line(address, MAX_TEXT)), copied=(address,), skipped=skipped[1:])


def _text(verdict: Verdict) -> str:
    if verdict.action.refuses and verdict.reply:
        return _one_line(f"{verdict.reply.status} {verdict.reply.text}", MAX_TEXT)
    if verdict.target:
        return _one_line(verdict.target, MAX_TEXT)
    if verdict.action in _MESSAGE_ACTIONS and verdict.reason:
        return _one_line(verdict.reason, MAX_TEXT)
    return ""


def _one_line(text: str, limit: int) -> str:
    """Printable ASCII. What is that already stays as it is: values in it were escaped when it was made."""
    if not (text.isascii() and text.isprintable()):
        return escape_ascii(text, limit)
    return text if len(text) <= limit else text[: limit - len(ELLIPSIS)] + ELLIPSIS


def _action(word: str, text: str) -> bytes:
    return f"action={word} {text}".rstrip().encode("ascii") + b"\n\n"
