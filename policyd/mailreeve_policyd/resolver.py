"""The Resolver port, and a resolver made from a table. The real one stands in resolver_dns.py.

Knows the names and records of RFC 1035 as text. Must not know who asks, nor open a socket.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Generic, Protocol, TypeVar

import dns.name
import dns.zonefile

from mailreeve_policyd.errors import ResolverError
from mailreeve_policyd.smtp import MAX_DOMAIN_OCTETS, MAX_LABEL_OCTETS
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


class NotAtHandError(BaseException):
    """An answer would have to be waited for, in a thread that was told never to wait.

    No Exception: it says nothing about DNS, and nobody between the resolver and who runs the thread may
    take it for a check that failed.
    """


def parse_name(name: str) -> str | None:
    """A name for a question: lower case, no final dot; None where no such name can be in DNS.

    A dot always ends a label, there are no escapes. Any ASCII octet may stand in a label (RFC 2181
    section 11): SPF macros make such names.
    """
    lowered = name.removesuffix(".").lower()
    if not lowered.isascii() or not lowered or len(lowered) > MAX_DOMAIN_OCTETS:
        return None
    if not all(0 < len(label) <= MAX_LABEL_OCTETS for label in lowered.split(".")):
        return None
    return lowered


MAX_CNAMES = 16
"""Aliases followed for one question; more are a loop or an attack (resolvers stop between 8 and 20)."""

ZONE_TTL_SECONDS = 60


class ZoneResolver:
    """A Resolver whose whole DNS is a table; what the table does not name does not exist.

    `zone` is master file text with full names (`example.org. TXT "v=spf1 -all"`, a TTL being
    optional), or a mapping of name to type to records, where a TXT record may be bytes:

        {"example.org": {"MX": ["10 mail.example.org"], "TXT": [b"v=spf1 -all"]}}

    A, AAAA, CNAME, MX, PTR and TXT are answered, wildcards (RFC 4592) and empty non-terminals as
    DNS has them. `failing` holds names for which every question raises ResolverError, or
    `"NAME TYPE"` for one type alone. `queries` lists what was asked: name and type, in order.
    """

    def __init__(
        self,
        zone: str | Mapping[str, Mapping[str, Sequence[str | bytes]]] = "",
        failing: Iterable[str] = (),
    ) -> None:
        self.queries: list[tuple[str, str]] = []
        self._table: dict[str, dict[str, _RecordSet]] = {}
        self._failing = {entry.lower().replace(". ", " ").rstrip(".") for entry in failing}
        if isinstance(zone, str):
            self._read_text(zone)
        else:
            self._read_mapping(zone)

    def count(self, name: str | None = None, rdtype: str | None = None) -> int:
        """How many questions were asked, for this name and this type only if given."""
        wanted = name.lower().removesuffix(".") if name is not None else None
        return sum(
            (wanted is None or asked == wanted) and (rdtype is None or asked_type == rdtype)
            for asked, asked_type in self.queries
        )

    def lookup_txt(self, name: str) -> Answer[bytes]:
        """See Resolver."""
        found, exists = self._lookup(name, "TXT")
        return Answer(tuple(_to_bytes(record) for record in found.records), exists, found.ttl)

    def lookup_a(self, name: str) -> Answer[IPAddress]:
        """See Resolver."""
        found, exists = self._lookup(name, "A")
        return Answer(tuple(IPv4Address(_to_text(record)) for record in found.records), exists, found.ttl)

    def lookup_aaaa(self, name: str) -> Answer[IPAddress]:
        """See Resolver."""
        found, exists = self._lookup(name, "AAAA")
        return Answer(tuple(IPv6Address(_to_text(record)) for record in found.records), exists, found.ttl)

    def lookup_mx(self, name: str) -> Answer[MxRecord]:
        """See Resolver."""
        found, exists = self._lookup(name, "MX")
        return Answer(tuple(sorted(_to_mx(record) for record in found.records)), exists, found.ttl)

    def lookup_ptr(self, address: IPAddress) -> Answer[str]:
        """See Resolver."""
        found, exists = self._lookup(address.reverse_pointer, "PTR")
        names = tuple(_to_text(record).lower().removesuffix(".") for record in found.records)
        return Answer(names, exists, found.ttl)

    def _read_text(self, zone: str) -> None:
        lines = "\n".join(line.strip() for line in zone.splitlines())  # an indented line would have no name
        for rrset in dns.zonefile.read_rrsets(lines, default_ttl=ZONE_TTL_SECONDS):
            rdtype = rrset.rdtype.name
            records = tuple(_from_rdata(rdtype, rdata) for rdata in rrset)
            self._put(_plain_name(rrset.name), rdtype, _RecordSet(records, rrset.ttl))

    def _read_mapping(self, zone: Mapping[str, Mapping[str, Sequence[str | bytes]]]) -> None:
        for name, by_type in zone.items():
            self._put_name(name)
            for rdtype, records in by_type.items():
                self._put(name, rdtype.upper(), _RecordSet(tuple(records), ZONE_TTL_SECONDS))

    def _put_name(self, name: str) -> dict[str, _RecordSet]:
        return self._table.setdefault(name.lower().removesuffix("."), {})

    def _put(self, name: str, rdtype: str, records: _RecordSet) -> None:
        self._put_name(name)[rdtype] = records

    def _lookup(self, name: str, rdtype: str) -> tuple[_RecordSet, bool]:
        """The records and whether the name exists, at the end of any aliases."""
        asked = parse_name(name)
        if asked is None:
            return _NO_RECORDS, False
        self.queries.append((asked, rdtype))
        for _ in range(MAX_CNAMES):
            if not self._failing.isdisjoint((asked, f"{asked} {rdtype.lower()}")):
                raise ResolverError(f"{asked} {rdtype}: fails by order of the table")
            node = self._find(asked)
            if node is None:
                return _NO_RECORDS, False
            if rdtype in node or "CNAME" not in node:
                return node.get(rdtype, _NO_RECORDS), True
            asked = _to_text(node["CNAME"].records[0]).lower().removesuffix(".")
        raise ResolverError(f"{name} {rdtype}: too many aliases")

    def _find(self, name: str) -> Mapping[str, _RecordSet] | None:
        """The node of a name, made from a wildcard where there is one; None for NXDOMAIN."""
        if self._exists(name):
            return self._table.get(name, {})
        encloser = name
        while not self._exists(encloser) and encloser:
            encloser = encloser.partition(".")[2]
        return self._table.get(f"*.{encloser}") if encloser else None

    def _exists(self, name: str) -> bool:
        return name in self._table or any(known.endswith("." + name) for known in self._table)


@dataclass(frozen=True, slots=True)
class _RecordSet:
    records: tuple[str | bytes, ...]
    ttl: int


_NO_RECORDS = _RecordSet((), 0)


def _plain_name(name: dns.name.Name) -> str:
    return b".".join(name.labels).decode("ascii").removesuffix(".").lower()


def _from_rdata(rdtype: str, rdata: dns.rdata.Rdata) -> str | bytes:
    return b"".join(rdata.strings) if rdtype == "TXT" else rdata.to_text()  # type: ignore[attr-defined]


def _to_text(record: str | bytes) -> str:
    return record.decode("ascii") if isinstance(record, bytes) else record


def _to_bytes(record: str | bytes) -> bytes:
    return record.encode() if isinstance(record, str) else record


def _to_mx(record: str | bytes) -> MxRecord:
    preference, _, exchange = _to_text(record).partition(" ")
    return MxRecord(int(preference), exchange.strip().lower().removesuffix("."))
