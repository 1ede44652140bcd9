"""Received-SPF: the result for the MAIL FROM identity, as RFC 7208 section 9.1 has it.

Authentication-Results says the same and more; this field is for readers that know no other. Must not know
how the result came about.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from mailreeve_milter.harmless import harmless_text, harmless_value
from mailreeve_milter.message import HeaderField
from mailreeve_policyd.authres import MethodResult
from mailreeve_policyd.transaction import Session

FIELD_NAME = b"Received-SPF"

# dot-atom of RFC 5322 section 3.2.3, without its white space
_DOT_ATOM = re.compile(r"[!#$%&'*+\-/0-9=?A-Z^_`a-z{|}~]+(?:\.[!#$%&'*+\-/0-9=?A-Z^_`a-z{|}~]+)*\Z")


def format_received_spf(receiver: str, session: Session, result: MethodResult) -> HeaderField:
    """The field of one `spf` result with `smtp.mailfrom`; `receiver` is our authserv-id, a host name.

    Folded with CRLF and a tab. Values that could mislead are left out, of an address its domain stays.
    """
    comment = f" ({harmless_text(result.reason)})" if result.reason else ""
    pairs = ";\r\n\t".join(f"{key}={value}" for key, value in _pairs(receiver, session, result))
    return HeaderField(FIELD_NAME, f" {result.result}{comment}\r\n\t{pairs}".encode("ascii"))


def _pairs(receiver: str, session: Session, result: MethodResult) -> Iterator[tuple[str, str]]:
    """The key-value-list; a value is a dot-atom or a quoted-string."""
    address = session.client_address
    values = {
        "client-ip": str(address) if address else "",
        "helo": session.helo_name or "",
        "envelope-from": result.properties.get("smtp.mailfrom", ""),
        "receiver": receiver,
    }
    yield "identity", "mailfrom"
    for key, value in values.items():
        shown = harmless_value(value)
        if shown is not None:
            yield key, shown if _DOT_ATOM.match(shown) else f'"{shown}"'
