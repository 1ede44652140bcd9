"""DMARC (RFC 9989): policy discovery, the tree walk, alignment."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from mailreeve_milter.dmarc import MAX_IDENTIFIERS, Identifier, Method, evaluate
from mailreeve_policyd.resolver import ZoneResolver
from mailreeve_policyd.smtp import parse_domain

VECTORS = Path(__file__).parent.parent / "vectors" / "dmarc" / "dmarc.yml"


@dataclass(frozen=True, slots=True)
class Case:
    zone: str
    failing: list[str]
    test: dict[str, Any]


CASES = [
    Case(scenario["zone"], scenario.get("failing", []), test)
    for scenario in yaml.safe_load_all(VECTORS.read_text("utf-8"))
    for test in scenario["cases"]
]


def identifiers_of(test: dict[str, Any]) -> list[Identifier]:
    found: list[Identifier] = []
    for method in ("spf", "dkim"):
        for key, passed in ((method, True), (f"{method}_temperror", False)):
            named = test.get(key, [])
            domains = [named] if isinstance(named, str) else named
            found += [Identifier(method, parse_domain(domain), passed) for domain in domains]
    return found


@pytest.mark.parametrize("case", CASES, ids=[case.test["name"] for case in CASES])
def test_a_message_is_judged_as_the_rfc_says(case: Case) -> None:
    """Each vector gives its result word, its effective policy and, where told, exactly these questions."""
    resolver = ZoneResolver(case.zone, case.failing)
    method = Method(case.test.get("method", "tree-walk"))
    outcome = evaluate(parse_domain(case.test["author"]), identifiers_of(case.test), resolver, method)

    assert outcome.result.result == case.test["result"]
    assert (outcome.disposition.value if outcome.disposition else None) == case.test.get("policy")
    if "reason" in case.test:
        assert outcome.result.reason == case.test["reason"]
    if "questions" in case.test:
        assert [name for name, rdtype in resolver.queries if rdtype == "TXT"] == case.test["questions"]


RECORD = '_dmarc.example.com. TXT "v=DMARC1; p=reject"'
EXAMPLE = parse_domain("example.com")


def test_the_result_is_written_with_author_and_policy() -> None:
    """header.from and policy.dmarc, and a reason that names what was proved."""
    passed = Identifier("dkim", parse_domain("example.net"))
    result = evaluate(EXAMPLE, [passed], ZoneResolver(RECORD)).result

    assert result.method == "dmarc"
    assert result.properties == {"header.from": "example.com", "policy.dmarc": "reject"}
    assert result.reason == "not aligned: example.net"


def test_without_a_record_no_policy_is_written() -> None:
    """A result of none has header.from alone."""
    result = evaluate(EXAMPLE, [], ZoneResolver()).result

    assert result.properties == {"header.from": "example.com"}
    assert result.reason == "no DMARC record for example.com"


def test_the_policy_says_where_its_record_was_found() -> None:
    """Aggregate reports are of the domain where the record stands (RFC 9990 section 3.1.1.5)."""
    policy = evaluate(parse_domain("a.b.example.com"), [], ZoneResolver(RECORD)).policy

    assert policy is not None
    assert policy.domain == "example.com"


def test_the_number_of_walks_is_bounded() -> None:
    """A message with a thousand signatures costs a dozen walks, those that passed first."""
    left_open = [Identifier("dkim", parse_domain(f"n{n}.example.com"), passed=False) for n in range(1000)]
    passed = Identifier("dkim", parse_domain("mail.example.com"))
    resolver = ZoneResolver(RECORD)

    assert evaluate(EXAMPLE, left_open, resolver).result.result == "temperror"
    assert resolver.count(rdtype="TXT") == 2 + MAX_IDENTIFIERS
    assert evaluate(EXAMPLE, [*left_open, passed], resolver).result.result == "pass"


LABELS = st.lists(st.sampled_from(["a", "b", "com", "example"]), min_size=1, max_size=12)
TEXTS = st.sampled_from(
    [
        "v=DMARC1",
        "v=DMARC1; p=reject",
        "v=DMARC1; p=none; psd=y",
        "v=DMARC1; p=none; psd=n",
        "v=DMARC1; p=x",
        "x",
    ]
)


@settings(max_examples=150, deadline=None)
@given(
    author=LABELS,
    signer=LABELS,
    records=st.lists(st.tuples(LABELS, TEXTS), max_size=6),
    failing=st.lists(LABELS, max_size=2),
)
def test_any_tree_of_records_gives_a_word_within_sixteen_questions(
    author: list[str], signer: list[str], records: list[tuple[list[str], str]], failing: list[list[str]]
) -> None:
    """Two domains cost two walks of eight at most, and never an exception."""
    zone: dict[str, dict[str, list[str | bytes]]] = {}
    for labels, text in records:
        zone.setdefault("_dmarc." + ".".join(labels), {}).setdefault("TXT", []).append(text)
    resolver = ZoneResolver(zone, ["_dmarc." + ".".join(labels) for labels in failing])
    identifier = Identifier("dkim", parse_domain(".".join(signer)))
    outcome = evaluate(parse_domain(".".join(author)), [identifier], resolver)

    assert outcome.result.result in ("pass", "fail", "none", "temperror")
    assert resolver.count(rdtype="TXT") <= 16
    if signer == author:
        assert outcome.result.result != "fail"


def test_no_crowd_of_strangers_hides_an_aligned_signature() -> None:
    """The signature of the author's subdomain counts though it stands behind more than are compared."""
    strangers = [Identifier("dkim", parse_domain(f"s{n}.example.net")) for n in range(MAX_IDENTIFIERS)]
    aligned = Identifier("dkim", parse_domain("mail.example.com"))
    outcome = evaluate(parse_domain("example.com"), [*strangers, aligned], ZoneResolver(RECORD))

    assert outcome.result.result == "pass"
