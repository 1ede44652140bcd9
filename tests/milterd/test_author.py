"""The author of a message: exactly one domain, or none and the reason."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from mailreeve_milter.author import MAX_FROM_OCTETS, MAX_MAILBOXES, extract_author
from mailreeve_milter.message import HeaderField
from mailreeve_policyd.smtp import Mailbox, parse_domain

VECTORS = Path(__file__).parent.parent / "vectors" / "author" / "author.yml"


@dataclass(frozen=True, slots=True)
class Case:
    name: str
    value: bytes
    domain: str | None
    problem: str | None


def read_case(entry: dict[str, Any]) -> Case:
    value = bytes.fromhex(entry["octets"]) if "octets" in entry else entry["from"].encode()
    return Case(entry["name"], value, entry.get("domain"), entry.get("problem"))


WORDS = """
Bob bob example.org example .net <bob@example.org> "Bob, B." < > @ . .. , : ; = ? - + _ '
"""
PIECES = st.sampled_from([*WORDS.split(), " ", "\t"])


@settings(max_examples=300, deadline=None)
@given(st.lists(PIECES, max_size=9).map("".join))
def test_what_nearly_all_write_reads_as_the_grammar_has_it(value: str) -> None:
    """The short way for plain values gives what the whole grammar gives, which a comment takes."""
    octets = value.encode()
    short = extract_author([HeaderField(b"From", octets)])
    whole = extract_author([HeaderField(b"From", octets + b" (x)")])

    assert short.mailbox == whole.mailbox


@pytest.mark.parametrize(
    "value",
    [
        b" Bob Example <bob@example.org>",
        b' "Example, Bob" <bob@example.org>',
        b"<bob@example.org>",
        b" =?UTF-8?Q?J=C3=B6rg?= <bob@example.org>",
        b" John Q. Public <bob@example.org>\t",
    ],
)
def test_plain_values_have_their_author(value: bytes) -> None:
    """As most programs write them."""
    for octets in (value, value + b" (x)"):
        assert str(extract_author([HeaderField(b"From", octets)]).mailbox) == "bob@example.org"


CASES = [read_case(entry) for entry in yaml.safe_load(VECTORS.read_text("utf-8"))]


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_a_from_value_has_one_author_domain_or_none(case: Case) -> None:
    """Each vector gives its domain, or no author and a reason."""
    author = extract_author([HeaderField(b"From", case.value)])

    assert author.domain == case.domain
    assert (author.mailbox is None) == (case.domain is None)
    if case.domain is None:
        assert case.problem is not None
        assert case.problem in (author.problem or "")


def test_the_first_mailbox_is_the_author() -> None:
    """Its local part keeps its case, comments and space are gone."""
    author = extract_author([HeaderField(b"FROM", b" Bob <(x) Bob @ Example.NET > (y), eve@example.net")])

    assert author.mailbox == Mailbox("Bob@Example.NET", "Bob", parse_domain("example.net"))


def test_without_from_there_is_no_author() -> None:
    """Sender and other fields do not stand in for From."""
    author = extract_author([HeaderField(b"Sender", b" bob@example.net")])

    assert (author.mailbox, author.problem) == (None, "no From field")


@pytest.mark.parametrize("name", [b"From", b"FROM", b"from ", b"From\t", b"From\x00", b"\xc2\xa0From"])
def test_a_second_from_of_any_spelling_leaves_no_author(name: bytes) -> None:
    """What some reader may take for From counts, also with the same address."""
    fields = [HeaderField(b"From", b" bob@example.net"), HeaderField(name, b" bob@example.net")]

    assert extract_author(fields).problem == "2 From fields"


def test_other_names_are_not_from() -> None:
    """Resent-From and From: with letters around it are other fields."""
    others = [
        HeaderField(name, b" eve@bank.example") for name in (b"Resent-From", b"X-From", b"From-", b"Fro")
    ]

    assert extract_author([*others, HeaderField(b"From", b" bob@example.net")]).domain == "example.net"


def test_the_size_is_bounded() -> None:
    """A From value too long, of too many mailboxes, or of comments too deep has no author."""
    long = b" bob@example.net (" + b"x" * MAX_FROM_OCTETS + b")"
    many = b",".join([b"bob@example.net"] * (MAX_MAILBOXES + 1))
    deep = b"(" * 50 + b")" * 50 + b"bob@example.net"

    problems = [extract_author([HeaderField(b"From", value)]).problem for value in (long, many, deep)]
    assert problems == ["From: too long", "From: too many mailboxes", "From: comments too deep"]


PIECES = st.sampled_from(
    [
        *'"\\()<>@,;:.[ \t\x00',
        "\r\n ",
        "\xfc",
        "\uff20",
        "=?utf-8?q?",
        "?=",
        "bob",
        "example.net",
        "bank.example",
    ]
)


@settings(max_examples=400, deadline=None)
@given(value=st.lists(PIECES, max_size=16).map("".join))
def test_any_arrangement_of_signs_gives_a_value(value: str) -> None:
    """An author with a domain, or a reason; never an exception, never both."""
    author = extract_author([HeaderField(b"From", value.encode())])

    assert (author.domain is None) == (author.problem is not None)


@settings(max_examples=200, deadline=None)
@given(name=st.binary(max_size=8), value=st.binary(max_size=80))
def test_any_octets_give_a_value(name: bytes, value: bytes) -> None:
    """The same for octets of any kind, in the field's name as well."""
    author = extract_author([HeaderField(b"From", value), HeaderField(name, value)])

    assert (author.domain is None) == (author.problem is not None)
