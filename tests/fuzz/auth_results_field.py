"""Any results make a field of printable ASCII that claims to be ours, with as many results, whoever reads."""

import re

from mailreeve_milter.authclaim import claims
from mailreeve_milter.authfield import MAX_RESULTS, format_field
from mailreeve_milter.message import HeaderField
from mailreeve_policyd.authres import MethodResult
from tests.fuzz.pieces import lines, text

OURS = "mx.example.org"

WORDS = (
    b"spf=pass",
    b"; dkim=pass header.d=example.org",
    b'"',
    b"\\",
    b"(",
    b")",
    b"\r\n\t",
    b"=?utf-8?",
    b"@",
)

_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"')


def check(data: bytes) -> None:
    """See the module. Lines are a reason, then values of properties."""
    reason, *values = map(text, lines(data))
    results = [
        MethodResult("dkim", "fail", {"header.d": value, "header.i": value}, reason) for value in values
    ]
    check_field(format_field(OURS, results), len(results))


def check_field(field: HeaderField, results: int | None = None) -> None:
    """A field of ours, with as many results as were given."""
    value = field.value.decode("ascii")
    assert value.replace("\r\n\t", "").isprintable()
    assert claims(field.value, OURS)
    bare = _QUOTED.sub("", value)
    assert '"' not in bare
    assert not set("()") & set(bare)
    if results is not None:
        assert bare.count(";") == max(1, min(results, MAX_RESULTS))
        assert len(re.findall(r"\b(?:dkim)=", bare)) == min(results, MAX_RESULTS)
