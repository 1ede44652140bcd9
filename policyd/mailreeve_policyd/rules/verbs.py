"""The actions of the language: their words, what they are for, and which of them a door can do at a stage."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

from mailreeve_policyd.facts import Door
from mailreeve_policyd.smtp import Stage


class Verb(Enum):
    """The actions of the language, but for `limit`."""

    ACCEPT = "accept"
    PERMIT = "permit"
    REJECT = "reject"
    DEFER = "defer"
    DISCARD = "discard"
    HOLD = "hold"
    REDIRECT = "redirect"
    FILTER = "filter"
    BCC = "bcc"
    ADD_HEADER = "add-header"
    WARN = "warn"
    NOTIFY = "notify"

    __hash__ = object.__hash__  # as Stage's


VERBS: Mapping[Verb, str] = {
    Verb.ACCEPT: "the mail goes on; ends the block of this stage only",
    Verb.PERMIT: "as accept, and Postfix is told OK: its later restrictions are skipped",
    Verb.REJECT: 'refuse for good: `reject "5.7.1 why"`',
    Verb.DEFER: 'refuse for now: `defer "4.7.1 why"`',
    Verb.DISCARD: "take the mail and throw it away",
    Verb.HOLD: "take the mail and keep it in the queue until somebody releases it",
    Verb.REDIRECT: 'send the whole message to one address instead: `redirect "abuse@example.org"`',
    Verb.FILTER: 'send it through a content filter of Postfix: `filter "smtp:[127.0.0.1]:10025"`',
    Verb.BCC: 'send a copy: `bcc "archive@example.org"`; goes on',
    Verb.ADD_HEADER: 'add a header field: `add-header "Name: value"`; goes on',
    Verb.WARN: "write a warning to the log and the record; goes on",
    Verb.NOTIFY: 'tell people, once an hour for the same text: `notify "{sasl_username}"`; goes on',
}
"""Every action with its line of the reference."""

GOES_ON = frozenset((Verb.BCC, Verb.ADD_HEADER, Verb.WARN, Verb.NOTIFY))
"""Actions that decide nothing."""

_NO_FILTER = (
    "a milter cannot send mail through a filter; write the rule at an earlier stage, which the policy "
    "daemon decides, or use content_filter in main.cf"
)

IMPOSSIBLE: Mapping[tuple[Door, Stage, Verb], str] = {
    (Door.POLICY, Stage.END_OF_MESSAGE, Verb.ADD_HEADER): (
        "Postfix ignores PREPEND at end-of-message; add the field at data, or let the milter decide"
    ),
    **{(Door.MILTER, stage, Verb.FILTER): _NO_FILTER for stage in Stage},
}
"""What a door cannot do at a stage, and why. Everything else it can."""

SYNONYMS: Mapping[str, str] = {
    "drop": "discard", "allow": "accept", "pass": "accept", "ok": "permit", "dunno": "accept",
    "deny": "reject", "block": "reject", "refuse": "reject", "tempfail": "defer", "greylist": "defer",
    "defer_if_permit": "defer", "quarantine": "hold", "prepend": "add-header", "header": "add-header",
    "log": "warn", "rate": "limit", "tag": "add-header", "forward": "redirect", "copy": "bcc",
    "content-filter": "filter", "mail": "notify", "alert": "notify", "tell": "notify",
    "permit_mynetworks": "accept", "permit_sasl_authenticated": "accept",
}  # fmt: skip
"""What other programs call it."""
