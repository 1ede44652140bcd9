"""DMARC: has the author's domain vouched for this message? RFC 9989.

Knows the tree walk, policy discovery and alignment. Must not know how SPF and DKIM came to their
results, nor what is done with the answer: `p=reject` alone rejects nothing (section 7.4), rules decide.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from mailreeve_milter.dmarc_record import Disposition, DmarcRecord, parse_record
from mailreeve_policyd.authres import MethodResult
from mailreeve_policyd.errors import ResolverError
from mailreeve_policyd.resolver import Resolver
from mailreeve_policyd.smtp import Domain, is_under

MAX_WALK_LABELS = 7
"""Longer names are cut to so many labels after the first question: at most 8 questions (section 4.10)."""

MAX_IDENTIFIERS = 12
"""Domains of one message that are compared, each with a walk of its own: those that passed go first."""


@dataclass(frozen=True, slots=True)
class Identifier:
    """A domain that SPF (MAIL FROM) or DKIM (d=) was asked about.

    `method` is spf or dkim. `passed` is an Authenticated Identifier; otherwise DNS did not say
    (temperror), and the identifier might have passed.
    """

    method: str
    domain: Domain
    passed: bool = True


@dataclass(frozen=True, slots=True)
class Policy:
    """The record that applies to an author domain, and the domain where it was found."""

    record: DmarcRecord
    domain: Domain


@dataclass(frozen=True, slots=True)
class DmarcOutcome:
    """`disposition` is the effective policy (after sp, np and t=y); None without a record, or unknown."""

    result: MethodResult
    disposition: Disposition | None = None
    policy: Policy | None = None


def evaluate(author: Domain, identifiers: Sequence[Identifier], resolver: Resolver) -> DmarcOutcome:
    """Compare the author domain with what SPF and DKIM proved (RFC 9989 sections 4.4 and 5.3).

    One aligned pass is enough. temperror where a question that the answer depends on got none. Asks at
    most eight names for each domain and the author domain's A. Never raises.
    """
    walker = _TreeWalker(resolver)
    try:
        policy = walker.lookup_policy(author)
    except ResolverError:
        return DmarcOutcome(_result("temperror", author, None, "DNS did not tell the policy"))
    if policy is None:
        return DmarcOutcome(_result("none", author, None, f"no DMARC record for {author}"))
    if not policy.record.is_usable:
        reason = f"the DMARC record of {policy.domain} holds no valid policy"
        return DmarcOutcome(_result("none", author, None, reason))
    return _judge(author, policy, identifiers, walker)


def _judge(
    author: Domain, policy: Policy, identifiers: Sequence[Identifier], walker: _TreeWalker
) -> DmarcOutcome:
    word, reason = _compare(author, policy, identifiers, walker)
    disposition: Disposition | None
    try:
        disposition = walker.lookup_disposition(author, policy)
    except ResolverError:
        if word == "fail":  # section 5.3.6: neither pass nor fail, no policy applies
            word, reason = "temperror", f"DNS did not tell whether {author} exists"
        disposition = None
    if word == "temperror":
        disposition = None
    return DmarcOutcome(_result(word, author, disposition, reason), disposition, policy)


def _compare(
    author: Domain, policy: Policy, identifiers: Sequence[Identifier], walker: _TreeWalker
) -> tuple[str, str]:
    """Result word and reason; section 5.3.5."""
    undecided: Identifier | None = None
    for identifier in _in_order(author, identifiers):
        try:
            aligned = is_aligned(author, identifier, policy.record, walker)
        except ResolverError:
            undecided = undecided or identifier
            continue
        if aligned and identifier.passed:
            return "pass", f"{identifier.method} of {identifier.domain} is aligned"
        if aligned:
            undecided = undecided or identifier
    if undecided is not None:
        return "temperror", f"DNS gave no answer for {undecided.method} of {undecided.domain}"
    return "fail", _why_not(identifiers)


def _in_order(author: Domain, identifiers: Iterable[Identifier]) -> list[Identifier]:
    """Each once; what passed first, of that the author's own domain first, as it needs no walk."""
    ordered = sorted(dict.fromkeys(identifiers), key=lambda one: (not one.passed, one.domain != author))
    return ordered[:MAX_IDENTIFIERS]


def _why_not(identifiers: Iterable[Identifier]) -> str:
    passed = sorted({str(identifier.domain) for identifier in identifiers if identifier.passed})
    return f"not aligned: {', '.join(passed)}" if passed else "neither SPF nor DKIM passed"


def is_aligned(author: Domain, identifier: Identifier, record: DmarcRecord, walker: _TreeWalker) -> bool:
    """Section 4.4: the same domain, or in relaxed mode the same Organizational Domain.

    Raises:
        ResolverError: a walk got no answer.
    """
    if identifier.domain == author:
        return True
    if record.strict_dkim if identifier.method == "dkim" else record.strict_spf:
        return False
    organizational = walker.lookup_organizational_domain(author)
    if not is_under(identifier.domain, organizational):
        return False  # the domain's own walk can end nowhere else than above it
    return walker.lookup_organizational_domain(identifier.domain) == organizational


def _result(word: str, author: Domain, disposition: Disposition | None, reason: str) -> MethodResult:
    properties = {"header.from": str(author)}
    if disposition is not None:
        properties["policy.dmarc"] = disposition.value
    return MethodResult("dmarc", word, properties, reason)


class _TreeWalker:
    """The walks of one message; no name is asked twice.

    Raises:
        ResolverError: every method, when a question on the way got no answer.
    """

    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver
        self._records: dict[str, DmarcRecord | None] = {}
        self._organizational: dict[Domain, Domain] = {}

    def lookup_policy(self, author: Domain) -> Policy | None:
        """Section 4.10.1: the author domain's record, else its Organizational Domain's, else the PSD's."""
        own = self._lookup_record(author)
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

    def lookup_disposition(self, author: Domain, policy: Policy) -> Disposition:
        """The effective policy (section 4.10.1)."""
        if policy.domain == author:
            return policy.record.disposition_itself()
        exists = not policy.record.depends_on_existence or self._resolver.lookup_a(author).exists
        return policy.record.disposition_below(exists=exists)

    def _walk(self, start: Domain) -> list[Policy]:
        """Section 4.10: the records on the way up, longest name first; a psd= of y or n ends it."""
        found = []
        for name in _walk_names(start):
            record = self._lookup_record(name)
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

    def _lookup_record(self, name: Domain) -> DmarcRecord | None:
        """Section 4.10 steps 2 and 6: what is no record does not count, several are none."""
        if name not in self._records:
            texts = self._resolver.lookup_txt(f"_dmarc.{name}").records
            records = [record for record in map(parse_record, texts) if record is not None]
            self._records[name] = records[0] if len(records) == 1 else None
        return self._records[name]


def _walk_names(start: Domain) -> Iterator[Domain]:
    """The names that a walk asks, without their _dmarc: at most 8."""
    yield start
    labels = start.split(".")
    for count in range(min(len(labels) - 1, MAX_WALK_LABELS), 0, -1):
        yield Domain(".".join(labels[-count:]))
