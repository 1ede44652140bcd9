"""DMARC: which record applies to an author domain, and what its Organizational Domain is.

By the tree walk of RFC 9989 section 4.10, or as RFC 7489 did by the public suffix list. Must not know what
is judged by it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import msgspec

from mailreeve_milter.dmarc_record import Disposition, DmarcRecord, parse_record
from mailreeve_milter.public_suffixes import organizational_domain
from mailreeve_policyd.resolver import Resolver
from mailreeve_policyd.smtp import Domain

MAX_WALK_LABELS = 7
"""Longer names are cut to so many labels after the first question: at most 8 questions (section 4.10)."""


class Policy(msgspec.Struct, frozen=True, gc=False):
    """The record that applies to an author domain, and the domain where it was found."""

    record: DmarcRecord
    domain: Domain


class Discovery(Protocol):
    """One way to find records and Organizational Domains.

    Raises:
        ResolverError: every method, when a question on the way got no answer.
    """

    def lookup_policy(self, author: Domain) -> Policy | None:
        """The record that applies to an author domain."""

    def lookup_organizational_domain(self, domain: Domain) -> Domain:
        """What two domains must share to be aligned in relaxed mode."""


class DmarcRecords:
    """The records of one message; no name is asked twice."""

    __slots__ = ("_records", "_resolver")

    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver
        self._records: dict[Domain, DmarcRecord | None] = {}

    def lookup(self, name: Domain) -> DmarcRecord | None:
        """Section 4.10 steps 2 and 6: what is no record does not count, several are none."""
        if name not in self._records:
            texts = self._resolver.lookup_txt(f"_dmarc.{name}").records
            records = [record for record in map(parse_record, texts) if record is not None]
            self._records[name] = records[0] if len(records) == 1 else None
        return self._records[name]

    def lookup_disposition(self, author: Domain, policy: Policy) -> Disposition:
        """The effective policy (section 4.10.1)."""
        if policy.domain == author:
            return policy.record.disposition_itself()
        exists = not policy.record.depends_on_existence or self._resolver.lookup_a(author).exists
        return policy.record.disposition_below(exists=exists)


class TreeWalk:
    """Discovery by the tree walk, each domain walked once."""

    __slots__ = ("_organizational", "_records")

    def __init__(self, records: DmarcRecords) -> None:
        self._records = records
        self._organizational: dict[Domain, Domain] = {}

    def lookup_policy(self, author: Domain) -> Policy | None:
        """Section 4.10.1: the author domain's record, else its Organizational Domain's, else the PSD's."""
        own = self._records.lookup(author)
        if own is not None:
            return Policy(own, author)
        found = self._walk(author)
        organizational = self._select(author, found)
        return next(
            (policy for policy in found if policy.domain == organizational),
            next((policy for policy in found if policy.record.psd), None),
        )

    def lookup_organizational_domain(self, domain: Domain) -> Domain:
        """Section 4.10.2."""
        if domain not in self._organizational:
            self._organizational[domain] = self._select(domain, self._walk(domain))
        return self._organizational[domain]

    def _walk(self, start: Domain) -> list[Policy]:
        """Section 4.10: the records on the way up, longest name first; a psd= of y or n ends it."""
        found = []
        for name in _walk_names(start):
            record = self._records.lookup(name)
            if record is not None:
                found.append(Policy(record, name))
                if record.psd is not None:
                    break
        return found

    def _select(self, start: Domain, found: Sequence[Policy]) -> Domain:
        """Section 4.10.2."""
        if not found:
            return start
        last = found[-1]  # the one with psd=, if any: the walk ended there; else that with the fewest labels
        if last.record.psd and last.domain != start:
            below = last.domain.count(".") + 2
            return Domain(".".join(start.split(".")[-below:]))
        return last.domain


class SuffixList:
    """Discovery as RFC 7489 section 6.6.3 had it: the author domain's record, else that of the other one."""

    __slots__ = ("_records",)

    def __init__(self, records: DmarcRecords) -> None:
        self._records = records

    def lookup_policy(self, author: Domain) -> Policy | None:
        """See Discovery."""
        for name in dict.fromkeys((author, organizational_domain(author))):
            record = self._records.lookup(name)
            if record is not None:
                return Policy(record, name)
        return None

    def lookup_organizational_domain(self, domain: Domain) -> Domain:
        """See Discovery. Asks no DNS."""
        return organizational_domain(domain)


def _walk_names(start: Domain) -> Iterator[Domain]:
    """The names that a walk asks, without their _dmarc: at most 8."""
    yield start
    labels = start.split(".")
    for count in range(min(len(labels) - 1, MAX_WALK_LABELS), 0, -1):
        yield Domain(".".join(labels[-count:]))
