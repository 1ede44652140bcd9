"""The evidence that needs only the envelope: SPF of both identities, and the client's name.

Asked only for what somebody needs. Must not know rules or doors.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet

from mailreeve_policyd.authres import MethodResult
from mailreeve_policyd.iprev import evaluate_iprev
from mailreeve_policyd.resolver import Resolver
from mailreeve_policyd.spf import evaluate_helo, evaluate_mail_from, mail_from_of_helo
from mailreeve_policyd.transaction import Evidence, Session, Transaction

ENVELOPE_NEEDS = frozenset({"spf", "spf_helo", "iprev"})
"""What may be needed, by the names of the facts."""


def gather_envelope_evidence(
    transaction: Transaction, needs: AbstractSet[str], resolver: Resolver
) -> Evidence:
    """The results that `needs` (names of ENVELOPE_NEEDS, others are ignored) asks for, and those known.

    Results come in the order in which RFC 8601 fields list them: iprev, spf of the HELO name, spf of the
    reverse-path. What the transaction's evidence holds already is not asked again. `spf` needs an
    envelope and `iprev` an address: without, there is no such result. Of mail that a relay passed on
    from a client unknown, spf is none and there is no iprev. Never raises.
    """
    iprev, helo, mail_from = _known(transaction.evidence)
    session = transaction.session
    if iprev is None and "iprev" in needs:
        iprev = _iprev(session, resolver)
    if helo is None and "spf_helo" in needs:
        helo = evaluate_helo(session, resolver)
    if mail_from is None and "spf" in needs:
        mail_from = _mail_from(transaction, helo, resolver)
    return Evidence(tuple([result for result in (iprev, helo, mail_from) if result is not None]))


def _known(evidence: Evidence | None) -> tuple[MethodResult | None, MethodResult | None, MethodResult | None]:
    """iprev, spf of the HELO name, spf of the reverse-path, as far as they were found before."""
    if evidence is None:
        return None, None, None
    helo, mail_from = evidence.result("spf", "smtp.helo"), evidence.result("spf", "smtp.mailfrom")
    return evidence.result("iprev"), helo, mail_from


def _iprev(session: Session, resolver: Resolver) -> MethodResult | None:
    is_unknown = session.relayed is not None and session.relayed.problem is not None
    if session.client_address is None or is_unknown:
        return None
    return evaluate_iprev(session.client_address, resolver)


def _mail_from(
    transaction: Transaction, helo: MethodResult | None, resolver: Resolver
) -> MethodResult | None:
    envelope, session = transaction.envelope, transaction.session
    if envelope is None:
        return None
    if helo is not None and envelope.reverse_path is None:
        return mail_from_of_helo(helo, session)
    return evaluate_mail_from(session, envelope, resolver)
