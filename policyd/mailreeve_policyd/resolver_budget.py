"""What one message may cost in DNS: so much time and so many questions, over all methods together."""

from __future__ import annotations

from collections.abc import Callable

from mailreeve_policyd.audit_bound import Overrun
from mailreeve_policyd.resolver import Resolver
from mailreeve_policyd.resolver_dns import BudgetResolver, Questions
from mailreeve_policyd.settings import Dns
from mailreeve_policyd.transaction import Transaction

BOUND = "dns.max_questions"

ResolverFor = Callable[[Transaction], Resolver]
"""Makes a resolver for a message, or for a stage of it that is decided by itself."""


def budgets(resolver: Resolver, settings: Dns, overran: Callable[[Overrun], object]) -> ResolverFor:
    """As `[dns]` says; `overran` is told of a message that would have asked more."""
    seconds, most = settings.message_budget_seconds, settings.max_questions

    def tell(transaction: Transaction) -> None:
        reason = f"{most} questions to DNS were asked: what is not known then is temperror"
        client, queue_id = transaction.session.client_address, transaction.queue_id
        overran(Overrun(BOUND, most, "left-out", reason, client=client, queue_id=queue_id))

    def resolver_for(transaction: Transaction) -> Resolver:
        questions = Questions(most, lambda: tell(transaction))
        return BudgetResolver(resolver, seconds, questions=questions)

    return resolver_for
