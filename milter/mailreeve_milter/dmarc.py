"""DMARC: has the author's domain vouched for this message? RFC 9989.

Knows alignment and policy; dmarc_discovery.py finds the record. Must not know how SPF and DKIM came to
their results, nor what is done with the answer: `p=reject` alone rejects nothing (section 7.4), rules decide.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import Enum
from itertools import takewhile

import msgspec
from msgspec.structs import replace

from mailreeve_milter.dmarc_discovery import Discovery, DmarcRecords, Policy, SuffixList, TreeWalk
from mailreeve_milter.dmarc_record import Disposition, DmarcRecord
from mailreeve_policyd.authres import MethodResult
from mailreeve_policyd.errors import ResolverError
from mailreeve_policyd.resolver import Resolver
from mailreeve_policyd.smtp import Domain, is_under

MAX_IDENTIFIERS = 12
"""Domains of one message that are compared, each with a walk of its own: what passed and is nearest."""


class Method(Enum):
    """How Organizational Domains are found; with `both` the tree walk decides and differences are told."""

    TREE_WALK = "tree-walk"
    PUBLIC_SUFFIX_LIST = "psl"
    BOTH = "both"


class Identifier(msgspec.Struct, frozen=True, gc=False):
    """A domain that SPF (MAIL FROM) or DKIM (d=) was asked about.

    `method` is spf or dkim. `passed` is an Authenticated Identifier; otherwise DNS did not say
    (temperror), and the identifier might have passed.
    """

    method: str
    domain: Domain
    passed: bool = True


class DmarcOutcome(msgspec.Struct, frozen=True, gc=False):
    """`disposition` is the effective policy (after sp, np and t=y); None without a record, or unknown."""

    result: MethodResult
    disposition: Disposition | None = None
    policy: Policy | None = None


def evaluate(
    author: Domain,
    identifiers: Sequence[Identifier],
    resolver: Resolver,
    method: Method = Method.TREE_WALK,
) -> DmarcOutcome:
    """Compare the author domain with what SPF and DKIM proved (RFC 9989 sections 4.4 and 5.3).

    One aligned pass is enough. temperror where a question that the answer depends on got none. Asks at
    most eight names for each domain and the author domain's A. Never raises.
    """
    records = DmarcRecords(resolver)
    if method is Method.PUBLIC_SUFFIX_LIST:
        return _evaluate(author, identifiers, records, SuffixList(records))
    outcome = _evaluate(author, identifiers, records, TreeWalk(records))
    if method is Method.TREE_WALK:
        return outcome
    return _compared(outcome, _evaluate(author, identifiers, records, SuffixList(records)))


def _compared(walked: DmarcOutcome, listed: DmarcOutcome) -> DmarcOutcome:
    """The first outcome, its reason telling the other where that is another; temperror says nothing."""
    words = (walked.result.result, listed.result.result)
    if "temperror" in words or (words[0] == words[1] and walked.policy == listed.policy):
        return walked
    told = f"{listed.result.result}, {_describe(listed.policy)}"
    reason = f"the public suffix list says {told}; {walked.result.reason}, {_describe(walked.policy)}"
    return replace(walked, result=replace(walked.result, reason=reason))


def _describe(policy: Policy | None) -> str:
    return f"record of {policy.domain}" if policy else "no record"


def _evaluate(
    author: Domain, identifiers: Sequence[Identifier], records: DmarcRecords, discovery: Discovery
) -> DmarcOutcome:
    try:
        policy = discovery.lookup_policy(author)
    except ResolverError:
        return DmarcOutcome(_result("temperror", author, None, "DNS did not tell the policy"))
    if policy is None:
        return DmarcOutcome(_result("none", author, None, f"no DMARC record for {author}"))
    if not policy.record.is_usable:
        reason = f"the DMARC record of {policy.domain} holds no valid policy"
        return DmarcOutcome(_result("none", author, None, reason))
    return _judge(author, policy, identifiers, records, discovery)


def _judge(
    author: Domain,
    policy: Policy,
    identifiers: Sequence[Identifier],
    records: DmarcRecords,
    discovery: Discovery,
) -> DmarcOutcome:
    word, reason = _compare(author, policy, identifiers, discovery)
    disposition: Disposition | None
    try:
        disposition = records.lookup_disposition(author, policy)
    except ResolverError:
        if word == "fail":  # section 5.3.6: neither pass nor fail, no policy applies
            word, reason = "temperror", f"DNS did not tell whether {author} exists"
        disposition = None
    if word == "temperror":
        disposition = None
    return DmarcOutcome(_result(word, author, disposition, reason), disposition, policy)


def _compare(
    author: Domain, policy: Policy, identifiers: Sequence[Identifier], discovery: Discovery
) -> tuple[str, str]:
    """Result word and reason; section 5.3.5."""
    for identifier in identifiers:  # the usual case, before they are put in order
        if identifier.passed and identifier.domain == author:
            return "pass", f"{identifier.method} of {identifier.domain} is aligned"
    undecided: Identifier | None = None
    for identifier in _in_order(author, identifiers):
        try:
            aligned = is_aligned(author, identifier, policy.record, discovery)
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
    """Each once; what passed first, of that the author's own domain first, as it needs no walk.

    Where there are too many, those stay that are nearest to the author: what is aligned shares more labels
    with it than what is not, so that no crowd of others hides it.
    """
    once = list(dict.fromkeys(identifiers))
    if len(once) > MAX_IDENTIFIERS:
        once.sort(key=lambda one: (not one.passed, -_common_labels(author, one.domain)))
    return sorted(once[:MAX_IDENTIFIERS], key=lambda one: (not one.passed, one.domain != author))


def _common_labels(one: Domain, other: Domain) -> int:
    """How many labels, counted from the right, are the same."""
    pairs = zip(reversed(str(one).split(".")), reversed(str(other).split(".")), strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def _why_not(identifiers: Iterable[Identifier]) -> str:
    passed = sorted({str(identifier.domain) for identifier in identifiers if identifier.passed})
    return f"not aligned: {', '.join(passed)}" if passed else "neither SPF nor DKIM passed"


def is_aligned(author: Domain, identifier: Identifier, record: DmarcRecord, discovery: Discovery) -> bool:
    """Section 4.4: the same domain, or in relaxed mode the same Organizational Domain.

    Raises:
        ResolverError: a walk got no answer.
    """
    if identifier.domain == author:
        return True
    if record.strict_dkim if identifier.method == "dkim" else record.strict_spf:
        return False
    organizational = discovery.lookup_organizational_domain(author)
    if not is_under(identifier.domain, organizational):
        return False  # the domain's own walk can end nowhere else than above it
    return discovery.lookup_organizational_domain(identifier.domain) == organizational


def _result(word: str, author: Domain, disposition: Disposition | None, reason: str) -> MethodResult:
    properties = {"header.from": str(author)}
    if disposition is not None:
        properties["policy.dmarc"] = disposition.value
    return MethodResult("dmarc", word, properties, reason)
