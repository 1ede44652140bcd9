"""Our Authentication-Results field, read by eyes that are not ours."""

from __future__ import annotations

import re
from typing import Any

import authres
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailreeve_milter.authfield import MAX_RESULTS, format_field
from mailreeve_policyd.authres import MethodResult
from mailreeve_policyd.smtp import parse_mailbox

OURS = "mx.example.net"


def written(*results: MethodResult) -> str:
    """The value on one line."""
    return re.sub(r"\s+", " ", format_field(OURS, results).value.decode("ascii")).strip()


def read(*results: MethodResult) -> list[Any]:
    """What the authres package reads in the field."""
    text = format_field(OURS, results).raw.decode("ascii").replace("\r\n", "\n")
    header = authres.AuthenticationResultsHeader.parse(text.strip())
    assert header.authserv_id == OURS
    return list(header.results)


def properties_of(result: Any) -> dict[str, str]:
    return {f"{prop.type}.{prop.name}": prop.value for prop in result.properties}


def test_a_field_as_it_is_written() -> None:
    """One method a line, folded with CRLF and a tab; properties in their order."""
    field = format_field(
        OURS,
        [
            MethodResult("spf", "pass", {"smtp.mailfrom": "bob@example.org"}),
            MethodResult(
                "dkim",
                "pass",
                {
                    "header.d": "example.org",
                    "header.s": "s1",
                    "header.a": "rsa-sha256",
                    "header.b": "abc/d+==",
                },
                "good signature",
            ),
            MethodResult("iprev", "fail", {"policy.iprev": "2001:db8::1"}),
            MethodResult("dmarc", "pass", {"header.from": "example.org", "policy.dmarc": "reject"}),
        ],
    )

    assert field.raw == (
        b"Authentication-Results: mx.example.net;\r\n"
        b"\tspf=pass smtp.mailfrom=bob@example.org;\r\n"
        b'\tdkim=pass reason="good signature" header.d=example.org header.s=s1\r\n'
        b'\theader.a=rsa-sha256 header.b="abc/d+==";\r\n'
        b'\tiprev=fail policy.iprev="2001:db8::1";\r\n'
        b"\tdmarc=pass header.from=example.org policy.dmarc=reject\r\n"
    )


def test_without_results_the_field_says_none() -> None:
    """RFC 8601 section 2.2, no-result; readers accept it."""
    assert written() == "mx.example.net; none"
    assert read() == []


def test_an_id_that_is_no_token_is_quoted() -> None:
    """An authserv-id with a job number or spaces is a quoted-string."""
    assert format_field("mx.example.net/42", []).value.startswith(b' "mx.example.net/42";')
    assert format_field('my "mx" \\', []).value.startswith(b' "my \\"mx\\" \\\\";')


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("bob@example.org", "bob@example.org"),
        ("bob+tag@example.org", "bob+tag@example.org"),
        ("@example.org", "@example.org"),
        ("mail.example.org", "mail.example.org"),
        ("[192.0.2.1]", '"[192.0.2.1]"'),
        ("2001:db8::1", '"2001:db8::1"'),
        ("dGVzdA==", '"dGVzdA=="'),
        ("bounce-bob=example.com@example.org", "example.org"),
        ("dkim=pass@example.org", "example.org"),
        ('"x; dkim=pass"@example.org', "example.org"),
        ("x)(@example.org", "example.org"),
        ("bücher@example.org", "example.org"),
        ("bob@bücher.example", "xn--bcher-kva.example"),
        ("\udcff@example.org", "example.org"),
        ("x" * 400 + "@example.org", "example.org"),
        ("mail.example.org; dkim=pass", None),
        ("a b", None),
        ("x\r\nX-Evil: yes", None),
        ('x"', None),
        ("x\\", None),
        ("(x", None),
        ("x,y", None),
        ("dkim=pass", None),
        ("bücher", None),
        ("x" * 400, None),
        ("", None),
    ],
)
def test_hostile_values_are_quoted_or_dropped(value: str, expected: str | None) -> None:
    """What could be taken for more than a value is gone; of an address the domain stays."""
    text = written(MethodResult("spf", "none", {"smtp.mailfrom": value}))

    assert text == f"{OURS}; spf=none" + (f" smtp.mailfrom={expected}" if expected is not None else "")


def test_a_reason_is_readable_and_harmless() -> None:
    """Signs of results, comments and quotes become others; what does not print becomes a question mark."""
    reason = 'no "key"; dkim=pass (x) <y> \\ \r\nX: ü'

    assert written(MethodResult("dkim", "permerror", reason=reason)) == (
        f"{OURS}; dkim=permerror reason=\"no 'key', dkim:pass [x] [y] / ??X: ?\""
    )


def test_no_number_of_signatures_hides_what_stands_behind_them() -> None:
    """As many as max_signatures allows at most, and a note of more: DMARC and ARC are still told."""
    before = [MethodResult("iprev", "pass"), MethodResult("spf", "pass"), MethodResult("spf", "none")]
    signatures = [MethodResult("dkim", "fail", {"header.d": "example.org"})] * 101

    text = written(*before, *signatures, MethodResult("dmarc", "fail"), MethodResult("arc", "fail"))

    assert text.endswith("; dmarc=fail; arc=fail")


def test_the_number_of_results_is_bounded() -> None:
    """A field has no more results than MAX_RESULTS."""
    assert len(read(*[MethodResult("dkim", "fail", {"header.d": "example.org"})] * 1000)) == MAX_RESULTS


@pytest.mark.parametrize(
    "result",
    [
        MethodResult("d kim", "pass"),
        MethodResult("dkim", ""),
        MethodResult("dkim", "pass", {"header": "x"}),
        MethodResult("dkim", "pass", {"x.y=z": "x"}),
    ],
)
def test_words_of_ours_must_be_words(result: MethodResult) -> None:
    """A method, result or property that is no keyword is a mistake of ours and raises."""
    with pytest.raises(ValueError, match="no keyword"):
        format_field(OURS, [result])


TEXTS = st.one_of(
    st.text(max_size=30),
    st.lists(
        st.sampled_from(
            [*'()"\\;=@. ,<>', "\r\n", "\t", "dkim=pass", "header.d=", "bank.example", "bob", "ü"]
        ),
        max_size=10,
    ).map("".join),
)
RESULTS = st.lists(
    st.builds(
        MethodResult,
        st.sampled_from(["spf", "dkim", "dmarc", "iprev"]),
        st.sampled_from(["pass", "fail", "none", "temperror", "permerror"]),
        st.dictionaries(
            st.sampled_from(["smtp.mailfrom", "smtp.helo", "header.d", "header.b", "policy.iprev"]), TEXTS
        ),
        st.one_of(st.none(), TEXTS),
    ),
    max_size=5,
)


@settings(max_examples=250, deadline=None)
@given(results=RESULTS)
def test_an_independent_parser_reads_the_same_results(results: list[MethodResult]) -> None:
    """The authres package reads the methods and results that were given, no more, and only true values."""
    found = read(*results)

    assert [(one.method, one.result) for one in found] == [(one.method, one.result) for one in results]
    for one, given_one in zip(found, results, strict=True):
        for name, value in properties_of(one).items():
            original = given_one.properties[name]
            assert value in (original, parse_mailbox(original).domain)


@settings(max_examples=250, deadline=None)
@given(results=RESULTS)
def test_careless_readers_find_the_same_results(results: list[MethodResult]) -> None:
    """Who splits at semicolons, or looks for method=result by a pattern, finds what was given and no more."""
    text = written(*results)
    expected = [f"{one.method}={one.result}" for one in results]

    assert re.findall(r"(?<!policy\.)\b(?:spf|dkim|dmarc|iprev)\s*=\s*\w+", text) == expected
    parts = text.split(";")[1:]
    assert [part.split()[0] for part in parts] == (expected or ["none"])
    assert not set("()\\") & set(text)


@settings(max_examples=150, deadline=None)
@given(results=RESULTS)
def test_every_line_is_a_line_of_a_field(results: list[MethodResult]) -> None:
    """ASCII that prints, folded before white space, each line far below 998 octets."""
    lines = format_field(OURS, results).raw.removesuffix(b"\r\n").split(b"\r\n")

    assert all(re.fullmatch(rb"\t[!-~][ -~]*", line) for line in lines[1:])
    assert re.fullmatch(rb"Authentication-Results: [ -~]+", lines[0])
    assert max(map(len, lines)) <= 400
