"""Any octets are a DMARC record or none; a record has a policy, and URIs that can be written on one line."""

from mailreeve_milter.dmarc_record import Disposition, parse_record

WORDS = (
    b"v=DMARC1",
    b";",
    b"p=reject",
    b"sp=quarantine",
    b"np=none",
    b"psd=y",
    b"t=y",
    b"adkim=s",
    b"aspf=r",
    b"rua=mailto:a@example.org!10m,",
    b"ruf=https://example.org/",
    b"fo=1:d:s",
    b"pct=50",
)


def check(data: bytes) -> None:
    """See the module."""
    record = parse_record(data)
    if record is None:
        return
    assert data[:1] in (b"v", b"V")
    for disposition in (
        record.disposition_itself(),
        record.disposition_below(exists=True),
        record.disposition_below(exists=False),
    ):
        assert isinstance(disposition, Disposition)
    for uri in (*record.rua, *record.ruf):
        assert uri.isascii()
        assert uri.isprintable()
        assert " " not in uri
