"""Envelope results + message -> all MethodResults: SPF, DKIM and DMARC of mail from outside.

Knows what each check needs of the others. Must not know doors, rules, nor how a signature is verified.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from mailreeve_milter import dmarc
from mailreeve_milter.author import Author, extract_author
from mailreeve_milter.message import HeaderField
from mailreeve_policyd.authres import MethodResult
from mailreeve_policyd.evidence import gather_envelope_evidence
from mailreeve_policyd.resolver import Resolver
from mailreeve_policyd.smtp import Domain, parse_mailbox
from mailreeve_policyd.transaction import Evidence, Transaction

ALWAYS_NEEDED = frozenset({"spf", "spf_helo"})
"""What a field of results and DMARC want of the envelope, whatever rules need (names of ENVELOPE_NEEDS)."""


class DkimOutcome(Protocol):
    """What verifying one signature gave (mailreeve_milter.dkim.SignatureOutcome).

    `domain` is its d=; `counts` says that it passed and proves something for `domain`.
    """

    @property
    def result(self) -> MethodResult:
        """The `dkim` result."""

    @property
    def domain(self) -> Domain | None:
        """None where the signature names none."""

    @property
    def counts(self) -> bool:
        """A pass that covers too little is none here."""


def authenticate(
    transaction: Transaction,
    fields: Sequence[HeaderField],
    dkim_outcomes: Sequence[DkimOutcome],
    resolver: Resolver,
    author: Author | None = None,
    method: dmarc.Method = dmarc.Method.TREE_WALK,
) -> Evidence:
    """All results of one message, in the order in which its field lists them.

    That is iprev (if it is known already: rules asked for it), spf of the HELO name, spf of the
    reverse-path, dkim of each signature or `none`, dmarc. What the transaction's evidence holds is not
    asked again. `author` is who wrote it, where that was read from `fields` already; `method` is how its
    Organizational Domain is found. Never raises.
    """
    envelope_results = gather_envelope_evidence(transaction, ALWAYS_NEEDED, resolver).results
    author = author or extract_author(fields)
    identifiers = [*_spf_identifiers(envelope_results), *_dkim_identifiers(dkim_outcomes)]
    judged = _evaluate_dmarc(author, identifiers, resolver, method)
    signatures = [outcome.result for outcome in dkim_outcomes] or [_UNSIGNED]
    signed_by = [outcome.domain for outcome in dkim_outcomes if outcome.counts and outcome.domain]
    return Evidence(
        (*envelope_results, *signatures, judged.result),
        author.mailbox,
        tuple(dict.fromkeys(signed_by)),
        judged.disposition.value if judged.disposition else None,
    )


_UNSIGNED = MethodResult("dkim", "none")


def _evaluate_dmarc(
    author: Author, identifiers: Sequence[dmarc.Identifier], resolver: Resolver, method: dmarc.Method
) -> dmarc.DmarcOutcome:
    """RFC 9989 section 5.3.1: without exactly one author domain there is nothing to validate."""
    if author.domain is None:
        return dmarc.DmarcOutcome(MethodResult("dmarc", "permerror", reason=author.problem))
    return dmarc.evaluate(author.domain, identifiers, resolver, method)


def _spf_identifiers(results: Sequence[MethodResult]) -> tuple[dmarc.Identifier, ...]:
    """Of MAIL FROM alone, postmaster@HELO for the null reverse-path included (RFC 9989 section 4.4.2)."""
    for result in results:
        if result.method == "spf" and "smtp.mailfrom" in result.properties:
            domain = parse_mailbox(result.properties["smtp.mailfrom"]).domain
            return _identifier("spf", domain, passed=result.result == "pass", word=result.result)
    return ()


def _dkim_identifiers(outcomes: Sequence[DkimOutcome]) -> list[dmarc.Identifier]:
    return [
        identifier
        for outcome in outcomes
        for identifier in _identifier(
            "dkim", outcome.domain, passed=outcome.counts, word=outcome.result.result
        )
    ]


def _identifier(
    method: str, domain: Domain | None, *, passed: bool, word: str
) -> tuple[dmarc.Identifier, ...]:
    if domain is None or not (passed or word == "temperror"):
        return ()
    return (dmarc.Identifier(method, domain, passed),)
