"""The public suffix list, by which RFC 7489 found Organizational Domains.

The only file that knows publicsuffixlist. The list is the one that the installed package brings; nothing
is fetched. Both of its sections count, those of registries and those of hosters.
"""

from __future__ import annotations

from functools import lru_cache

from publicsuffixlist import PublicSuffixList

from mailreeve_policyd.smtp import Domain

REMEMBERED_DOMAINS = 2048
"""Domains whose answer is kept; looking one up takes some 5 us."""


@lru_cache(maxsize=1)
def load_suffixes() -> PublicSuffixList:
    """Read the list, which takes a fifth of a second and two megabytes: once, before workers are forked."""
    return PublicSuffixList()


@lru_cache(maxsize=REMEMBERED_DOMAINS)
def organizational_domain(domain: Domain) -> Domain:
    """The public suffix of a domain and one label more (RFC 7489 section 3.2); a suffix itself stays."""
    return Domain(load_suffixes().privatesuffix(domain) or domain)
