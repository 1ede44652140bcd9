"""What verification says about one signature, in the words of RFC 8601 section 2.7.1."""

from __future__ import annotations

from typing import Literal

import msgspec

from mailreeve_policyd.authres import MethodResult
from mailreeve_policyd.smtp import Domain

Word = Literal["pass", "fail", "policy", "neutral", "temperror", "permerror"]
"""`none` is not among them: it is said of a message without a signature, not of a signature."""


class Finding(msgspec.Struct, frozen=True, gc=False):
    """A result word and its reason, which a person understands and which holds no text from the wire."""

    word: Word
    reason: str


class SignatureOutcome(msgspec.Struct, frozen=True):
    """One signature's result; `domain` is its d=, None where that could not be read.

    `result` has the method "dkim" and the properties header.d, header.i, header.s, header.a and
    header.b as far as they could be read.
    """

    result: MethodResult
    domain: Domain | None

    @property
    def counts(self) -> bool:
        """Does it prove anything for `domain`? A signature of a part of the body (l=) is no pass here."""
        return self.result.result == "pass" and self.domain is not None
