"""Key records in DNS (RFC 6376 section 3.6, RFC 8463 section 4): found, read, and judged for a signature."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from mailreeve_milter.dkim.crypto import (
    MAX_RSA_BITS,
    MIN_RSA_BITS,
    KeyFormatError,
    PrivateKey,
    PublicKey,
    format_public_key,
    key_type,
    load_ed25519_public_key,
    load_rsa_public_key,
)
from mailreeve_milter.dkim.outcome import Finding
from mailreeve_milter.dkim.signature import Algorithm
from mailreeve_milter.dkim.taglist import parse_base64, parse_tag_list, split_list
from mailreeve_policyd.errors import ProtocolError, ResolverError
from mailreeve_policyd.resolver import Resolver
from mailreeve_policyd.smtp import Domain

MAX_RECORDS = 10
"""Records of one name that are read; there should be one."""

MAX_RECORD_OCTETS = 8192
"""A record with an RSA key of 16384 bits has 2,800."""

REMEMBERED_KEYS = 512
"""Names whose records are kept with the keys in them: reading one takes longer than verifying with it. They
take a megabyte as a rule, and 10 if all are as large as they may be; more at one name is read each time."""


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """A key record whose grammar is right. `public_key` is what p= holds, empty for a revoked key."""

    key_type: str
    hashes: tuple[str, ...] | None
    services: tuple[str, ...]
    flags: tuple[str, ...]
    public_key: bytes

    @property
    def is_testing(self) -> bool:
        """t=y: a failure is to be taken as no signature (section 3.6.1)."""
        return "y" in self.flags

    @property
    def forbids_subdomains(self) -> bool:
        """t=s: the domain of i= must be d= itself."""
        return "s" in self.flags


@dataclass(frozen=True, slots=True)
class UsableKey:
    """A key that may verify the signature it was looked up for. Threads may share it."""

    public_key: PublicKey
    is_testing: bool


class Signed(Protocol):
    """What is signed with a key in DNS: a DkimSignature, or an ARC-Seal (RFC 8617 section 4.1.3)."""

    @property
    def algorithm(self) -> Algorithm:
        """Its a=."""

    @property
    def domain(self) -> Domain:
        """Its d=."""

    @property
    def identity_domain(self) -> Domain:
        """The domain of its i=, by default its d=."""

    @property
    def key_name(self) -> str:
        """Where its key is published."""


def format_key_record(key: PrivateKey) -> str:
    """The record to publish for a private key, as one text."""
    return f"v=DKIM1; k={key_type(key)}; p={format_public_key(key)}"


def parse_key_record(record: bytes) -> KeyRecord:
    """A TXT record, its strings joined, as a key record.

    Raises:
        ProtocolError: it is none; the text is for people.
    """
    if len(record) > MAX_RECORD_OCTETS:
        raise ProtocolError("the key record is too long")
    tags = parse_tag_list(record)
    if "v" in tags and (tags["v"] != "DKIM1" or next(iter(tags)) != "v"):
        raise ProtocolError("the key record is no DKIM1 record")
    if "p" not in tags:
        raise ProtocolError("the key record has no key (p=)")
    return KeyRecord(
        key_type=tags.get("k", "rsa"),
        hashes=split_list(tags["h"]) if "h" in tags else None,
        services=split_list(tags.get("s", "*")),
        flags=split_list(tags.get("t", "")),
        public_key=parse_base64(tags["p"]),
    )


def lookup_key(resolver: Resolver, signature: Signed) -> UsableKey | Finding:
    """The key that the signature names, or why there is none for it (section 6.1.2). One TXT question."""
    try:
        records = resolver.lookup_txt(signature.key_name).records
    except ResolverError:
        return Finding("temperror", "the key cannot be looked up now")
    if not records:
        return Finding("permerror", "no key is published for this selector")
    key_type, is_below = signature.algorithm.key_type, signature.identity_domain != signature.domain
    if len(records) > 1:  # in one order, whatever DNS gives them in
        records = tuple(sorted(records)[:MAX_RECORDS])
    is_usual = sum(map(len, records)) <= MAX_RECORD_OCTETS
    return (_read_once if is_usual else _read_key)(records, key_type, is_below)


def _read_key(records: tuple[bytes, ...], key_type: str, is_below: bool) -> UsableKey | Finding:
    """The key of this type in the records, for an i= that lies below d= or does not: it hangs on no more."""
    record = _choose(records, key_type)
    if isinstance(record, Finding):
        return record
    return _judge(record, key_type, is_below) or _load(record)


_read_once = lru_cache(maxsize=REMEMBERED_KEYS)(_read_key)


def _choose(records: tuple[bytes, ...], key_type: str) -> KeyRecord | Finding:
    """One of several records, of which section 3.6.2.2 says nothing."""
    read: list[KeyRecord] = []
    problem = "no key record"
    for record in records:
        try:
            read.append(parse_key_record(record))
        except ProtocolError as error:
            problem = str(error)
    if not read:
        return Finding("permerror", problem)
    fitting = [record for record in read if record.key_type == key_type]
    return (fitting or read)[0]


def _judge(record: KeyRecord, key_type: str, is_below: bool) -> Finding | None:
    if not record.public_key:
        return Finding("permerror", "the key was revoked")
    if record.key_type != key_type:
        return Finding("permerror", "the key is not for this algorithm (k=)")
    if record.hashes is not None and "sha256" not in record.hashes:
        return Finding("permerror", "the key is not for SHA-256 (h=)")
    if not {"*", "email"} & set(record.services):
        return Finding("permerror", "the key is not for mail (s=)")
    if record.forbids_subdomains and is_below:
        return Finding("permerror", "the key is not for subdomains (t=s)")
    return None


def _load(record: KeyRecord) -> UsableKey | Finding:
    try:
        key: PublicKey = (
            load_rsa_public_key(record.public_key)
            if record.key_type == "rsa"
            else load_ed25519_public_key(record.public_key)
        )
    except KeyFormatError as error:
        return Finding("permerror", f"the key record holds no key: {error}")
    if isinstance(key, RSAPublicKey) and not MIN_RSA_BITS <= key.key_size <= MAX_RSA_BITS:
        return Finding("policy", f"an RSA key of {key.key_size} bits is not accepted")
    return UsableKey(key, record.is_testing)
