"""SPF: may this client use this domain? RFC 7208 check_host(), for both identities of a transaction.

Records are read in spf_record.py, macros expanded in spf_macros.py, names asked through our Resolver.
Must not know what is done with the result.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable

import msgspec

from mailreeve_policyd.authres import MethodResult
from mailreeve_policyd.errors import ProtocolError, ResolverError
from mailreeve_policyd.resolver import Resolver
from mailreeve_policyd.resolver_dns import with_budget
from mailreeve_policyd.smtp import Domain, Mailbox, parse_domain
from mailreeve_policyd.spf_macros import MacroError, expand_explanation, expand_name
from mailreeve_policyd.spf_record import Directive, RecordError, SpfRecord, is_record, parse_record
from mailreeve_policyd.transaction import Envelope, IPAddress, Session, format_address

CHECK_SECONDS = 10.0
"""For one whole check; section 4.6.4 wants a limit, and an MTA's client waits only so long."""

MAX_LOOKUPS = 10
"""Terms that ask DNS, in a record and all that it includes (section 4.6.4)."""

MAX_VOID_LOOKUPS = 2
"""Terms whose questions found nothing (section 4.6.4)."""

MAX_NAMES = 10
"""Names of one MX or PTR answer that are asked for their addresses (section 4.6.4)."""

MAX_EXPLANATION_CHARACTERS = 500
"""What is kept of a domain's explanation: it must fit a reply line."""

_log = logging.getLogger(__name__)


class SpfOutcome(msgspec.Struct, frozen=True, gc=False):
    """What check_host() found: a result word of RFC 7208 section 2.6.

    `mechanism` is the directive that decided, None where none did. `problem` says what is wrong, with
    temperror and permerror. `explanation` is what the domain's exp= says, only with fail and only where
    it was asked for; it is a stranger's text.
    """

    result: str
    mechanism: str | None = None
    problem: str | None = None
    explanation: str | None = None


def check_host(
    address: IPAddress,
    domain: Domain,
    sender: Mailbox,
    helo_name: str,
    resolver: Resolver,
) -> SpfOutcome:
    """Say whether `address` may use `domain` (RFC 7208 section 4).

    `sender` is the MAIL FROM or postmaster@HELO; it, `domain` and `helo_name` feed the macros. Takes at
    most CHECK_SECONDS of asking. Never raises.
    """
    return _Check(address, domain, sender, helo_name, resolver).evaluate()


def check_host_explained(
    address: IPAddress, domain: Domain, sender: Mailbox, helo_name: str, resolver: Resolver
) -> SpfOutcome:
    """As check_host; a fail comes with the domain's explanation, for one more question."""
    return _Check(address, domain, sender, helo_name, resolver).evaluate_explained()


def evaluate_mail_from(session: Session, envelope: Envelope, resolver: Resolver) -> MethodResult:
    """The MAIL FROM identity; the null reverse-path is postmaster@HELO (section 2.4).

    Written with `smtp.mailfrom`.
    """
    helo_name = session.helo_name or ""
    sender = envelope.reverse_path or _postmaster(helo_name)
    result, reason = _judge(session, sender, resolver)
    return MethodResult("spf", result, {"smtp.mailfrom": str(sender)}, reason)


def evaluate_helo(session: Session, resolver: Resolver) -> MethodResult:
    """The HELO identity (section 2.3). Written with `smtp.helo`."""
    helo_name = session.helo_name or ""
    result, reason = _judge(session, _postmaster(helo_name), resolver)
    return MethodResult("spf", result, {"smtp.helo": helo_name}, reason)


def mail_from_of_helo(helo: MethodResult, session: Session) -> MethodResult:
    """The MAIL FROM result of a null reverse-path, where that of the HELO name is known: it is the same."""
    sender = _postmaster(session.helo_name or "")
    return MethodResult("spf", helo.result, {"smtp.mailfrom": str(sender)}, helo.reason)


def _postmaster(helo_name: str) -> Mailbox:
    return Mailbox(f"postmaster@{helo_name}", "postmaster", _domain(helo_name))


def _judge(session: Session, sender: Mailbox, resolver: Resolver) -> tuple[str, str]:
    """Result word and reason."""
    if session.relayed is not None and session.relayed.problem is not None:
        return "none", session.relayed.problem
    if session.client_address is None:
        return "none", "the client has no address"
    # section 4.3: what is malformed, a literal, or has one label only is none
    if sender.domain is None or "." not in sender.domain:
        return "none", "no domain to check"
    outcome = check_host(session.client_address, sender.domain, sender, session.helo_name or "", resolver)
    return outcome.result, _describe(outcome, session.client_address, sender.domain)


def _domain(name: str) -> Domain | None:
    try:
        return parse_domain(name)
    except ProtocolError:
        return None


_SAYINGS = {
    "pass": "permits",
    "fail": "does not permit",
    "softfail": "rather does not permit",
    "neutral": "says nothing about",
}
_TROUBLES = {
    "none": "{} has no SPF record",
    "temperror": "DNS gave no answer for {}",
    "permerror": "the SPF record of {} is wrong",
}


def _describe(outcome: SpfOutcome, address: IPAddress, domain: Domain) -> str:
    saying = _SAYINGS.get(outcome.result)
    text = (
        f"{domain} {saying} {format_address(address)}" if saying else _TROUBLES[outcome.result].format(domain)
    )
    detail = outcome.problem or outcome.mechanism
    return f"{text} ({detail})" if detail else text


class _PermError(Exception):
    """The domain's records cannot be interpreted (section 2.6.7)."""


class _Check:
    """One check_host(), and all that it includes."""

    __slots__ = (
        "_address",
        "_domain",
        "_explanation",
        "_found_nothing",
        "_helo_name",
        "_int",
        "_is_nameless",
        "_local_part",
        "_lookups",
        "_mechanism",
        "_resolver",
        "_sender",
        "_validated",
        "_version",
        "_void_lookups",
    )

    def __init__(
        self, address: IPAddress, domain: Domain, sender: Mailbox, helo_name: str, resolver: Resolver
    ) -> None:
        if address.version == 6 and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        self._resolver = with_budget(resolver, CHECK_SECONDS)
        self._address = address
        self._int = int(address)
        self._version = address.version
        self._domain = domain
        self._sender = sender
        self._local_part = sender.local_part or "postmaster"  # section 4.3
        self._helo_name = helo_name
        self._lookups = self._void_lookups = 0
        self._mechanism: str | None = None
        self._explanation: tuple[str, str] | None = None
        self._found_nothing = self._is_nameless = False
        self._validated: tuple[str, ...] | None = None

    def evaluate(self) -> SpfOutcome:
        """check_host(). Where reading a record fails in a way that we do not know, the log says so."""
        try:
            return SpfOutcome(self._check_host(self._domain, is_included=False), self._mechanism)
        except ResolverError as error:
            return SpfOutcome("temperror", problem=str(error))
        except (_PermError, RecordError) as error:
            return SpfOutcome("permerror", problem=str(error))
        except Exception:  # noqa: BLE001 -- a foreign reader of strangers' text may surprise us
            _log.exception("SPF of %s could not be evaluated", self._domain)
            return SpfOutcome("temperror", problem="the record could not be evaluated")

    def evaluate_explained(self) -> SpfOutcome:
        """The same, then section 6.2."""
        outcome = self.evaluate()
        if outcome.result != "fail" or self._explanation is None:
            return outcome
        return SpfOutcome("fail", outcome.mechanism, explanation=self._explain(*self._explanation))

    # Evaluation of a record -------------------------------------------------------------------

    def _check_host(self, domain: str, *, is_included: bool) -> str:
        """Section 4. The mechanism that decides is remembered if it is not that of an included record."""
        record = self._lookup_record(domain)
        if record is None:
            return "none"
        for directive in record.directives:
            if self._matches(directive, domain):
                if not is_included:
                    self._mechanism = directive.text
                    self._remember_explanation(record, directive.result, domain)
                return directive.result
        if record.redirect is None:
            return "neutral"  # 4.7
        return self._follow(self._expand(record.redirect, domain), is_included=is_included)

    def _follow(self, target: str, *, is_included: bool) -> str:
        """Section 6.1."""
        self._count_lookup()
        result = self._check_host(target, is_included=is_included)
        if result == "none":
            raise _PermError(f"redirect to {target}, which has no record")
        return result

    def _matches(self, directive: Directive, domain: str) -> bool:
        """Section 5. A term counts as void at most once (4.6.4)."""
        if directive.version:
            same_family = directive.version == self._version
            return same_family and self._int >> directive.host_bits == directive.network
        if directive.mechanism == "all":
            return True
        if directive.names_sender and not self._local_part.isascii():
            return False  # RFC 8616 section 4: DNS has no such names
        self._count_lookup()
        target = domain if directive.domain_spec is None else self._expand(directive.domain_spec, domain)
        if directive.mechanism == "include":
            return self._includes(target)
        self._found_nothing = False
        matched = self._names_client(directive, target)
        if self._found_nothing and not matched:
            self._count_void()
        return matched

    def _names_client(self, directive: Directive, target: str) -> bool:
        if directive.mechanism == "a":
            return self._is_near(self._addresses(target), directive)
        if directive.mechanism == "mx":
            return self._is_near(self._addresses_of_exchanges(target), directive)
        if directive.mechanism == "ptr":  # 5.5
            suffix, names = target.lower(), self._validated_names()
            self._found_nothing |= self._is_nameless
            return any(name == suffix or name.endswith("." + suffix) for name in names)
        records = self._resolver.lookup_a(target).records  # 5.7: exists asks for A, whatever the client is
        self._found_nothing |= not records
        return bool(records)

    def _includes(self, target: str) -> bool:
        """Section 5.2."""
        result = self._check_host(target, is_included=True)
        if result == "none":
            raise _PermError(f"include of {target}, which has no record")
        return result == "pass"

    def _is_near(self, addresses: Iterable[IPAddress], directive: Directive) -> bool:
        """Is one of these the client's, but for the bits that the directive leaves out?"""
        host_bits = directive.host_bits_4 if self._version == 4 else directive.host_bits_6
        wanted = self._int >> host_bits
        for address in addresses:  # noqa: SIM110 -- mostly there is one: a generator costs more than the rest
            if int(address) >> host_bits == wanted:
                return True
        return False

    def _count_lookup(self) -> None:
        self._lookups += 1
        if self._lookups > MAX_LOOKUPS:
            raise _PermError(f"more than {MAX_LOOKUPS} terms that ask DNS")

    def _count_void(self) -> None:
        self._void_lookups += 1
        if self._void_lookups > MAX_VOID_LOOKUPS:
            raise _PermError(f"more than {MAX_VOID_LOOKUPS} terms that find nothing")

    # Names ------------------------------------------------------------------------------------

    def _lookup_record(self, domain: str) -> SpfRecord | None:
        """The record of a domain (sections 4.4 and 4.5)."""
        texts = self._resolver.lookup_txt(domain).records
        if len(texts) != 1 or not is_record(texts[0]):
            texts = tuple(filter(is_record, texts))
        if len(texts) > 1:
            raise _PermError(f"{domain} has {len(texts)} records")
        return parse_record(texts[0]) if texts else None

    def _addresses(self, name: str) -> tuple[IPAddress, ...]:
        """Of the client's family."""
        lookup = self._resolver.lookup_a if self._version == 4 else self._resolver.lookup_aaaa
        records = lookup(name).records
        self._found_nothing |= not records
        return records

    def _addresses_of_exchanges(self, domain: str) -> list[IPAddress]:
        """Section 5.4."""
        records = self._resolver.lookup_mx(domain).records
        self._found_nothing |= not records
        if len(records) > MAX_NAMES:
            raise _PermError(f"more than {MAX_NAMES} MX records")
        return [address for record in records for address in self._addresses(record.exchange)]

    def _validated_names(self) -> tuple[str, ...]:
        """Names of the client that lead back to it (section 5.5); none where DNS fails."""
        if self._validated is None:
            try:
                names = self._resolver.lookup_ptr(self._address).records[:MAX_NAMES]
                self._is_nameless = not names
            except ResolverError:
                names = ()
            self._validated = tuple(name for name in names if self._leads_back(name))
        return self._validated

    def _leads_back(self, name: str) -> bool:
        lookup = self._resolver.lookup_a if self._version == 4 else self._resolver.lookup_aaaa
        try:
            return self._address in lookup(name).records
        except ResolverError:
            return False

    # Macros and explanations ------------------------------------------------------------------

    def _expand(self, domain_spec: str, domain: str) -> str:
        return expand_name(domain_spec, lambda letter: self._macro_value(letter, domain))

    def _macro_value(self, letter: str, domain: str) -> str:
        """Section 7.2; `domain` is the current one."""
        sender_domain = str(self._sender.domain or self._domain)
        # names of a sender that DNS cannot have are never asked; an explanation may still show one
        local_part = self._local_part if self._local_part.isascii() else "postmaster"
        if letter == "p":
            return self._client_name(domain)
        if letter == "h":
            return self._helo_name if self._helo_name.isascii() else _domain(self._helo_name) or "unknown"
        return {
            "s": f"{local_part}@{sender_domain}",
            "l": local_part,
            "o": str(self._domain),
            "d": domain,
            "i": self._dotted_address(),
            "v": "in-addr" if self._version == 4 else "ip6",
            "c": str(self._address),
            "r": "unknown",
            "t": str(int(time.time())),
        }[letter]

    def _dotted_address(self) -> str:
        """Section 7.3: nibbles for IPv6."""
        if self._version == 4:
            return str(self._address)
        return ".".join(self._address.exploded.replace(":", "").upper())

    def _client_name(self, domain: str) -> str:
        """The client's name: the current domain, one below it, or any (section 7.3)."""
        names = self._validated_names()
        current = domain.lower()
        below = (name for name in names if name.endswith("." + current))
        return current if current in names else next(below, names[0] if names else "unknown")

    def _remember_explanation(self, record: SpfRecord, result: str, domain: str) -> None:
        if result == "fail" and record.explanation:
            self._explanation = (record.explanation, domain)

    def _explain(self, domain_spec: str, domain: str) -> str | None:
        """Section 6.2: whatever is wrong with it, there is none."""
        try:
            texts = self._resolver.lookup_txt(self._expand(domain_spec, domain)).records
            text = texts[0].decode("ascii") if len(texts) == 1 else ""
            shown = expand_explanation(text, lambda letter: self._macro_value(letter, domain))
        except (ResolverError, UnicodeDecodeError, MacroError):
            return None
        return shown[:MAX_EXPLANATION_CHARACTERS] or None
