"""Any fields are an ARC chain or a problem; judging them never raises, never passes, and asks few keys."""

from mailreeve_milter.arc.chain import MAX_SETS, read_chain
from mailreeve_milter.arc.verify import MAX_KEYS, start_chain_verification
from mailreeve_milter.dkim.body_hash import BodyHashes
from mailreeve_milter.message import HeaderField
from mailreeve_policyd.resolver import ZoneResolver
from tests.fuzz.times import NOW

WORDS = (
    b"ARC-Seal: i=1; cv=none; a=rsa-sha256; d=example.org; s=s1; b=AAAA\n",
    b"ARC-Message-Signature: i=1; a=rsa-sha256; d=example.org; s=s1; h=from; bh=",
    b"ARC-Authentication-Results: i=1; mx.example.org; none\n",
    b"cv=pass;",
    b"cv=fail;",
    b"i=2;",
    b"i=50;",
    b"(comment)",
    b"\n ",
)

_ZONE = 's1._domainkey.example.org. TXT "v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="'
_FROM = HeaderField(b"From", b" bob@example.org")


def check(data: bytes) -> None:
    """See the module. Each line is a field; one that begins with a space goes on with the one before."""
    fields = [*_fields(data), _FROM]
    chain = read_chain(fields)
    assert len(chain.sets) in (0, chain.highest)
    assert chain.highest <= MAX_SETS or not chain.sets
    verification = start_chain_verification(fields)
    assert len(verification.body_forms) <= MAX_SETS
    bodies = BodyHashes(verification.body_forms)
    bodies.update(b"hello\r\n")
    bodies.finish()
    resolver = ZoneResolver(_ZONE)
    outcome = verification.finish(bodies, resolver, NOW)
    assert outcome.result.result in {"none", "fail"}
    assert resolver.count() <= MAX_KEYS


def _fields(data: bytes) -> list[HeaderField]:
    parted = (line.partition(b":") for line in data.replace(b"\n ", b"\r \r").split(b"\n"))
    return [HeaderField(name, value.replace(b"\r \r", b"\r\n ")) for name, colon, value in parted if name]
