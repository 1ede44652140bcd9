"""Any octets are a ruleset or a ConfigError that names the file; no file is opened."""

from pathlib import Path
from typing import NoReturn

from mailreeve_policyd.errors import ConfigError
from mailreeve_policyd.facts import Door
from mailreeve_policyd.rules import Ruleset, parse_ruleset
from mailreeve_policyd.rules.source import MAX_RULES_BYTES, decode_text
from mailreeve_policyd.smtp import Stage

WORDS = (
    b"at rcpt {",
    b"at end-of-message {",
    b"}",
    b": limit ",
    b" recipients/day",
    b" per ",
    b"sasl_username",
    b"client_address",
    b" if ",
    b" not ",
    b" and ",
    b" or ",
    b" in (",
    b" matches /",
    b' else defer "4.7.1 ',
    b'reject "5.7.1 {sender}"',
    b"set s = ",
    b'table t = file "t.csv"',
    b"expect defer at rcpt with ",
    b" after 3 times",
    b" with other ",
    b"observe",
    b"warn at 80% ",
    b"on-unavailable closed",
    b'text t = en "',
    b"192.0.2.0/24",
    b"distinct ",
    b"# ",
)

_DOORS = {stage: Door.MILTER if stage is Stage.END_OF_MESSAGE else Door.POLICY for stage in Stage}


def check(data: bytes) -> None:
    """See the module."""
    try:
        found = parse_ruleset(
            decode_text(data, "rules", MAX_RULES_BYTES), "rules", _DOORS, read_file=_no_file
        )
    except ConfigError as error:
        told = str(error)
    else:
        assert isinstance(found, Ruleset)
        return
    assert told.startswith("rules:")


def _no_file(_path: Path, shown: str, _limit: int) -> NoReturn:
    raise ConfigError(shown, "", "cannot be read: No such file or directory")
