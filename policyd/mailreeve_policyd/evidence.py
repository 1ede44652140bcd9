"""The evidence that needs only the envelope: SPF of both identities, and the client's name.

Asked only for what somebody needs. Must not know rules or doors.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet

from mailreeve_policyd.authres import MethodResult
from mailreeve_policyd.iprev import evaluate_iprev
from mailreeve_policyd.resolver import Resolver
from mailreeve_policyd.spf import evaluate_helo, evaluate_mail_from
from mailreeve_policyd.transaction import Evidence, Transaction

ENVELOPE_NEEDS = frozenset({"spf", "spf_helo", "iprev"})
"""What may be needed, by the names of the facts."""


def gather_envelope_evidence(
    transaction: Transaction, needs: AbstractSet[str], resolver: Resolver
) -> Evidence:
    """The results that `needs` (names of ENVELOPE_NEEDS, others are ignored) asks for.

    Results come in the order in which RFC 8601 fields list them: iprev, spf of the HELO name, spf of the
    reverse-path. What the transaction's evidence holds already is not asked again. `spf` needs an
    envelope and `iprev` an address: without, there is no such result. Never raises.
    """
    known = transaction.evidence or Evidence()
    session, envelope = transaction.session, transaction.envelope
    results: list[MethodResult] = []
    if "iprev" in needs and session.client_address is not None:
        results.append(known.result("iprev") or evaluate_iprev(session.client_address, resolver))
    if "spf_helo" in needs:
        results.append(known.result("spf", "smtp.helo") or evaluate_helo(session, resolver))
    if "spf" in needs and envelope is not None:
        results.append(
            known.result("spf", "smtp.mailfrom") or evaluate_mail_from(session, envelope, resolver)
        )
    return Evidence(tuple(results))
