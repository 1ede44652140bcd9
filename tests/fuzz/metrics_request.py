"""Any octets are an HTTP request for a path, or refused with a status that has its words."""

from mailreeve_policyd.metrics_http import REASONS, _parse_head, _RefusedError

WORDS = (
    b"GET ",
    b"HEAD ",
    b"POST ",
    b"/metrics",
    b"http://127.0.0.1/",
    b"?x=1",
    b" HTTP/1.1\r\n",
    b"\r\n\r\n",
    b"%2e",
)


def check(data: bytes) -> None:
    """See the module."""
    try:
        method, path = _parse_head(data)
    except _RefusedError as refused:
        status = refused.status
    else:
        assert method in ("GET", "HEAD")
        assert isinstance(path, str)
        return
    assert status in REASONS
