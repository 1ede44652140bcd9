"""SPF: the whole openspf suite for RFC 7208, and what it does not ask."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from mailreeve_policyd import spf
from mailreeve_policyd.resolver import ZoneResolver
from mailreeve_policyd.smtp import Mailbox, parse_domain, parse_mailbox, parse_path
from mailreeve_policyd.transaction import Envelope, Session, parse_address

SUITE = Path(__file__).parent.parent / "vectors" / "spf" / "rfc7208-tests.yml"
DEFAULT_EXPLANATION = "DEFAULT"
"""How the suite writes that a domain explains nothing."""


@dataclass(frozen=True, slots=True)
class Case:
    """One test of the suite with the zone of its scenario."""

    name: str
    resolver: ZoneResolver
    test: dict[str, Any]


def read_suite() -> Iterator[Case]:
    for scenario in yaml.safe_load_all(SUITE.read_text("utf-8")):
        for name, test in scenario["tests"].items():
            yield Case(name, read_zone(scenario["zonedata"]), test)


def read_zone(zonedata: dict[str, list[Any]]) -> ZoneResolver:
    """The suite's zone: SPF stands for TXT where no TXT is given, TIMEOUT for every type not listed."""
    zone: dict[str, dict[str, list[str | bytes]]] = {}
    failing = []
    for name, entries in zonedata.items():
        records = zone.setdefault(name, {})
        for entry in entries:
            if entry != "TIMEOUT":
                add_record(records, *next(iter(entry.items())))
        spf_records = records.pop("SPF", [])
        records.setdefault("TXT", spf_records)
        records["TXT"] = [record for record in records["TXT"] if record != b"NONE"]
        zone[name] = {rdtype: values for rdtype, values in records.items() if values}
        if "TIMEOUT" in entries:
            failing += [f"{name} {rdtype}" for rdtype in ("A", "AAAA", "MX", "TXT") if rdtype not in zone[name]]
    return ZoneResolver(zone, failing)


def add_record(records: dict[str, list[str | bytes]], rdtype: str, value: Any) -> None:
    strings = [value] if isinstance(value, str) else value
    if rdtype in ("TXT", "SPF"):
        records.setdefault(rdtype, []).append("".join(strings).encode())
    else:
        records.setdefault(rdtype, []).append(" ".join(str(part) for part in strings))


CASES = list(read_suite())


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_the_openspf_suite_passes(case: Case) -> None:
    """Every case of the openspf suite gives the result that it prefers, and its explanation."""
    test = case.test
    address = parse_address(test["host"])
    assert address is not None
    session = Session(client_address=address, helo_name=test["helo"])
    envelope = Envelope(parse_path(test["mailfrom"]))
    accepted = test["result"] if isinstance(test["result"], list) else [test["result"]]

    assert spf.evaluate_mail_from(session, envelope, case.resolver).result in accepted
    if "explanation" in test:
        sender = envelope.reverse_path or parse_mailbox(f"postmaster@{test['helo']}")
        assert sender.domain is not None
        outcome = spf.check_host_explained(address, sender.domain, sender, test["helo"], case.resolver)
        assert (outcome.explanation or DEFAULT_EXPLANATION) == test["explanation"]
