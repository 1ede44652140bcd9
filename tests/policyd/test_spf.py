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
from mailreeve_policyd.resolver_dns import BudgetResolver
from mailreeve_policyd.smtp import Mailbox, parse_domain, parse_mailbox, parse_path
from mailreeve_policyd.transaction import Envelope, Session, parse_address

VECTORS = Path(__file__).parent.parent / "vectors" / "spf"
DEFAULT_EXPLANATION = "DEFAULT"
"""How the suite writes that a domain explains nothing."""


@dataclass(frozen=True, slots=True)
class Case:
    """One test of the suite with the zone of its scenario."""

    name: str
    resolver: ZoneResolver
    test: dict[str, Any]


def read_suite(file: str) -> Iterator[Case]:
    for scenario in yaml.safe_load_all((VECTORS / file).read_text("utf-8")):
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
            failing += [
                f"{name} {rdtype}" for rdtype in ("A", "AAAA", "MX", "PTR", "TXT") if rdtype not in zone[name]
            ]
    return ZoneResolver(zone, failing)


def add_record(records: dict[str, list[str | bytes]], rdtype: str, value: Any) -> None:
    strings = [value] if isinstance(value, str) else value
    if rdtype in ("TXT", "SPF"):
        records.setdefault(rdtype, []).append("".join(strings).encode())
    else:
        records.setdefault(rdtype, []).append(" ".join(str(part) for part in strings))


OPENSPF = list(read_suite("rfc7208-tests.yml"))
OURS = list(read_suite("mailreeve-tests.yml"))


@pytest.mark.parametrize("case", [*OPENSPF, *OURS], ids=[case.name for case in [*OPENSPF, *OURS]])
def test_a_suite_case_gives_the_preferred_result(case: Case) -> None:
    """Every case of the openspf suite and of ours gives the result that it prefers, and its explanation."""
    test = case.test
    address = parse_address(test["host"])
    assert address is not None
    session = Session(client_address=address, helo_name=test["helo"])
    envelope = Envelope(parse_path(test["mailfrom"]))
    preferred = test["result"][0] if isinstance(test["result"], list) else test["result"]

    assert spf.evaluate_mail_from(session, envelope, case.resolver).result == preferred
    if "explanation" in test:
        sender = envelope.reverse_path or parse_mailbox(f"postmaster@{test['helo']}")
        assert sender.domain is not None
        outcome = spf.check_host_explained(address, sender.domain, sender, test["helo"], case.resolver)
        assert (outcome.explanation or DEFAULT_EXPLANATION) == test["explanation"]


def test_the_openspf_suite_is_whole() -> None:
    """The suite has 203 cases; none was lost on the way."""
    assert len(OPENSPF) == 203


ZONE = """
    example.org. TXT "v=spf1 ip4:192.0.2.10 -all exp=why.example.org"
    why.example.org. TXT "%{i} is not one of us; dkim=pass"
    mail.example.org. TXT "v=spf1 a -all"
    mail.example.org. A 192.0.2.10
"""
SESSION = Session(client_address=ip_address("192.0.2.10"), helo_name="mail.example.org")
STRANGER = Session(client_address=ip_address("198.51.100.1"), helo_name="stranger.example.net")
FROM_BOB = Envelope(parse_mailbox("bob@example.org"))


def test_mail_from_is_written_with_its_address() -> None:
    """A pass names the reverse-path in smtp.mailfrom and says who permits whom."""
    result = spf.evaluate_mail_from(SESSION, FROM_BOB, ZoneResolver(ZONE))

    assert (result.method, result.result) == ("spf", "pass")
    assert result.properties == {"smtp.mailfrom": "bob@example.org"}
    assert result.reason == "example.org permits 192.0.2.10 (ip4:192.0.2.10)"


def test_the_null_sender_is_postmaster_at_helo() -> None:
    """For <> the MAIL FROM identity is postmaster@HELO (section 2.4)."""
    result = spf.evaluate_mail_from(SESSION, Envelope(None), ZoneResolver(ZONE))

    assert result.result == "pass"
    assert result.properties == {"smtp.mailfrom": "postmaster@mail.example.org"}


def test_helo_is_its_own_identity() -> None:
    """The HELO name is checked by itself and written as smtp.helo."""
    result = spf.evaluate_helo(SESSION, ZoneResolver(ZONE))

    assert (result.result, result.properties) == ("pass", {"smtp.helo": "mail.example.org"})


@pytest.mark.parametrize(
    "helo_name",
    ["[192.0.2.10]", "localhost", "", None, "a..b", "x" * 64 + ".example", "b\udcff.example", "-"],
)
def test_what_is_no_domain_is_none(helo_name: str | None) -> None:
    """A literal, a single label or a malformed name is none, and nothing is asked (section 4.3)."""
    resolver = ZoneResolver(ZONE)
    session = Session(client_address=ip_address("192.0.2.10"), helo_name=helo_name)

    assert spf.evaluate_helo(session, resolver).result == "none"
    assert spf.evaluate_mail_from(session, Envelope(None), resolver).result == "none"
    assert resolver.count() == 0


def test_a_client_without_address_is_none() -> None:
    """Mail by the sendmail command has no client to check."""
    assert spf.evaluate_mail_from(Session(), FROM_BOB, ZoneResolver(ZONE)).result == "none"


def test_dns_trouble_is_temperror() -> None:
    """What DNS cannot say now is temperror, with a reason, and nothing is raised."""
    result = spf.evaluate_mail_from(SESSION, FROM_BOB, ZoneResolver(ZONE, failing=["example.org"]))

    assert result.result == "temperror"
    assert result.reason is not None
    assert result.reason.startswith("DNS gave no answer for example.org")


def test_a_spent_budget_is_temperror() -> None:
    """A check whose time is over is temperror."""
    resolver = BudgetResolver(ZoneResolver(ZONE), seconds=0)

    assert spf.evaluate_mail_from(SESSION, FROM_BOB, resolver).result == "temperror"


def test_the_explanation_is_asked_only_for_a_fail_that_wants_it() -> None:
    """exp= is looked up once the result is fail and somebody wants it, never otherwise (section 6.2)."""
    resolver = ZoneResolver(ZONE)

    assert spf.evaluate_mail_from(STRANGER, FROM_BOB, resolver).result == "fail"
    assert resolver.count("why.example.org") == 0
    assert check_explained(resolver, STRANGER).explanation == "198.51.100.1 is not one of us; dkim=pass"
    assert resolver.count("why.example.org") == 1
    assert check_explained(resolver, SESSION).explanation is None
    assert resolver.count("why.example.org") == 1


def test_an_explanation_does_not_reach_the_result() -> None:
    """What a stranger explains is no part of the reason that goes into header fields."""
    result = spf.evaluate_mail_from(STRANGER, FROM_BOB, ZoneResolver(ZONE))

    assert result.reason == "example.org does not permit 198.51.100.1 (-all)"


def test_checks_in_threads_do_not_meet() -> None:
    """Checks with different resolvers at the same time have each their own answers."""
    results: dict[int, set[str]] = {}

    def check(number: int) -> None:
        zone = f'example.org. TXT "v=spf1 ip4:192.0.2.{number} -all"'
        resolver = ZoneResolver(zone)
        client = Session(client_address=ip_address("192.0.2.10"), helo_name="mail.example.org")
        results[number] = {spf.evaluate_mail_from(client, FROM_BOB, resolver).result for _ in range(50)}

    threads = [threading.Thread(target=check, args=(number,)) for number in (9, 10, 11, 12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert results == {9: {"fail"}, 10: {"pass"}, 11: {"fail"}, 12: {"fail"}}


WORDS = {"pass", "fail", "softfail", "neutral", "none", "temperror", "permerror"}
TERMS = """
a mx ptr all -all ~all ?all include: exists: ip4: ip6: redirect= exp= / // /24 //64 : = . ( ;
%{i} %{ir} %{l1r+-} %{p} %{h} %{d0} %{z} %{L} %{D} % %% %_ %-
192.0.2.1 ::1 ::ffff:1.2.3.4 example.org a.example.org
"""
PIECES = st.sampled_from([*TERMS.split(), *' \x00\t\x80"'])


@settings(max_examples=150, deadline=None)
@given(
    record=st.lists(PIECES, max_size=14).map("".join),
    local_part=st.text(max_size=12),
    helo=st.text(max_size=12),
)
def test_any_record_gives_a_result_word(record: str, local_part: str, helo: str) -> None:
    """Whatever a record, a sender or a HELO name holds, the outcome is a word, never an exception."""
    texts = [b"v=spf1 " + record.encode("latin-1")]
    resolver = ZoneResolver({"example.org": {"TXT": texts, "A": ["192.0.2.1"], "MX": ["1 example.org"]}})
    session = Session(client_address=ip_address("2001:db8::1"), helo_name=helo)
    envelope = Envelope(Mailbox(f"{local_part}@example.org", local_part, parse_domain("example.org")))

    result = spf.evaluate_mail_from(session, envelope, resolver)
    assert result.result in WORDS
    assert "could not be evaluated" not in (result.reason or "")


@settings(max_examples=100, deadline=None)
@given(record=st.binary(max_size=60))
def test_any_octets_of_a_record_give_a_result_word(record: bytes) -> None:
    """The same for octets of any kind."""
    resolver = ZoneResolver({"example.org": {"TXT": [b"v=spf1 " + record]}})

    result = spf.evaluate_mail_from(SESSION, FROM_BOB, resolver)
    assert result.result in WORDS
    assert "could not be evaluated" not in (result.reason or "")


def check_explained(resolver: ZoneResolver, session: Session) -> spf.SpfOutcome:
    assert session.client_address is not None
    assert FROM_BOB.reverse_path is not None
    domain = parse_domain("example.org")
    return spf.check_host_explained(
        session.client_address, domain, FROM_BOB.reverse_path, session.helo_name or "", resolver
    )
