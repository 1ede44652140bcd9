"""Which header fields a signature covers, and their digest (RFC 6376 sections 3.7 and 5.4.2)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

from mailreeve_milter.dkim.canonical import (
    CRLF,
    Canonicalization,
    canonical_field,
    canonical_name,
    relaxed_field,
)
from mailreeve_milter.message import HeaderField


class SignedHeader:
    """A message's fields, found by name from the bottom up in one pass, whatever names are asked for.

    A field's canonical form is made once, however many signatures cover it. `places` are the positions of
    the fields by lower-case name, top down.
    """

    __slots__ = ("_fields", "_relaxed", "places")

    def __init__(self, fields: Sequence[HeaderField]) -> None:
        self._fields = fields
        self._relaxed: dict[int, bytes] = {}
        places: dict[bytes, list[int]] = {}  # top down
        for place, field in enumerate(fields):
            name = canonical_name(field.name)
            if name in places:
                places[name].append(place)
            else:
                places[name] = [place]
        self.places: Mapping[bytes, Sequence[int]] = places

    def count(self, name: bytes) -> int:
        """How many fields of this lower-case name there are."""
        return len(self.places.get(name, ()))

    def position_of(self, field: HeaderField) -> int | None:
        """Where this very field stands, not one that is equal; None if it is not among them."""
        places = self.places.get(canonical_name(field.name), ())
        return next((place for place in places if self._fields[place] is field), None)

    def select(self, names: Sequence[bytes], leave_out: int | None = None) -> list[int]:
        """The positions that lower-case `names` mean, in their order; a name beyond the last one is nothing.

        `leave_out` is the position of the signature itself, which never covers itself.
        """
        taken: dict[bytes, int] = {}  # of the fields of a name, how many from the bottom up are dealt with
        selected = []
        for name in names:
            places = self.places.get(name)
            if places is None:
                continue
            index = len(places) - 1 - taken.get(name, 0)
            if index >= 0 and places[index] == leave_out:
                index -= 1
            taken[name] = len(places) - index
            if index >= 0:
                selected.append(places[index])
        return selected

    def canonical(self, places: Sequence[int], canonicalization: Canonicalization) -> bytes:
        """The canonical forms of these fields, one after the other."""
        fields = self._fields
        if canonicalization is Canonicalization.SIMPLE:
            return b"".join([fields[place].raw for place in places])
        made, octets = self._relaxed, []
        for place in places:
            form = made.get(place)
            if form is None:
                form = made[place] = relaxed_field(fields[place])
            octets.append(form)
        return b"".join(octets)

    def digest(
        self,
        names: Sequence[bytes],
        canonicalization: Canonicalization,
        signature: HeaderField,
        leave_out: int | None = None,
    ) -> bytes:
        """SHA-256 of the selected fields and of the signature's own, whose b= the caller has emptied."""
        hashing = hashlib.sha256(self.canonical(self.select(names, leave_out), canonicalization))
        hashing.update(unsigned_form(signature, canonicalization))
        return hashing.digest()


def unsigned_form(signature: HeaderField, canonicalization: Canonicalization) -> bytes:
    """What a signature hashes of its own field, whose b= the caller has emptied (section 3.7)."""
    return canonical_field(signature, canonicalization).removesuffix(CRLF)
