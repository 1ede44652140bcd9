"""The Resolver port. The real one is dnspython, cached and bounded; one is made from a table for tests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from mailreeve_policyd.transaction import IPAddress

RecordT = TypeVar("RecordT")


@dataclass(frozen=True, slots=True)
class Answer(Generic[RecordT]):
    """What DNS said about a name and a type.

    `exists` is False for NXDOMAIN alone; a name without records of this type exists (RFC 2308
    section 2). `records` is empty in both cases. `ttl` is in seconds. A CNAME was followed.
    """

    records: tuple[RecordT, ...]
    exists: bool = True
    ttl: int = 0


@dataclass(frozen=True, slots=True, order=True)
class MxRecord:
    """RFC 5321 section 5.1; `exchange` without its final dot, "" for a null MX (RFC 7505)."""

    preference: int
    exchange: str


class Resolver(Protocol):
    """Asks DNS. Names are text with or without a final dot, A-labels. Blocks; safe from any thread.

    Raises:
        ResolverError: every method, when DNS cannot say now (timeout, SERVFAIL, budget spent).
            A name that is no DNS name (empty or over-long label) does not exist and raises nothing.
    """

    def lookup_txt(self, name: str) -> Answer[bytes]:
        """Each record's strings joined without a space (RFC 7208 section 3.3)."""

    def lookup_a(self, name: str) -> Answer[IPAddress]:
        """IPv4 addresses."""

    def lookup_aaaa(self, name: str) -> Answer[IPAddress]:
        """IPv6 addresses."""

    def lookup_mx(self, name: str) -> Answer[MxRecord]:
        """In order of preference."""

    def lookup_ptr(self, address: IPAddress) -> Answer[str]:
        """Names, lower case, without their final dots."""
