"""The work that a message can cause is bounded, and grows with its size and not with its square.

Work is counted: questions to DNS, octets hashed, removals, calls of functions. `make bench
ARGS=hostile` has times.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mailreeve_milter.arc.verify import MAX_KEYS
from mailreeve_milter.dkim.verify import MAX_SIGNATURES_READ, start_verification
from mailreeve_milter.message_bounds import MessageBounds
from mailreeve_policyd.audit_line import MAX_LINE_OCTETS
from mailreeve_policyd.resolver import ZoneResolver
from mailreeve_policyd.smtp import Stage
from mailreeve_policyd.spf import MAX_LOOKUPS, MAX_NAMES
from mailreeve_policyd.transaction import Session, Transaction
from tests.bench.hostile import (
    FROM,
    PLAIN_BODY,
    Case,
    Kept,
    Line,
    huge_key,
    main,
    make_cases,
    open_line,
    sealed,
    signature,
    spf_tree,
    worst_cases,
)
from tests.milterd.arc_hops import ZONE_TEXT
from tests.milterd.dkim_messages import NOW
from tests.milterd.talking import ALL_STAGES, make_talk

CASES = make_cases()
BOUNDS = MessageBounds()
SMALL, DOUBLE = 300, 600
MAX_GROWTH = 2.6
"""Of the calls for twice as much evil: what grows with the square would make four times as many."""

ENVELOPE_QUESTIONS = 4
"""SPF, DMARC at two places, a key: what any message may ask."""


def calls_of(work: Callable[[], object]) -> int:
    """How many calls of functions, Python's and C's, some work takes."""
    count = 0

    def profile(_frame: object, event: str, _argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(profile)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count


def calls_for(folder: Path, case: Case) -> int:
    """Of its second message: what is remembered of the first is not made again."""
    line, octets = open_line(folder, case), case.octets
    line.send(octets)
    return calls_of(lambda: line.send(octets))


@pytest.mark.parametrize("name", CASES)
def test_twice_the_evil_is_at_most_about_twice_the_work(name: str, tmp_path: Path) -> None:
    """For every kind of message that grows without end; where a bound cuts it off, it is no more at all."""
    small = calls_for(tmp_path, CASES[name](SMALL))
    double = calls_for(tmp_path, CASES[name](DOUBLE))

    assert double <= small * MAX_GROWTH


def test_signatures_without_number_are_so_many_verifications(tmp_path: Path) -> None:
    """max_signatures of them, 8 here, each one key; 64 are read; one body hash, since all want the same."""
    body = PLAIN_BODY * 60
    fields = [*(signature(number, body, selector=f"s{number}") for number in range(600)), FROM]
    resolver = ZoneResolver(huge_key())
    verification = start_verification(fields, None, 8)
    verification.update(body)
    outcomes = verification.finish(resolver, NOW)

    assert len(outcomes) == 8 + 1
    assert resolver.count() == 8 < MAX_SIGNATURES_READ
    assert len(verification.bodies._hashes) == 1


def test_each_length_of_a_body_is_hashed_once() -> None:
    """l= lets a signature choose what of the body it hashes: no more digests than signatures, one form."""
    body = PLAIN_BODY * 60
    fields = [*(signature(number, body, length=f" l={number + 1};") for number in range(600)), FROM]
    verification = start_verification(fields, None, 8)
    verification.update(body)

    assert len(verification.bodies._hashes) == 8
    assert len(verification.bodies._canonicalizers) == 1


def test_the_deepest_chain_asks_so_many_keys(tmp_path: Path) -> None:
    """Fifty sets that are all valid: the seals of one sealer have one key."""
    chain = sealed(50)
    line = open_line(tmp_path, Case("chain", chain.fields, chain.body, ZONE_TEXT))
    line.send(Case("chain", chain.fields, chain.body).octets)

    assert asked(line) <= ENVELOPE_QUESTIONS + MAX_KEYS


def test_the_widest_spf_tree_asks_as_many_names_as_the_rfc_lets_it(tmp_path: Path) -> None:
    """Ten terms, ten names each."""
    case = Case("spf", [FROM], sender="bob@tree.example.net", zone=spf_tree())
    line = open_line(tmp_path, case)
    line.send(case.octets)

    assert asked(line) <= ENVELOPE_QUESTIONS + MAX_LOOKUPS * (1 + MAX_NAMES)


def test_forged_results_are_removed_one_by_one_or_the_message_is_refused(tmp_path: Path) -> None:
    """Up to so many removals as the settings say; beyond, none and a refusal. Fewer are read."""
    few, many = (CASES["forged results"](count) for count in (BOUNDS.removals, BOUNDS.removals + 1))
    line = open_line(tmp_path, few)
    told = line.send(few.octets)
    refused = line.send(many.octets)

    assert told.count(b"m\0\0") == BOUNDS.removals > BOUNDS.results_read
    assert b"554 5.6.0" in refused
    assert b"m\0\0" not in refused


@pytest.mark.parametrize("case", worst_cases(), ids=lambda case: case.name)
def test_the_worst_message_has_a_verdict_and_a_line_within_bounds(case: Case, tmp_path: Path) -> None:
    """In its full amount: an answer, one bounded line in the record, and results on top where it goes on."""
    line = open_line(tmp_path, case)
    told = line.send(case.octets)
    sink = line.talk.surroundings.audit._sink
    assert isinstance(sink, Kept)

    assert 0 < len(sink.line) <= MAX_LINE_OCTETS
    assert b"554 5.6.0" in told or b"Authentication-Results\0 mx.example.org;" in told


def test_fields_of_rules_are_as_many_as_their_texts_differ(tmp_path: Path) -> None:
    """A rule at rcpt that adds a field does it once a message, however many recipients there are."""
    line = line_with(tmp_path, 'at rcpt { a: add-header "X-Seen: yes" }')
    told = line.send(Case("recipients", recipients=20).octets)

    assert told.count(b"X-Seen") == 1


def test_fields_of_rules_are_bounded(tmp_path: Path) -> None:
    """Also where each recipient makes another one: a client chooses how many recipients there are."""
    line = line_with(tmp_path, 'at rcpt { a: add-header "X-For: {recipient}" }')
    told = line.send(Case("recipients", recipients=BOUNDS.added_fields + 20).octets)

    assert told.count(b"X-For") == BOUNDS.added_fields


def line_with(folder: Path, rules: str) -> Line:
    """A line whose milter decides at every stage."""
    return Line(make_talk(folder, rules, ALL_STAGES))


def test_names_of_fields_cannot_be_chosen_to_collide() -> None:
    """Two processes hash a name differently, unless somebody turned that off: who floods cannot know how."""
    program = "print(hash(b'x-field'))"
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONHASHSEED"}
    hashes = {
        subprocess.run([sys.executable, "-c", program], env=clean, capture_output=True, check=True).stdout
        for _ in range(2)
    }

    assert len(hashes) == 2


def asked(line: Line) -> int:
    """How many questions its messages asked."""
    resolver = line.talk.surroundings.examiner.resolver(Transaction(Stage.END_OF_MESSAGE, Session()))
    assert isinstance(resolver, ZoneResolver)
    return resolver.count()


def test_the_bench_prints_a_row_for_what_it_measures(capsys: pytest.CaptureFixture[str]) -> None:
    """`make bench ARGS="hostile recipients"`, too short to mean anything."""
    assert main(["recipients", "--seconds", "0"]) == 0
    printed = capsys.readouterr().out
    assert "plain: 4 KB" in printed
    assert "recipients" in printed
