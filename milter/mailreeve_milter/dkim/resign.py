"""Has this message our signature already? Then it is not signed again with the same key.

A message comes twice where a content filter gives it back. What it bears is believed only if it verifies
with our own key: a sender who writes our d= and s= into a field of his own must not go unsigned by that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from mailreeve_milter.dkim.header_hash import SignedHeader
from mailreeve_milter.dkim.key_record import UsableKey
from mailreeve_milter.dkim.outcome import Finding
from mailreeve_milter.dkim.sign import Signing, SigningKey, SigningOptions, signing_of
from mailreeve_milter.dkim.signature import DkimSignature
from mailreeve_milter.dkim.verify import CLOCK_SKEW, Verification, start_verification_of
from mailreeve_milter.message import HeaderField
from mailreeve_policyd.smtp import Domain

MAX_VERIFIED = 8
"""Fields with our d= and s= that are verified; only a forger writes more, whose mail is signed then."""

_KeyPlace = tuple[Domain | None, Domain | None]


class SigningOnce:
    """Signs with each key that has not signed the message as it is now. Made by `start_signing_once`."""

    __slots__ = ("_found", "_keys", "_signing")

    def __init__(
        self, signing: Signing, keys: Mapping[_KeyPlace, SigningKey], found: Verification | None
    ) -> None:
        self._signing = signing
        self._keys = keys
        self._found = found

    def update(self, chunk: bytes) -> None:
        """The next octets of the body, cut anywhere, with CRLF line ends as on the wire."""
        self._signing.update(chunk)
        if self._found is not None:
            self._found.update(chunk)

    def finish(self, now: datetime) -> tuple[tuple[SigningKey, HeaderField], ...]:
        """The body is complete: the keys that sign now and their fields, for the top of the header."""
        has_signed = self._keys_that_signed(now)
        signing = [key for key in self._signing.keys if key not in has_signed]
        return tuple(zip(signing, self._signing.finish(now, leave_out=has_signed), strict=True))

    def _keys_that_signed(self, now: datetime) -> list[SigningKey]:
        if self._found is None:
            return []
        # others need not give an expired signature (x=) the grace that we give them
        outcomes = self._found.finish_with(self._find_key, now + CLOCK_SKEW)
        passed = [outcome.result.properties for outcome in outcomes if outcome.counts]
        places = {(properties["header.d"], properties["header.s"]) for properties in passed}
        return [key for place, key in self._keys.items() if place in places]

    def _find_key(self, signature: DkimSignature) -> UsableKey | Finding:
        key = self._keys[signature.domain, signature.selector]
        if signature.algorithm is not key.algorithm:
            return Finding("permerror", "not our algorithm")
        return UsableKey(key.private_key.public_key(), is_testing=False)


def start_signing_once(
    fields: Sequence[HeaderField], keys: Sequence[SigningKey], options: SigningOptions | None = None
) -> SigningOnce:
    """Sign a message whose header, `fields` top down, is complete, with each key that has not signed it."""
    by_place: dict[_KeyPlace, SigningKey] = {(key.domain, key.selector): key for key in keys}
    header = SignedHeader(fields)
    found = start_verification_of(fields, header, by_place, MAX_VERIFIED)
    return SigningOnce(signing_of(header, keys, options), by_place, found)
