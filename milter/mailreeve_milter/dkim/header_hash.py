"""Which header fields a signature covers, and their digest (RFC 6376 sections 3.7 and 5.4.2)."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence

from mailreeve_milter.dkim.canonical import CRLF, Canonicalization, canonical_field
from mailreeve_milter.message import HeaderField


class SignedHeader:
    """A message's fields, found by name from the bottom up in one pass, whatever names are asked for.

    A field's canonical form is made once, however many signatures cover it.
    """

    __slots__ = ("_canonical", "_fields", "_positions")

    def __init__(self, fields: Sequence[HeaderField]) -> None:
        self._fields = fields
        self._canonical: dict[Canonicalization, dict[int, bytes]] = {}
        positions: dict[bytes, list[int]] = defaultdict(list)  # top down
        for position, field in enumerate(fields):
            positions[field.name.lower().rstrip(b" \t")].append(position)
        self._positions = positions

    def count(self, name: bytes) -> int:
        """How many fields of this lower-case name there are."""
        return len(self._positions.get(name, ()))

    def select(self, names: Sequence[bytes], leave_out: int | None = None) -> list[int]:
        """The positions that lower-case `names` mean, in their order; a name beyond the last one is nothing.

        `leave_out` is the position of the signature itself, which never covers itself.
        """
        remaining: dict[bytes, list[int]] = {}
        selected = []
        for name in names:
            if name not in remaining:
                remaining[name] = [place for place in self._positions.get(name, ()) if place != leave_out]
            if remaining[name]:
                selected.append(remaining[name].pop())
        return selected

    def digest(
        self,
        names: Sequence[bytes],
        canonicalization: Canonicalization,
        signature: HeaderField,
        leave_out: int | None = None,
    ) -> bytes:
        """SHA-256 of the selected fields and of the signature's own, whose b= the caller has emptied."""
        made = self._canonical.setdefault(canonicalization, {})
        octets = []
        for position in self.select(names, leave_out):
            if position not in made:
                made[position] = canonical_field(self._fields[position], canonicalization)
            octets.append(made[position])
        octets.append(canonical_field(signature, canonicalization).removesuffix(CRLF))
        return hashlib.sha256(b"".join(octets)).digest()
