"""In which language somebody is answered and told: `reply-language = languages[sasl_username] or "en"`."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from mailreeve_policyd.errors import StoreError
from mailreeve_policyd.facts import Fact
from mailreeve_policyd.rules.nodes import Text
from mailreeve_policyd.rules.source import Mistake, Place, quote
from mailreeve_policyd.transaction import Transaction

DEFAULT_LANGUAGE = "en"
"""Of a file that does not say."""

LANGUAGE_TAG = re.compile(r"[A-Za-z]{2,8}(?:-[A-Za-z0-9]{1,8}){0,3}\Z")
"""As RFC 5646 writes them: `de`, `pt-BR`."""


@dataclass(frozen=True, slots=True)
class Language:
    """The language of a transaction. `look_up` is None where all have the default; `asks` what it reads."""

    default: str = DEFAULT_LANGUAGE
    look_up: Callable[[Transaction], str | None] | None = None
    asks: tuple[Fact, ...] = ()

    def of(self, transaction: Transaction) -> str:
        """Its tag in lower case; the default where nothing says another, or nothing can be asked now."""
        if self.look_up is None:
            return self.default
        try:
            return self.look_up(transaction) or self.default
        except StoreError:
            return self.default


def check_tag(text: Text) -> str:
    """The tag that stands in the rules file, in lower case.

    Raises:
        Mistake: it is none.
    """
    if LANGUAGE_TAG.match(text.text) is None:
        raise Mistake(text.at, f"{quote(text.text)} is no language", 'write it as "en" or "pt-BR"')
    return text.text.lower()


def read_tag(text: str) -> str:
    """The tag that stands in a table. Raises Mistake; whoever reads tables knows the row."""
    return check_tag(Text(Place(1, 1), text))
