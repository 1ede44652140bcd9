"""Any octets published as SPF give a result of RFC 7208, with at most its lookups; nothing is raised.

The first line is the client's domain's record, others are those of names that it may include.
"""

from ipaddress import ip_address

from mailreeve_policyd.resolver import ZoneResolver
from mailreeve_policyd.smtp import parse_domain, parse_mailbox
from mailreeve_policyd.spf import MAX_LOOKUPS, MAX_NAMES, check_host_explained
from mailreeve_policyd.spf_record import RecordError, is_record, parse_record
from tests.fuzz.pieces import lines

WORDS = (
    b"v=spf1 ",
    b" include:a.example.org",
    b" redirect=b.example.org",
    b" exp=c.example.org",
    b" exists:%{ir}.%{l1r-}._spf.%{d2}",
    b" ip4:192.0.2.0/24",
    b" ip6:2001:db8::/32",
    b" mx/24//64",
    b" ptr",
    b" a:%{h}",
    b" -all",
    b" ?all",
    b"%{c}%{r}%{t}",
)

MAX_QUERIES = 4 + 2 * MAX_LOOKUPS * (1 + 2 * MAX_NAMES)
"""More than ten terms with ten names each of two families can ask."""

_RESULTS = {"none", "neutral", "pass", "fail", "softfail", "temperror", "permerror"}
_NAMES = ("example.org", "a.example.org", "b.example.org", "c.example.org")


def check(data: bytes) -> None:
    """See the module."""
    texts = lines(data)
    for text in texts:
        _check_record(text)
    zone: dict[str, dict[str, list[str | bytes]]] = {
        name: {"TXT": [text], "A": ["192.0.2.1"]} for name, text in zip(_NAMES, texts, strict=False)
    }
    for address in ("192.0.2.7", "2001:db8::7"):
        resolver = ZoneResolver(zone)
        outcome = check_host_explained(
            ip_address(address),
            parse_domain("example.org"),
            parse_mailbox('"o%{d}\n"@example.org'),
            "mail.example.org",
            resolver,
        )
        assert outcome.result in _RESULTS
        assert resolver.count() <= MAX_QUERIES


def _check_record(text: bytes) -> None:
    if not is_record(text):
        return
    try:
        parse_record(text)
    except RecordError:
        return
    assert text.isascii()
