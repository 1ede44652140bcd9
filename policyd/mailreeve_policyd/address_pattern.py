"""Patterns of addresses as an operator writes them: `alice@example.org`, `*@example.org`, `*@*.example.org`.

Knows mailboxes and nothing of what a match is good for. The only wildcard is the asterisk.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from mailreeve_policyd.errors import ProtocolError
from mailreeve_policyd.smtp import Domain, Mailbox, parse_domain

ANY = "*"

MAX_PATTERN_CHARACTERS = 512
"""An address has 320 at most (RFC 5321 section 4.5.3.1); a longer pattern is a mistake."""


@dataclass(frozen=True, slots=True)
class Glob:
    """A text in which asterisks stand for any characters or none: what stands between them, in order.

    No regular expression: those take time without bound on a text that a stranger chose.
    """

    parts: tuple[str, ...]
    minds_case: bool = False

    def matches(self, text: str) -> bool:
        """Is it the whole text?"""
        if not self.minds_case:
            text = text.lower()
        first, *others = self.parts
        if not others:
            return text == first
        if not text.startswith(first):
            return False
        at = len(first)
        for part in others[:-1]:
            at = text.find(part, at)
            if at < 0:
                return False
            at += len(part)
        return len(text) - at >= len(others[-1]) and text.endswith(others[-1])


def parse_glob(text: str, *, minds_case: bool = False) -> Glob:
    """The pattern that a text is; any text is one."""
    parts = re.split(r"\*+", text if minds_case else text.lower())
    return Glob(tuple(parts), minds_case)


@dataclass(frozen=True, slots=True)
class AddressPattern:
    """Mailboxes whose local part matches, at a domain, below it, or anywhere (`domain` None).

    `local_part` is None for any. Local parts are compared without case, because two people who differ
    in case alone would be one in every mail system that an operator meets.
    """

    local_part: Glob | None
    domain: Domain | None
    is_below: bool = False

    @property
    def matches_all(self) -> bool:
        """Is there no mailbox that it leaves out?"""
        return self.local_part is None and self.domain is None

    def matches(self, mailbox: Mailbox) -> bool:
        """Is the mailbox one of those that are meant? One without a domain is never."""
        if mailbox.domain is None:
            return False
        if self.domain is not None and not self._is_at(mailbox.domain):
            return False
        return self.local_part is None or self.local_part.matches(mailbox.local_part)

    def _is_at(self, domain: Domain) -> bool:
        return domain.endswith(f".{self.domain}") if self.is_below else domain == self.domain


def parse_address_pattern(text: str) -> AddressPattern:
    """`local@domain`, or `domain` alone for all of its mailboxes.

    The domain is a name, `*.` and a name for all subdomains at any depth (and not the name itself), or
    `*` for any. The local part may hold asterisks.

    Raises:
        ProtocolError: it is none of these.
    """
    if len(text) > MAX_PATTERN_CHARACTERS:
        raise ProtocolError("the pattern is too long")
    local_part, at, host = text.rpartition("@")
    if at and not local_part:
        raise ProtocolError("nothing stands before the @")
    local_pattern = parse_glob(local_part) if at and local_part != ANY else None
    if host == ANY:
        return AddressPattern(local_pattern, None)
    is_below = host.startswith("*.")
    return AddressPattern(local_pattern, parse_domain(host.removeprefix("*.")), is_below)
