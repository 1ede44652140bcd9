"""What no single option of `[signing]` can say: keys, rules and tables that contradict each other.

Opens no file: whether a key can be read, the milter finds when it loads it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from ipaddress import ip_network

from mailreeve_policyd.address_pattern import ANY, parse_address_pattern
from mailreeve_policyd.errors import ProtocolError
from mailreeve_policyd.escape import escape
from mailreeve_policyd.settings import Signing
from mailreeve_policyd.smtp import Domain, parse_domain

Conflict = tuple[str, str, str]
"""Place, problem and hint of a ConfigError."""

_TABLE = re.compile(r"(?:(?:re)?file:.+|/.+(?<!\.db))\Z", re.DOTALL)


def signing_conflicts(signing: Signing) -> Iterator[Conflict]:
    """Every contradiction, in the order of the file."""
    yield from _bad_keys(signing.keys)
    yield from _bad_rules(signing)
    yield from _unused_for_any(signing)
    yield from _bad_tables(signing.opendkim)


def _bad_keys(keys: Iterable[Signing.Key]) -> Iterator[Conflict]:
    seen: set[tuple[str, str]] = set()
    for position, key in enumerate(keys):
        place = f"signing.keys[{position}]"
        try:
            name = (_key_domain(key.domain), parse_domain(key.selector))
        except ProtocolError:
            yield (
                place,
                f"not a domain and a selector: {escape(key.domain)!r}, {escape(key.selector)!r}",
                'domain = "example.org", selector = "r20260101"',
            )
            continue
        if name in seen:
            yield (
                f"{place}.selector",
                f"{name[1]} of {name[0]} stands here twice",
                "each key of a domain has its own selector",
            )
        seen.add(name)


def _key_domain(text: str) -> str:
    return ANY if text == ANY else parse_domain(text)


def _bad_rules(signing: Signing) -> Iterator[Conflict]:
    for position, rule in enumerate(signing.rules):
        place = f"signing.rules[{position}]"
        yield from _bad_conditions(place, rule)
        yield from _bad_choice(place, rule, signing.keys)
        if position + 1 < len(signing.rules) and _matches_all(rule):
            yield (
                f"signing.rules[{position + 1}]",
                "is never reached: the rule before it is for all mail",
                "the first rule that matches decides: put the general one last",
            )


def _bad_conditions(place: str, rule: Signing.Rule) -> Iterator[Conflict]:
    for index, text in enumerate(rule.authors):
        try:
            parse_address_pattern(text)
        except ProtocolError:
            yield (
                f"{place}.authors[{index}]",
                f"not a pattern of addresses: {escape(text)!r}",
                '"example.org", "alice@example.org", "*@*.example.org" or "*"',
            )
    for index, text in enumerate(rule.networks):
        try:
            ip_network(text)
        except ValueError:
            yield (
                f"{place}.networks[{index}]",
                f"not a network: {escape(text)!r}",
                'an address with its prefix length: "192.0.2.0/24", "2001:db8::/32"',
            )


def _matches_all(rule: Signing.Rule) -> bool:
    """Is there no mail that the rule leaves to others? What is malformed was told before."""
    authors = rule.authors
    return not (rule.logins or rule.networks) and (
        not authors or any(parse_address_pattern(text).matches_all for text in authors)
    )


def _bad_choice(place: str, rule: Signing.Rule, keys: Iterable[Signing.Key]) -> Iterator[Conflict]:
    """Domains and selectors without a key would leave mail unsigned, and nobody would notice."""
    chosen = list(keys)
    if rule.domains is not None:
        domains = []
        for index, text in enumerate(rule.domains):
            domain = _domain_or_none(text)
            if domain is None or not any(_domain_or_none(key.domain) == domain for key in keys):
                yield (
                    f"{place}.domains[{index}]",
                    f"no key of {escape(text)!r} stands in [[signing.keys]]",
                    "`mailreeve keys new DOMAIN` makes keys and prints their entries",
                )
            domains.append(domain)
        chosen = [key for key in keys if _domain_or_none(key.domain) in domains]
    if rule.domains == () and rule.selectors:
        yield f"{place}.selectors", "has no effect: domains = [] signs nothing", "remove one of them"
        return
    for index, text in enumerate(rule.selectors):
        if not any(key.selector.lower() == text.lower() for key in chosen):
            yield (
                f"{place}.selectors[{index}]",
                f"no key that this rule may use has the selector {escape(text)!r}",
                "selectors stand in [[signing.keys]]",
            )


def _domain_or_none(text: str) -> Domain | None:
    try:
        return parse_domain(text)
    except ProtocolError:
        return None


def _unused_for_any(signing: Signing) -> Iterator[Conflict]:
    """A key for any domain signs nothing by itself: everybody could be anybody."""
    if any(rule.domains is None for rule in signing.rules):
        return
    for position, key in enumerate(signing.keys):
        if key.domain == ANY:
            yield (
                f"signing.keys[{position}].domain",
                'a key for any domain ("*") signs nothing without a rule',
                "[[signing.rules]] says for which authors, logins or networks; such a rule has no domains",
            )


def _bad_tables(tables: Signing.OpenDkim) -> Iterator[Conflict]:
    for name, other in (("key_table", "signing_table"), ("signing_table", "key_table")):
        value = getattr(tables, name)
        if value and not getattr(tables, other):
            yield f"signing.opendkim.{other}", f"is missing, and {name} needs it", "OpenDKIM has both, too"
        if value and not _TABLE.match(value):
            yield (
                f"signing.opendkim.{name}",
                f"a table of this kind cannot be read: {escape(value)!r}",
                "file:/path, refile:/path or /path; write other tables to a file first",
            )
    if tables.multiple_signatures and not tables.signing_table:
        yield (
            "signing.opendkim.multiple_signatures",
            "has no effect without signing_table",
            "every key of a domain in [[signing.keys]] signs anyway",
        )
