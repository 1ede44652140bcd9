"""Any octets of a set or table file are entries of each type of fact, or a ConfigError with the line."""

from collections.abc import Callable, Mapping
from pathlib import Path

from mailreeve_policyd.errors import ConfigError
from mailreeve_policyd.facts import Door
from mailreeve_policyd.rules import parse_ruleset
from mailreeve_policyd.rules.source import decode_text
from mailreeve_policyd.smtp import Stage

WORDS = (
    b"bob@example.org,500 recipients/hour\n",
    b"192.0.2.0/24\n",
    b"2001:db8::/32,1 messages/day\n",
    b"example.org\n",
    b'"one, two",3 distinct client_address/hour\n',
    b"# ",
    b'""',
    b"12345\n",
    b",",
)

_DOORS: Mapping[Stage, Door] = {stage: Door.POLICY for stage in Stage if stage is not Stage.END_OF_MESSAGE}
_FACTS = ("client_address", "sender", "sender_domain", "sasl_username", "client_port")
_RULES = (
    *(f'set s = file "s"\nat rcpt {{ a: reject if {fact} in s }}\n' for fact in _FACTS),
    *(
        f'table t = file "s"\nat rcpt {{ a: limit t[{fact}] or 9 messages/day per {fact} }}\n'
        for fact in _FACTS[:-1]
    ),
    'table t = file "s"\nat rcpt { a: reject "5.7.1 {t[sender]}" if t[sender] is "x" }\n',
)


def check(data: bytes) -> None:
    """See the module."""
    for rules in _RULES:
        told = ""
        try:
            parse_ruleset(rules, "rules", _DOORS, folder=Path("/f"), read_file=_reader(data))
        except ConfigError as error:
            told = str(error)
        assert not told or told.startswith(("/f/s:", "rules:"))


def _reader(data: bytes) -> Callable[[Path, str, int], str]:
    return lambda _path, shown, limit: decode_text(data, shown, limit)
