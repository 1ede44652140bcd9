"""What of a stranger's value may stand in a header field that we write.

Many readers of such fields are patterns rather than parsers. So beyond the grammar no value holds a sign
with which one of them could find a result in it: such values are dropped, of an address its domain stays.
"""

from __future__ import annotations

import re

from mailreeve_policyd.smtp import parse_mailbox

MAX_VALUE_OCTETS = 320
"""Of one value: an address of 64 + 1 + 255 octets (RFC 5321 section 4.5.3.1). Longer ones are dropped."""

MAX_REASON_CHARACTERS = 160
"""Of a reason, which is for people; longer ones are cut."""

# No space, ; ( ) " \ < > or comma, and = only where base64 ends
_HARMLESS = re.compile(r"[!#$%&'*+\-./0-9:?@A-Z\[\]^_`a-z{|}~]+={0,2}\Z")
_PLAIN_REASON = re.compile(r"[ !#$%&'*+,\-./0-9:?@A-Z\[\]^_`a-z{|}~]*\Z")
_UNSHOWN = re.compile(r"[^ -~]")
_LIKENESS = {";": ",", "=": ":", "(": "[", ")": "]", '"': "'", "\\": "/", "<": "[", ">": "]"}
_READABLE = "".join(_LIKENESS.get(chr(code), chr(code)) for code in range(128))
"""For str.translate, which is slow where a table has a gap."""


def harmless_value(value: str) -> str | None:
    """The value if nothing in it can mislead, of any other address the domain, else None.

    What is given is ASCII without space, and fits any place but a token's: it may hold @, /, :, ?, [ and ].
    """
    if len(value) <= MAX_VALUE_OCTETS and _HARMLESS.match(value):
        return value
    domain = parse_mailbox(value[-MAX_VALUE_OCTETS:]).domain if "@" in value else None
    return str(domain) if domain else None


def harmless_text(text: str) -> str:
    """A reason on one line of printable ASCII, cut; signs that could mislead become others like them.

    It may stand between double quotes as well as between parentheses.
    """
    readable = text[:MAX_REASON_CHARACTERS]
    if _PLAIN_REASON.match(readable) is None:
        readable = readable.translate(_READABLE)
        if not (readable.isascii() and readable.isprintable()):
            readable = _UNSHOWN.sub("?", readable)
    return readable
