"""Any octets are settings or a ConfigError that names file and place, and never shows a secret's value."""

from pathlib import Path

from mailreeve_policyd.config import parse_configuration
from mailreeve_policyd.errors import ConfigError

FILE = Path("/etc/mailreeve/mailreeve.toml")

WORDS = (
    b"[milter]\n",
    b"[policyd]\n",
    b"[[signing.keys]]\n",
    b"[limits]\n",
    b"listen = ",
    b'"inet:8891@127.0.0.1"\n',
    b'"unix:/run/mailreeve/milter.sock"\n',
    b'redis_url = "redis://:hunter2@127.0.0.1/0"\n',
    b'networks = ["192.0.2.0/24"]\n',
    b'authserv_id = "mx.example.org"\n',
    b"workers = ",
    b"true",
    b"-1",
    b"1979-05-27",
    b'"""',
)


def check(data: bytes) -> None:
    """See the module."""
    try:
        parse_configuration(data, FILE)
    except ConfigError as error:
        told = str(error)
    else:
        return
    assert told.startswith(str(FILE))
    assert "hunter2" not in told or b'"redis://:hunter2' not in data
