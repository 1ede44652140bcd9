"""DMARC policy records: text to value (RFC 9989 sections 4.7 and 4.8). Asks no DNS."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache

MAX_RECORD_OCTETS = 8192
"""Longer text is no record; honest ones stay under 500."""


REMEMBERED_RECORDS = 1024
"""Texts whose values are kept: what many messages ask for is read once. A megabyte."""

MAX_REMEMBERED_OCTETS = 512
"""Longer texts are read each time."""


class Disposition(Enum):
    """What a domain owner asks for mail that fails."""

    NONE = "none"
    QUARANTINE = "quarantine"
    REJECT = "reject"

    @property
    def milder(self) -> Disposition:
        """One level below: what test mode (t=y) asks for (section 4.7)."""
        return Disposition.QUARANTINE if self is Disposition.REJECT else Disposition.NONE


@dataclass(frozen=True, slots=True)
class DmarcRecord:
    """A record as it applies: what is wrong in it is already a default, or gone (section 4.7).

    `p`, `sp` and `np` are None where the record does not say. `is_usable` is False where section 4.10.1
    wants no DMARC at all for it: a wrong policy and nobody to tell. `psd` is None for `u`, the default.
    """

    p: Disposition | None = None
    sp: Disposition | None = None
    np: Disposition | None = None
    strict_dkim: bool = False
    strict_spf: bool = False
    psd: bool | None = None
    is_test: bool = False
    is_usable: bool = True
    rua: tuple[str, ...] = ()
    ruf: tuple[str, ...] = ()
    fo: str = "0"

    def disposition_itself(self) -> Disposition:
        """For the domain that publishes the record."""
        return self._tested(self.p)

    def disposition_below(self, *, exists: bool) -> Disposition:
        """For a domain below it, which exists in DNS or not (section 4.10.1)."""
        return self._tested((self.sp or self.p) if exists else (self.np or self.sp or self.p))

    @property
    def depends_on_existence(self) -> bool:
        """Does it matter for a domain below whether it exists?"""
        return self.disposition_below(exists=True) is not self.disposition_below(exists=False)

    def _tested(self, asked: Disposition | None) -> Disposition:
        disposition = asked or Disposition.NONE
        return disposition.milder if self.is_test else disposition


# dmarc-version = "v" *WSP "=" *WSP %s"DMARC1", then *WSP ";" or the end; the v has no case, the value has one
_VERSION = re.compile(rb"[vV][ \t]*=[ \t]*DMARC1[ \t]*(?:;|\Z)")
# dmarc-tag = 1*ALPHA *WSP "=" *WSP 1*dmarc-value
_TAG = re.compile(r"([A-Za-z]+)[ \t]*=[ \t]*([\x20-\x3a\x3c-\x7e]+)\Z")
# URI of RFC 3986, as far as it can be judged without its scheme; "," and "!" are encoded (section 4.8)
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[A-Za-z0-9\-._~:/?#\[\]@$&'()*+;=%]+\Z")
_MAILTO = re.compile(r"mailto:[^@]+@[^@?]+(?:\?.*)?\Z", re.IGNORECASE)


def parse_record(text: bytes) -> DmarcRecord | None:
    """The record, or None where the text is none: its first tag is not exactly v=DMARC1.

    Unknown tags are ignored, and so are `pct`, `rf` and `ri`; of a tag that stands twice the first holds.
    """
    return _parse_once(text) if len(text) <= MAX_REMEMBERED_OCTETS else _parse(text)


def _parse(text: bytes) -> DmarcRecord | None:
    version = _VERSION.match(text[:MAX_RECORD_OCTETS])
    if version is None or len(text) > MAX_RECORD_OCTETS:
        return None
    tags = _parse_tags(text[version.end() :].decode("ascii", "replace"))
    rua, ruf = _parse_uris(tags.get("rua", "")), _parse_uris(tags.get("ruf", ""))
    policies = {name: _parse_disposition(tags.get(name)) for name in ("p", "sp", "np")}
    is_wrong = policies["p"] is None or any(name in tags and policies[name] is None for name in ("sp", "np"))
    if is_wrong:  # section 4.10.1: as p=none where somebody wants to hear of it
        policies = {"p": Disposition.NONE, "sp": None, "np": None}
    return DmarcRecord(
        **policies,
        strict_dkim=tags.get("adkim", "").lower() == "s",
        strict_spf=tags.get("aspf", "").lower() == "s",
        psd={"y": True, "n": False}.get(tags.get("psd", "").lower()),
        is_test=tags.get("t", "").lower() == "y",
        is_usable=not is_wrong or bool(rua),
        rua=rua,
        ruf=ruf,
        fo=tags.get("fo", "0").lower(),
    )


_parse_once = lru_cache(maxsize=REMEMBERED_RECORDS)(_parse)


def _parse_tags(text: str) -> dict[str, str]:
    tags: dict[str, str] = {}
    for part in text.split(";"):
        match = _TAG.match(part.strip(" \t"))
        if match is not None:
            tags.setdefault(match[1].lower(), match[2])
    return tags


def _parse_disposition(text: str | None) -> Disposition | None:
    try:
        return Disposition((text or "").lower())
    except ValueError:
        return None


def _parse_uris(text: str) -> tuple[str, ...]:
    """Those that are URIs, without the size limit that RFC 7489 let follow them."""
    uris = (part.strip(" \t").partition("!")[0] for part in text.split(","))
    return tuple(uri for uri in uris if _is_uri(uri))


def _is_uri(text: str) -> bool:
    pattern = _MAILTO if text[:7].lower() == "mailto:" else _URI
    return _URI.match(text) is not None and pattern.match(text) is not None
