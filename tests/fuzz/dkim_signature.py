"""Any DKIM-Signature is a signature or a ProtocolError; verifying it never raises and never passes.

What is shown of it can stand in Authentication-Results. Emptying its b= twice is emptying it once.
"""

from contextlib import suppress

from mailreeve_milter.authfield import format_field
from mailreeve_milter.dkim.signature import (
    FIELD_NAME,
    DkimSignature,
    format_properties,
    parse_signature,
    without_signature_value,
)
from mailreeve_milter.dkim.taglist import parse_tag_list
from mailreeve_milter.dkim.verify import start_verification
from mailreeve_milter.message import HeaderField
from mailreeve_policyd.authres import MethodResult
from mailreeve_policyd.errors import ProtocolError
from mailreeve_policyd.resolver import ZoneResolver
from mailreeve_policyd.smtp import is_under, parse_domain
from tests.fuzz.auth_results_field import check_field
from tests.fuzz.times import NOW

WORDS = (
    b"v=1;",
    b"a=rsa-sha256;",
    b"a=ed25519-sha256;",
    b"c=relaxed/simple;",
    b"d=example.org;",
    b"s=s1;",
    b"h=from:to;",
    b"i=@mail.example.org;",
    b"bh=",
    b"b=",
    b"l=10;",
    b"t=1795435140;",
    b"x=1795435141;",
    b"q=dns/txt;",
    b"z=From:bob",
    b"\r\n\t",
    b"=2C",
)

_KEYS = ZoneResolver(
    's1._domainkey.example.org. TXT "v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="'
)
_AUTHOR = parse_domain("example.org")
_FROM = HeaderField(b"From", b" bob@example.org")


def check(data: bytes) -> None:
    """See the module."""
    emptied = without_signature_value(data)
    assert without_signature_value(emptied) == emptied
    with suppress(ProtocolError):
        tags = parse_tag_list(data)
        check_field(
            format_field("mx.example.org", [MethodResult("dkim", "fail", format_properties(tags, 8))])
        )
        _check_signature(parse_signature(tags))
    field = HeaderField(FIELD_NAME, data)
    verification = start_verification([field, _FROM], _AUTHOR, 8)
    verification.update(b"hello\r\n")
    [outcome] = verification.finish(_KEYS, NOW)
    assert outcome.result.result in {"fail", "permerror", "policy", "neutral", "temperror"}


def _check_signature(signature: DkimSignature) -> None:
    assert is_under(signature.identity_domain, signature.domain)
    assert b"from" in signature.signed_names
    assert signature.signature
