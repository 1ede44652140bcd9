"""Who gets a message that rules redirect or copy: which recipients an MTA must remove and add.

Values only; engines carry them out. An MTA finds a recipient to remove by its text, as RCPT gave it.
"""

from __future__ import annotations

from collections.abc import Sequence

from mailreeve_policyd.smtp import Mailbox

NO_CHANGE: tuple[tuple[Mailbox, ...], tuple[str, ...]] = ((), ())


def changed_recipients(
    recipients: Sequence[Mailbox], redirect: str | None, copies: Sequence[str]
) -> tuple[tuple[Mailbox, ...], tuple[str, ...]]:
    """The recipients to remove and the addresses to add, each once.

    `redirect` gets the message instead of all recipients; who stays or comes by it is not added again.
    """
    if redirect is None and not copies:
        return NO_CHANGE
    there = {str(recipient).lower(): recipient for recipient in recipients}
    wanted = {address.lower(): address for address in (*([redirect] if redirect else ()), *copies)}
    added = tuple(address for name, address in wanted.items() if name not in there)
    if redirect is None:
        return (), added
    texts = {recipient.text: recipient for recipient in recipients if str(recipient).lower() not in wanted}
    return tuple(texts.values()), added
