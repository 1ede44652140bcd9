"""How much of one message is kept, looked at and changed. Knows no message."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class MessageBounds:
    """What the settings allow; beyond it a message goes on as docs/security.md says.

    A field costs 250 octets of memory however short it is, so that `header_fields` are bounded as well as
    `header_octets`. `recipients` is fifty times what Postfix takes (smtpd_recipient_limit). A rule at rcpt
    may add another field for each recipient, and how many there are the client chooses: hence `added_fields`.
    Of Authentication-Results `results_read` are looked at, a hop adding one, and further ones are forged;
    `removals` of them, or of Received-SPF, are carried out: each makes Postfix read the queue file anew, so
    that 8,000 take ten seconds, and no honest message has so many fields that must go.
    """

    header_octets: int = 1_048_576
    header_fields: int = 20_000
    recipients: int = 50_000
    added_fields: int = 100
    results_read: int = 200
    removals: int = 500
