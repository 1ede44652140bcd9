"""Limits that a stranger could use up for somebody else: those that count by what anybody can write.

Mail without a login names whatever sender it likes. A limit by that alone is a way to stop a victim's mail.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mailreeve_policyd.rules.implication import absent, asks, requires
from mailreeve_policyd.rules.nodes import (
    ActionNode,
    Comparison,
    Key,
    LimitNode,
    Not,
    Operator,
    RuleNode,
    Word,
)
from mailreeve_policyd.rules.source import Mistake, quote

_PROVED_BY = {"sender": "spf", "sender_domain": "spf", "header_from": "dmarc", "header_from_domain": "dmarc"}
FORGEABLE = frozenset((*_PROVED_BY, "sasl_sender", "helo_name"))
"""What the client writes as it likes."""

BINDING = frozenset(
    (
        *("sasl_username", "client_address", "client_network", "client_name"),
        *("ccert_subject", "ccert_fingerprint", "ccert_pubkey_fingerprint"),
    )
)
"""What says whose mail it is: counted by one of these too, a stranger uses up only what is his own."""

_POSITIVE = (Operator.IS, Operator.IN, Operator.UNDER, Operator.MATCHES)

ENDS = frozenset(("accept", "permit", "reject", "defer", "discard", "hold", "redirect", "filter"))
"""Actions after which the block is over."""


def check_spoofable(node: RuleNode, earlier: Sequence[RuleNode]) -> None:
    """Refuse a limit that anybody could use up. `earlier` are the rules above it in its stage.

    Raises:
        Mistake: its keys are all forgeable, and nothing says that the mail may be trusted in them.
    """
    body = node.body
    if not isinstance(body, LimitNode) or body.spoofable is not None:
        return
    key = _forgeable(body.keys)
    if key is None or _is_trusted(node, key) or _has_login(earlier):
        return
    name = key.subject.name
    hint = f"write `per {name}, client_address`, or `if sasl_username`"
    if name in _PROVED_BY:
        hint += f", or `if {_PROVED_BY[name]} is pass`"
    problem = f"anybody can write a {quote(name)}, and so use up what somebody else may send"
    raise Mistake(key.subject.at, problem, f"{hint}; `per {name} spoofable` if that does not matter")


def needless(node: RuleNode, earlier: Sequence[RuleNode]) -> Word | None:
    """A `spoofable` that changes nothing."""
    body = node.body
    if not isinstance(body, LimitNode) or body.spoofable is None:
        return None
    key = _forgeable(body.keys)
    return body.spoofable if key is None or _is_trusted(node, key) or _has_login(earlier) else None


def _forgeable(keys: Iterable[Key]) -> Key | None:
    """The key that a stranger names, where no other binds him."""
    names = {key.subject.name: key for key in keys if not key.subject.is_attribute}
    if not BINDING.isdisjoint(names):
        return None
    return next((key for name, key in names.items() if name in FORGEABLE), None)


def _is_trusted(node: RuleNode, key: Key) -> bool:
    proof = _PROVED_BY.get(key.subject.name)

    def is_enough(comparison: Comparison) -> bool:
        if asks(comparison, "sasl_username"):
            return True
        if proof is not None and asks(comparison, proof) and comparison.operator is Operator.IS:
            return isinstance(comparison.right, Word) and comparison.right.text == "pass"
        return comparison.subject.name in BINDING and comparison.operator in _POSITIVE

    return requires(node.condition, is_enough)


def _has_login(earlier: Sequence[RuleNode]) -> bool:
    """Does a rule above end the block for all mail without a login?"""
    return any(_ends_without_login(node) for node in earlier)


def _ends_without_login(node: RuleNode) -> bool:
    if node.observed is not None or not isinstance(node.body, ActionNode) or node.body.verb.text not in ENDS:
        return False
    alone = isinstance(node.condition, Not)  # with more to it, it ends less
    return alone and any(asks(each, "sasl_username") for each in absent(node.condition))
