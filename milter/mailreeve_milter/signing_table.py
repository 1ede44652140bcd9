"""Which keys sign which mail, and how: rules, the keys of the author's domain, then tables of OpenDKIM.

Knows authors, logins, clients and loaded keys; no file and no message but for its author.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import msgspec

from mailreeve_milter.dkim.crypto import PrivateKey
from mailreeve_milter.dkim.sign import SigningKey, SigningOptions
from mailreeve_policyd.address_pattern import AddressPattern, Glob
from mailreeve_policyd.config import Network
from mailreeve_policyd.smtp import Domain, Mailbox
from mailreeve_policyd.transaction import Session

DEFAULT_OPTIONS = SigningOptions()


class Choice(msgspec.Struct, frozen=True):
    """The keys that sign one message, in order, and how they do it."""

    keys: tuple[SigningKey, ...] = ()
    options: SigningOptions = DEFAULT_OPTIONS


UNSIGNED = Choice()


class AuthorTable(Protocol):
    """Another way to find keys for an author (opendkim.py)."""

    def keys_for(self, author: Mailbox) -> tuple[SigningKey, ...]:
        """The keys that sign this author's mail, each once; none if the table does not name him."""


@dataclass(frozen=True, slots=True)
class KeyForAny:
    """A key without a domain of its own: d= is the author's."""

    selector: Domain
    private_key: PrivateKey


@dataclass(frozen=True, slots=True)
class SigningRule:
    """One of [[signing.rules]]. Conditions that are empty are true; all of them must be.

    `domains` None means the author's own domain. An empty `selectors` means all keys.
    """

    authors: tuple[AddressPattern, ...] = ()
    logins: tuple[Glob, ...] = ()
    networks: tuple[Network, ...] = ()
    domains: tuple[Domain, ...] | None = None
    selectors: frozenset[Domain] = frozenset()
    options: SigningOptions = DEFAULT_OPTIONS

    def matches(self, author: Mailbox, session: Session) -> bool:
        """Is this rule for mail of this author, that came in this session?"""
        if self.authors and not any(pattern.matches(author) for pattern in self.authors):
            return False
        if self.logins and not self._is_login(session.sasl_username):
            return False
        address = session.client_address
        return not self.networks or (
            address is not None and any(address in network for network in self.networks)
        )

    def _is_login(self, login: str | None) -> bool:
        return login is not None and any(pattern.matches(login) for pattern in self.logins)


class SigningKeys:
    """All keys that were loaded, and who may use which of them.

    The first rule that matches decides; without one the keys of exactly the author's domain sign; without
    such keys the tables are asked, in order, until one has a key.
    """

    __slots__ = ("_any", "_by_domain", "_options", "_rules", "_tables")

    def __init__(
        self,
        keys: Iterable[SigningKey] = (),
        options: SigningOptions | None = None,
        *,
        for_any: Sequence[KeyForAny] = (),
        rules: Sequence[SigningRule] = (),
        tables: Sequence[AuthorTable] = (),
    ) -> None:
        by_domain: dict[Domain, list[SigningKey]] = defaultdict(list)
        for key in keys:
            by_domain[key.domain].append(key)
        self._by_domain = {domain: tuple(of_domain) for domain, of_domain in by_domain.items()}
        self._any = tuple(for_any)
        self._options = options or DEFAULT_OPTIONS
        self._rules = tuple(rules)
        self._tables = tuple(tables)

    def choose(self, author: Mailbox, session: Session) -> Choice:
        """The keys for mail of one author that came in this session."""
        if author.domain is None:
            return UNSIGNED
        for rule in self._rules:
            if rule.matches(author, session):
                return Choice(self._by_rule(rule, author.domain), rule.options)
        keys = self._by_domain.get(author.domain) or self._by_tables(author)
        return Choice(keys, self._options) if keys else UNSIGNED

    @property
    def domains(self) -> tuple[Domain, ...]:
        """Every domain that has a key of its own in [[signing.keys]]."""
        return tuple(self._by_domain)

    @property
    def oversigned(self) -> frozenset[bytes]:
        """Names, in lower case, of all fields that some signature allows no further one of."""
        used = (self._options, *(rule.options for rule in self._rules))
        return frozenset(name for options in used for name in options.oversign)

    @property
    def has_more(self) -> bool:
        """Are there keys that sign for domains which are not known beforehand?"""
        return bool(self._tables or self._any)

    def _by_rule(self, rule: SigningRule, author_domain: Domain) -> tuple[SigningKey, ...]:
        if rule.domains is None:
            keys = self._by_domain.get(author_domain) or self._for_any(author_domain)
        else:
            keys = tuple(key for domain in rule.domains for key in self._by_domain.get(domain, ()))
        return tuple(key for key in keys if not rule.selectors or key.selector in rule.selectors)

    def _for_any(self, domain: Domain) -> tuple[SigningKey, ...]:
        return tuple(SigningKey(domain, key.selector, key.private_key) for key in self._any)

    def _by_tables(self, author: Mailbox) -> tuple[SigningKey, ...]:
        found = (table.keys_for(author) for table in self._tables)
        return next((keys for keys in found if keys), ())
