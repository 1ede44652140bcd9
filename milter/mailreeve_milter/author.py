"""Who wrote it: the one author domain of a message, or why there is none. RFC 5322 sections 3.2 to 3.4.

Strict where a lenient reader could be led to another domain than the one that is checked (RFC 9989
section 5.3.1): everything that is not exactly the grammar has no author. Must not know DNS or policy.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

import msgspec

from mailreeve_milter.encoded_words import decode_words
from mailreeve_milter.message import HeaderField
from mailreeve_policyd.errors import ProtocolError
from mailreeve_policyd.smtp import MAX_DOMAIN_OCTETS, Domain, Mailbox, parse_domain

MAX_FROM_OCTETS = 16_384
"""Of one From value; mail programs write a line or two, and a list of authors is short."""

MAX_MAILBOXES = 50
"""In one From field (RFC 9989 section 11.5 wants a limit)."""

MAX_COMMENT_DEPTH = 20
"""Comments in comments."""


class Author(msgspec.Struct, frozen=True, gc=False):
    """Who wrote a message.

    `mailbox` is the first of its authors, who all have one domain; else None, and `problem` says why.
    """

    mailbox: Mailbox | None
    problem: str | None = None

    @property
    def domain(self) -> Domain | None:
        """The author domain."""
        return self.mailbox.domain if self.mailbox else None


def extract_author(fields: Sequence[HeaderField]) -> Author:
    """The author of a message by its header fields. Any bytes give a value.

    Exactly one From field, of mailboxes that all have the same domain (A-labels after `parse_domain`).
    Groups, routes and obsolete forms (RFC 5322 section 4.4), apart from dots in display names, are no
    author.
    """
    found = [field for field in fields if field.name[:1] in _FIRST_OF_FROM and _is_from(field.name)]
    if len(found) != 1:
        return Author(None, "no From field" if not found else f"{len(found)} From fields")
    try:
        return _single(parse_mailbox_list(found[0].value))
    except ProtocolError as error:
        return Author(None, f"From: {error}")


def parse_mailbox_list(value: bytes) -> tuple[Mailbox, ...]:
    """The mailboxes of a From value (`mailbox-list`); at least one, each with a domain.

    Raises:
        ProtocolError: it is none, or one of its mailboxes has no domain name.
    """
    if len(value) > MAX_FROM_OCTETS:
        raise ProtocolError("too long")
    plain = _PLAIN.fullmatch(value)
    if plain is not None:
        local_part, host = (plain[1] or plain[3]).decode("ascii"), (plain[2] or plain[4]).decode("ascii")
        domain = parse_domain(host)
        if b"=?" in value:
            _forbid_hidden_addresses(value.decode("ascii"), frozenset({str(domain)}))
        return (Mailbox(f"{local_part}@{host}", local_part, domain),)
    try:
        text = _FOLD.sub(" ", value.decode("utf-8"))
    except UnicodeDecodeError:
        text = _FOLD.sub(" ", _hide_octets(value))
    if _CONTROL.search(text):
        raise ProtocolError("control character")
    mailboxes = _Reader(text).read_mailbox_list()
    domains = frozenset(str(mailbox.domain) for mailbox in mailboxes)
    _forbid_other_addresses(text, domains)
    if "=?" in text:
        _forbid_hidden_addresses(text, domains)
    return mailboxes


def _forbid_other_addresses(text: str, domains: frozenset[str]) -> None:
    """No other address in angle brackets, be it in a comment or a quoted name: some readers look no further.

    Nor comments beside a domain in angle brackets, which they would take for its part.
    """
    if any(_domain(match[1].strip()) not in domains for match in _ANGLE_ADDRESS.finditer(text)):
        raise ProtocolError("another address in angle brackets")


def _forbid_hidden_addresses(text: str, domains: frozenset[str]) -> None:
    """Nor one in encoded words: some readers decode them before they look for the address.

    In a display name another address without angle brackets is allowed, as in a quoted one. Not so beside
    comments, which such readers may end elsewhere, without a bracketed address to hold on to, and beside
    controls, behind which some show nothing.
    """
    shown = decode_words(text)
    _forbid_other_addresses("".join(filter(str.isprintable, shown)), domains)
    if shown.count("@") == text.count("@"):
        return
    is_doubtful = "(" in text or "<" not in text or _CONTROL.search(shown)
    if is_doubtful and any(_domain(match[1]) not in domains for match in _ADDRESS.finditer(shown)):
        raise ProtocolError("another address in an encoded word")


def _domain(text: str) -> str | None:
    try:
        return parse_domain(text) if len(text) <= MAX_DOMAIN_OCTETS else None
    except ProtocolError:
        return None


def _single(mailboxes: tuple[Mailbox, ...]) -> Author:
    if len(mailboxes) > 1:
        domains = {mailbox.domain for mailbox in mailboxes}
        if len(domains) > 1:
            return Author(None, f"From: {len(domains)} author domains")
    return Author(mailboxes[0])


# What mail programs may take for From although it is not: other octets than a name's around it.
_NOT_IN_NAMES = bytes(octet for octet in range(256) if not 33 <= octet <= 126)
_FIRST_OF_FROM = frozenset(bytes([octet]) for octet in b"Ff" + _NOT_IN_NAMES)


def _is_from(name: bytes) -> bool:
    return name.translate(None, _NOT_IN_NAMES).lower() == b"from"


# What nearly all From values are, and reads as the grammar below would have it: a name of atoms and dots,
# or one in quotes without anything special in it, and an address of atoms; or that address alone
_ADDR_SPEC = rb"([A-Za-z0-9_+=-]+(?:\.[A-Za-z0-9_+=-]+)*)@([A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*)"
_PLAIN = re.compile(
    rb"[ \t]*(?:(?:[A-Za-z0-9!#$%&'*+\-/=?^_`{|}~.]+[ \t]+)*(?:\"[A-Za-z0-9_.,' -]*\"[ \t]*)?"
    rb"<" + _ADDR_SPEC + rb">|" + _ADDR_SPEC + rb")[ \t]*"
)
# FWS = ([*WSP CRLF] 1*WSP); a line that does not go on with white space ends the field for some readers
_FOLD = re.compile(r"\r\n(?=[ \t])")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]")
# atext with UTF8-non-ascii (RFC 6532 section 3.2)
_ATEXT = r"A-Za-z0-9!#$%&'*+\-/=?^_`{|}~\u0080-\U0010ffff"
_DOT_ATOM = re.compile(rf"[{_ATEXT}]+(?:\.[{_ATEXT}]+)*")
# obs-phrase: atoms and dots, as in "John Q. Public"
_PHRASE_WORD = re.compile(rf"[{_ATEXT}.]+")
# quoted-string content: qtext, FWS and quoted-pair = "\" (VCHAR / WSP)
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"')
# In a quoted local part these lead readers who look for an address by its signs to another one
_MISLEADING = re.compile(r"[<>@,;:()\\]")
_ANGLE_ADDRESS = re.compile(r"<[^<>]*@([^<>@]*)")
_ADDRESS = re.compile(r"""@[ \t]*([^][\s@<>(),;:\\"'\x00-\x1f\x7f]+)""")
_COMMENT_PIECE = re.compile(r"[^()\\]+")
_SPACE = re.compile(r"[ \t]+")


def _hide_octets(value: bytes) -> str:
    """Old programs write display names in Latin-1; such octets may stand there and nowhere else."""
    return value.decode("ascii", "replace")


def _require_local_part(text: str) -> None:
    normalized = unicodedata.normalize("NFKC", text)
    if "=?" in normalized:  # a reader that decodes it finds another address in it
        raise ProtocolError("encoded word in the local part")
    if text.startswith('"'):
        if _MISLEADING.search(text):
            raise ProtocolError("misleading quoted local part")
    # what is no dot-atom, or turns into signs of an address when a reader normalizes it (U+FF20 is an @)
    elif _DOT_ATOM.fullmatch(normalized) is None or _DOT_ATOM.fullmatch(text) is None:
        raise ProtocolError("wrong local part")
    _require_visible(text)


def _require_visible(text: str) -> None:
    """No character that changes how the others show, nor one that takes no room (Unicode TR 36)."""
    if not text.isprintable() or "\ufffd" in text:
        raise ProtocolError("unsafe character in the address")


class _Reader:
    """Recursive descent without recursion; each method reads one rule of the grammar or raises."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def read_mailbox_list(self) -> tuple[Mailbox, ...]:
        """A mailbox-list = mailbox *("," mailbox)."""
        mailboxes = [self._read_mailbox()]
        while self._at < len(self._text):
            self._expect(",")
            if len(mailboxes) == MAX_MAILBOXES:
                raise ProtocolError("too many mailboxes")
            mailboxes.append(self._read_mailbox())
        return tuple(mailboxes)

    def _read_mailbox(self) -> Mailbox:
        """A mailbox = name-addr / addr-spec, with the CFWS around it."""
        self._skip_cfws()
        words = self._read_words()
        if self._peek() == "<":
            return self._read_angle_addr()
        if len(words) != 1 or self._peek() != "@":
            raise ProtocolError(self._describe(words))
        return self._read_domain_of(words[0])

    def _read_angle_addr(self) -> Mailbox:
        """An angle-addr = [CFWS] "<" addr-spec ">" [CFWS]; a route (obs-route) is none."""
        self._expect("<")
        self._skip_cfws()
        words = self._read_words()
        if len(words) != 1 or self._peek() != "@":
            raise ProtocolError("no address in angle brackets")
        mailbox = self._read_domain_of(words[0])
        self._expect(">")
        self._skip_cfws()
        return mailbox

    def _read_domain_of(self, local_part: str) -> Mailbox:
        """The rest of addr-spec = local-part "@" domain; a domain-literal is no domain."""
        _require_local_part(local_part)
        self._expect("@")
        self._skip_cfws()
        match = _DOT_ATOM.match(self._text, self._at)
        if match is None or len(match[0]) > MAX_DOMAIN_OCTETS:
            raise ProtocolError("no domain")
        self._at = match.end()
        self._skip_cfws()
        _require_visible(match[0])
        return Mailbox(f"{local_part}@{match[0]}", local_part, parse_domain(match[0]))

    def _read_words(self) -> list[str]:
        """1*word with dots, or nothing; each with the CFWS after it."""
        words: list[str] = []
        while True:
            match = _QUOTED.match(self._text, self._at) or _PHRASE_WORD.match(self._text, self._at)
            if match is None:
                return words
            words.append(match[0])
            self._at = match.end()
            self._skip_cfws()

    def _skip_cfws(self) -> None:
        """[CFWS], comments in comments included."""
        depth = 0
        while self._at < len(self._text):
            step = self._cfws_step(depth)
            if step is None:
                break
            depth += step
            if depth > MAX_COMMENT_DEPTH:
                raise ProtocolError("comments too deep")
        if depth:
            raise ProtocolError("a comment without end")

    def _cfws_step(self, depth: int) -> int | None:
        """Pass one piece; how it changes the depth, None where CFWS ends."""
        character = self._text[self._at]
        if character == "(":
            self._at += 1
            return 1
        pattern = _COMMENT_PIECE if depth else _SPACE
        match = pattern.match(self._text, self._at)
        if match is not None:
            self._at = match.end()
            return 0
        if depth and character == ")":
            self._at += 1
            return -1
        if depth and character == "\\" and self._at + 1 < len(self._text):
            self._at += 2
            return 0
        return None

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _expect(self, character: str) -> None:
        if self._peek() != character:
            raise ProtocolError(f"{self._show()} where {character!r} should stand")
        self._at += 1

    def _describe(self, words: list[str]) -> str:
        if self._peek() == ":" and words:
            return "a group"
        return f"{self._show()} where an address should stand" if words else "no address"

    def _show(self) -> str:
        return repr(self._peek()) if self._peek() else "the end"
