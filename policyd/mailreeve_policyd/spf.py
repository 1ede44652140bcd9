"""SPF: may this client use this domain? RFC 7208 check_host(), for both identities of a transaction.

The only file that knows pyspf: its grammar of mechanisms and its address arithmetic are used; names are
asked through our Resolver, and where pyspf differs from the RFC this room decides (docs/spf.md lists it).
Must not know what is done with the result.
"""

from __future__ import annotations

import logging
import re
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

from mailreeve_policyd.authres import MethodResult
from mailreeve_policyd.errors import ProtocolError, ResolverError
from mailreeve_policyd.resolver import Resolver
from mailreeve_policyd.resolver_dns import BudgetResolver
from mailreeve_policyd.smtp import Domain, Mailbox, parse_domain
from mailreeve_policyd.spf_macros import (
    MacroError,
    expand_explanation,
    expand_name,
    names_sender,
    require_macro_string,
)
from mailreeve_policyd.transaction import Envelope, IPAddress, Session

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # its source has escapes that Python 3.12 warns of while compiling
    import spf as pyspf

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

# unknown-modifier = name "=" macro-string; name = ALPHA *( ALPHA / DIGIT / "-" / "_" / "." ) (section 12)
_MODIFIER = re.compile(r"([a-z][a-z0-9_.-]*)=(.*)\Z", re.IGNORECASE)
_RECORD_TEXT = re.compile(r"[ -~]*")

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SpfOutcome:
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
    return _Evaluation(address, domain, sender, helo_name, resolver).evaluate()


def check_host_explained(
    address: IPAddress, domain: Domain, sender: Mailbox, helo_name: str, resolver: Resolver
) -> SpfOutcome:
    """As check_host; a fail comes with the domain's explanation, for one more question."""
    return _Evaluation(address, domain, sender, helo_name, resolver).evaluate_explained()


def evaluate_mail_from(session: Session, envelope: Envelope, resolver: Resolver) -> MethodResult:
    """The MAIL FROM identity; the null reverse-path is postmaster@HELO (section 2.4).

    Written with `smtp.mailfrom`.
    """
    helo_name = session.helo_name or ""
    sender = envelope.reverse_path or Mailbox(f"postmaster@{helo_name}", "postmaster", _domain(helo_name))
    outcome, reason = _judge(session, sender, resolver)
    return MethodResult("spf", outcome.result, {"smtp.mailfrom": str(sender)}, reason)


def evaluate_helo(session: Session, resolver: Resolver) -> MethodResult:
    """The HELO identity (section 2.3). Written with `smtp.helo`."""
    helo_name = session.helo_name or ""
    sender = Mailbox(f"postmaster@{helo_name}", "postmaster", _domain(helo_name))
    outcome, reason = _judge(session, sender, resolver)
    return MethodResult("spf", outcome.result, {"smtp.helo": helo_name}, reason)


def _judge(session: Session, sender: Mailbox, resolver: Resolver) -> tuple[SpfOutcome, str]:
    if session.client_address is None:
        return SpfOutcome("none"), "the client has no address"
    # section 4.3: what is malformed, a literal, or has one label only is none
    if sender.domain is None or "." not in sender.domain:
        return SpfOutcome("none"), "no domain to check"
    outcome = check_host(session.client_address, sender.domain, sender, session.helo_name or "", resolver)
    return outcome, _describe(outcome, session.client_address, sender.domain)


def _domain(name: str) -> Domain | None:
    try:
        return parse_domain(name)
    except ProtocolError:
        return None


_DESCRIPTIONS = {
    "pass": "{domain} permits {address}",
    "fail": "{domain} does not permit {address}",
    "softfail": "{domain} rather does not permit {address}",
    "neutral": "{domain} says nothing about {address}",
    "none": "{domain} has no SPF record",
    "temperror": "DNS gave no answer for {domain}",
    "permerror": "the SPF record of {domain} is wrong",
}


def _describe(outcome: SpfOutcome, address: IPAddress, domain: Domain) -> str:
    text = _DESCRIPTIONS[outcome.result].format(domain=domain, address=address)
    detail = outcome.problem or outcome.mechanism
    return f"{text} ({detail})" if detail else text


@dataclass(frozen=True, slots=True)
class _Directive:
    """A mechanism with its qualifier, its domain-spec expanded."""

    text: str
    name: str
    target: str
    prefix: int
    result: str


@dataclass(frozen=True, slots=True)
class _Record:
    """A record after section 4.6: every term is known to be well-formed."""

    directives: Sequence[_Directive]
    redirect: str | None
    explanation_name: str | None


class _Evaluation(pyspf.query):  # type: ignore[misc] # pyspf has no types
    """One check_host(), and all that it includes.

    Overridden are: how names are asked (`dns_*`), macro expansion, and the evaluation of a record
    (`check0`). pyspf's own caches and module functions that ask DNS are never reached.
    """

    def __init__(
        self, address: IPAddress, domain: Domain, sender: Mailbox, helo_name: str, resolver: Resolver
    ) -> None:
        super().__init__(i=str(address), s="", h="unknown.invalid", strict=True)
        self._resolver = BudgetResolver(resolver, CHECK_SECONDS)
        self._address = self.ipaddr  # IPv4 where it is IPv4-mapped
        local_part = sender.local_part or "postmaster"  # section 4.3
        # RFC 8616 section 4: DNS has no such local parts, terms that name them match nothing
        self._sender_is_ascii = local_part.isascii()
        self.l = local_part if self._sender_is_ascii else "postmaster"
        self.d = self.o = str(domain)
        self.s = f"{self.l}@{sender.domain or domain}"
        self.h = helo_name if helo_name.isascii() else str(_domain(helo_name) or "unknown")
        self._found_nothing = False
        self._validated: tuple[str, ...] | None = None
        self._explanation: tuple[str, str] | None = None

    def evaluate(self) -> SpfOutcome:
        """check_host(); where pyspf fails on a record the result is not known, and the log says so."""
        try:
            result, _, text = self.check()
        except Exception:  # noqa: BLE001 -- a foreign reader of strangers' text may surprise us
            _log.exception("SPF of %s could not be evaluated", self.o)
            return SpfOutcome("temperror", problem="the record could not be evaluated")
        problem = text.partition(" Error: ")[2] if result in ("temperror", "permerror") else None
        return SpfOutcome(result, self.mechanism, problem)

    def evaluate_explained(self) -> SpfOutcome:
        """The same, then section 6.2."""
        outcome = self.evaluate()
        if outcome.result != "fail" or self._explanation is None:
            return outcome
        return SpfOutcome("fail", outcome.mechanism, explanation=self._explain(*self._explanation))

    # Evaluation of a record -------------------------------------------------------------------

    def check0(self, spf: str | None, recursion: int) -> tuple[str, int, str]:
        """Section 4.6, for the record of `self.d`."""
        if spf is None:
            return ("none", 250, "")
        record = self._parse(spf)
        for directive in record.directives:
            if self._matches(directive, recursion):
                if recursion == 0:
                    self.mechanism = directive.text
                    self._remember_explanation(record, directive.result)
                return (directive.result, 250, "")
        if record.redirect is None:
            return ("neutral", 250, "")  # 4.7
        return self._follow(record.redirect, recursion)

    def _follow(self, target: str, recursion: int) -> tuple[str, int, str]:
        """Section 6.1."""
        self._count_lookup()
        text = self.dns_spf(target)
        if text is None:
            raise pyspf.PermError(f"redirect to {target}, which has no record")
        answer: tuple[str, int, str] = self.check1(text, target, recursion)
        return answer

    def _parse(self, text: str) -> _Record:
        """Section 4.6.1: a mistake anywhere in the record is permerror, before anything is evaluated."""
        if _RECORD_TEXT.fullmatch(text) is None:
            raise pyspf.PermError("a control character in the record")
        directives: list[_Directive] = []
        modifiers: dict[str, str] = {}
        for term in text.split(" ")[1:]:
            modifier = _MODIFIER.match(term)
            if modifier is not None:
                self._add_modifier(modifiers, modifier[1].lower(), modifier[2])
            elif term:
                directives.append(self._parse_directive(term))
        # 6.1: redirect is ignored when there is an all
        has_all = any(directive.name == "all" for directive in directives)
        return _Record(directives, None if has_all else modifiers.get("redirect"), modifiers.get("exp"))

    def _add_modifier(self, modifiers: dict[str, str], name: str, value: str) -> None:
        if name not in ("redirect", "exp"):
            _require_macro_string(value)  # 6: unknown ones are ignored, however often they come
        elif name in modifiers:
            raise pyspf.PermError(f"two {name}= in the record")
        elif not value:
            raise pyspf.PermError(f"{name}= without a name")
        else:
            modifiers[name] = self.expand_domain(value)

    def _parse_directive(self, term: str) -> _Directive:
        _, name, target, prefix, result = self.validate_mechanism(term)
        if not self._sender_is_ascii and names_sender(term):
            name = "never"
        return _Directive(term, name, target, prefix, result)

    def _matches(self, directive: _Directive, recursion: int) -> bool:
        """Section 5. A term counts as void at most once (4.6.4)."""
        if directive.name == "all":
            return True
        if directive.name == "never":
            return False
        if directive.name in ("ip4", "ip6"):
            same_family = (directive.name == "ip4") == (self.v == "in-addr")
            return same_family and self._is_within([directive.target], directive.prefix)
        self._count_lookup()
        if directive.name == "include":
            return self._includes(directive.target, recursion)
        self._found_nothing = False
        matched = self._names_client(directive)
        if self._found_nothing and not matched:
            self._count_void()
        return matched

    def _names_client(self, directive: _Directive) -> bool:
        if directive.name == "exists":
            return bool(self.dns_a(directive.target, "A"))
        if directive.name == "ptr":  # 5.5
            suffix = directive.target.lower()
            return any(name == suffix or name.endswith("." + suffix) for name in self.validated_ptrs())
        lookup = self.dns_mx if directive.name == "mx" else self.dns_a
        return self._is_within(lookup(directive.target), directive.prefix)

    def _includes(self, target: str, recursion: int) -> bool:
        """Section 5.2."""
        result = self.check1(self.dns_spf(target), target, recursion + 1)[0]
        if result == "none":
            raise pyspf.PermError(f"include of {target}, which has no record")
        return bool(result == "pass")

    def _is_within(self, addresses: Sequence[str], prefix: int) -> bool:
        return bool(self.cidrmatch(addresses, prefix))

    def _count_lookup(self) -> None:
        self.lookups += 1
        if self.lookups > MAX_LOOKUPS:
            raise pyspf.PermError(f"more than {MAX_LOOKUPS} terms that ask DNS")

    def _count_void(self) -> None:
        self.void_lookups += 1
        if self.void_lookups > MAX_VOID_LOOKUPS:
            raise pyspf.PermError(f"more than {MAX_VOID_LOOKUPS} terms that find nothing")

    # Names ------------------------------------------------------------------------------------

    def dns(self, name: str, qtype: str, *_: object, **__: object) -> NoReturn:
        """Nothing may ask DNS but through our resolver."""
        raise AssertionError(f"pyspf asks {qtype} of {name}")

    def dns_spf(self, domain: str) -> str | None:
        """The record of a domain (sections 4.4 and 4.5)."""
        texts = [text for text in self._texts(domain) if text.lower().partition(b" ")[0] == b"v=spf1"]
        if len(texts) > 1:
            raise pyspf.PermError(f"{domain} has {len(texts)} records")
        if not texts:
            return None
        try:
            return texts[0].decode("ascii")
        except UnicodeDecodeError:
            raise pyspf.PermError(f"the record of {domain} is not ASCII") from None

    def dns_a(self, domainname: str, A: str = "") -> list[str]:  # noqa: N803 -- pyspf's name
        """Addresses, of the client's family unless told."""
        lookup = self._resolver.lookup_a if (A or self.A) == "A" else self._resolver.lookup_aaaa
        try:
            records = lookup(domainname).records
        except ResolverError as error:
            raise pyspf.TempError(str(error)) from error
        self._found_nothing |= not records
        return [str(record) for record in records]

    def dns_mx(self, domainname: str) -> list[str]:
        """The addresses of all exchanges (section 5.4)."""
        try:
            records = self._resolver.lookup_mx(domainname).records
        except ResolverError as error:
            raise pyspf.TempError(str(error)) from error
        self._found_nothing |= not records
        if len(records) > MAX_NAMES:
            raise pyspf.PermError(f"more than {MAX_NAMES} MX records")
        return [address for record in records for address in self.dns_a(record.exchange)]

    def validated_ptrs(self) -> tuple[str, ...]:
        """Names of the client that lead back to it (section 5.5); none where DNS fails."""
        if self._validated is None:
            try:
                names = self._resolver.lookup_ptr(self._address).records[:MAX_NAMES]
            except ResolverError:
                names = ()
            self._found_nothing |= not names
            self._validated = tuple(name for name in names if self._leads_back(name))
        return self._validated

    def _leads_back(self, name: str) -> bool:
        lookup = self._resolver.lookup_a if self._address.version == 4 else self._resolver.lookup_aaaa
        try:
            return self._address in lookup(name).records
        except ResolverError:
            return False

    def _texts(self, name: str) -> tuple[bytes, ...]:
        try:
            return self._resolver.lookup_txt(name).records
        except ResolverError as error:
            raise pyspf.TempError(str(error)) from error

    # Macros and explanations ------------------------------------------------------------------

    def expand(self, s: str, stripdot: bool = True) -> str:
        """Expand a domain-spec; `stripdot` is pyspf's and always true here."""
        del stripdot
        try:
            return expand_name(s, self._macro_value)
        except MacroError as error:
            raise pyspf.PermError(str(error)) from error

    def _macro_value(self, letter: str) -> str:
        if letter == "p":
            return self.getp()
        if letter == "t":
            return str(int(time.time()))
        return str(getattr(self, letter))

    def getp(self) -> str:
        """The client's name: the current domain, one below it, or any (section 7.3)."""
        names = self.validated_ptrs()
        current = self.d.lower()
        below = (name for name in names if name.endswith("." + current))
        return current if current in names else next(below, names[0] if names else "unknown")

    def _remember_explanation(self, record: _Record, result: str) -> None:
        if result == "fail" and record.explanation_name:
            self._explanation = (record.explanation_name, self.d)

    def _explain(self, name: str, domain: str) -> str | None:
        """Section 6.2: whatever is wrong with it, there is none."""
        try:
            texts = self._resolver.lookup_txt(name).records
            text = texts[0].decode("ascii") if len(texts) == 1 else ""
        except (ResolverError, UnicodeDecodeError):
            return None
        self.d = domain
        try:
            return expand_explanation(text, self._macro_value)[:MAX_EXPLANATION_CHARACTERS] or None
        except MacroError:
            return None


def _require_macro_string(text: str) -> None:
    try:
        require_macro_string(text)
    except MacroError as error:
        raise pyspf.PermError(str(error)) from error
