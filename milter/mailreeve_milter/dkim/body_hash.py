"""SHA-256 of a body in each canonical form and length that a message's signatures need, in one pass."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import msgspec

from mailreeve_milter.dkim.canonical import Canonicalization, Sink, body_canonicalizer


class BodyForm(msgspec.Struct, frozen=True, gc=False):  # a key of every message: a dataclass hashes slowly
    """What a signature hashed: the canonical form, and its first `length` octets (l=) or all of it."""

    canonicalization: Canonicalization
    length: int | None = None


class BodyHash:
    """The digest of one form, and how long the canonical body is."""

    __slots__ = ("_hash", "_length", "octets")

    def __init__(self, length: int | None) -> None:
        self._hash = hashlib.sha256()
        self._length = length
        self.octets = 0

    def add(self, canonical: bytes) -> None:
        """The next octets of the canonical body."""
        if self._length is None:
            self._hash.update(canonical)
        elif self.octets < self._length:
            self._hash.update(canonical[: self._length - self.octets])
        self.octets += len(canonical)

    @property
    def digest(self) -> bytes:
        """Of what was added so far."""
        return self._hash.digest()


class BodyHashes:
    """All digests of one body: each canonical form is made once, each distinct form hashed once."""

    __slots__ = ("_canonicalizers", "_hashes", "_is_finished")

    def __init__(self, forms: Iterable[BodyForm]) -> None:
        self._hashes: dict[BodyForm, BodyHash] = {}
        self._is_finished = False
        sinks: dict[Canonicalization, list[Sink]] = {}
        for form in forms:
            if form not in self._hashes:
                self._hashes[form] = body_hash = BodyHash(form.length)
                sinks.setdefault(form.canonicalization, []).append(body_hash.add)
        self._canonicalizers = [
            body_canonicalizer(form, _one_sink(of_form)) for form, of_form in sinks.items()
        ]

    def update(self, chunk: bytes) -> None:
        """The next octets of the body."""
        for canonicalizer in self._canonicalizers:
            canonicalizer.update(chunk)

    def finish(self) -> None:
        """The body is complete. Again is nothing more."""
        if self._is_finished:
            return
        self._is_finished = True
        for canonicalizer in self._canonicalizers:
            canonicalizer.finish()

    def of(self, form: BodyForm) -> BodyHash:
        """The digest of one of the forms; it is final after `finish`."""
        return self._hashes[form]


def _one_sink(sinks: list[Sink]) -> Sink:
    if len(sinks) == 1:
        return sinks[0]

    def add_to_all(canonical: bytes) -> None:
        for sink in sinks:
            sink(canonical)

    return add_to_all
