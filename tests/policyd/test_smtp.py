"""Domains, mailboxes, paths, status codes and stages."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailreeve_policyd import smtp
from mailreeve_policyd.errors import ProtocolError
from mailreeve_policyd.smtp import EnhancedStatus, Mailbox, Stage


@pytest.mark.parametrize(
    ("written", "domain"),
    [
        ("Example.ORG", "example.org"),
        ("example.org.", "example.org"),
        ("_dmarc.example.org", "_dmarc.example.org"),
        ("b\u00fccher.example", "xn--bcher-kva.example"),
        ("B\u00dcCHER.example", "xn--bcher-kva.example"),
        ("localhost", "localhost"),
        ("a" * 63 + ".example", "a" * 63 + ".example"),
    ],
)
def test_a_domain_has_one_form(written: str, domain: str) -> None:
    """A-labels, lower case, no final dot, however it was written."""
    assert smtp.parse_domain(written) == domain


@pytest.mark.parametrize(
    "written",
    [
        "",
        ".",
        "example..org",
        ".example.org",
        "example.org..",
        "[192.0.2.1]",
        "exa mple.org",
        "example.org>",
        "-example.org",
        "example-.org",
        "a" * 64 + ".example",
        ".".join(["a" * 60] * 5),
        "exam\x00ple.org",
        "example.org\n",
        "\u2603\ud800.example",
        "xn--\u00fc.example",
    ],
)
def test_what_is_no_domain_is_refused(written: str) -> None:
    """Literals, empty and over-long labels, control characters and stray brackets are no domain."""
    with pytest.raises(ProtocolError):
        smtp.parse_domain(written)


@given(st.text(max_size=80))
def test_any_text_is_a_domain_or_refused_and_a_domain_stays_itself(text: str) -> None:
    """Parsing twice changes nothing, and nothing but ProtocolError is raised."""
    try:
        domain = smtp.parse_domain(text)
    except ProtocolError:
        return
    assert smtp.parse_domain(domain) == domain
    assert domain.isascii()
    assert domain == domain.lower()


@pytest.mark.parametrize(
    ("written", "mailbox"),
    [
        ("Bob@Example.org", Mailbox("Bob@Example.org", "Bob", smtp.Domain("example.org"))),
        ("postmaster", Mailbox("postmaster", "postmaster", None)),
        ("bob@[192.0.2.1]", Mailbox("bob@[192.0.2.1]", "bob", None)),
        ('"a@b"@example.org', Mailbox('"a@b"@example.org', '"a@b"', smtp.Domain("example.org"))),
        (
            "@relay.example,@b.example:bob@example.org",
            Mailbox("@relay.example,@b.example:bob@example.org", "bob", smtp.Domain("example.org")),
        ),
    ],
)
def test_a_mailbox_keeps_the_case_of_its_local_part(written: str, mailbox: Mailbox) -> None:
    """The domain is normalized, the local part is not (RFC 5321 section 2.4); a source route is dropped."""
    assert smtp.parse_mailbox(written) == mailbox


def test_the_null_reverse_path_is_none() -> None:
    """`<>` and nothing at all are the null reverse-path, which is no mailbox."""
    assert smtp.parse_path("<>") is None
    assert smtp.parse_path("") is None
    assert str(smtp.parse_path("<bob@EXAMPLE.org>")) == "bob@example.org"


@given(st.text(max_size=80))
def test_any_text_is_a_mailbox(text: str) -> None:
    """What a client sends never breaks the door: the text is kept, a domain may be missing."""
    assert smtp.parse_mailbox(text).text == text


def test_a_subdomain_is_under_its_domain_at_a_label_boundary_only() -> None:
    """notexample.org is not under example.org."""
    ours = smtp.parse_domain("example.org")

    assert smtp.is_under(smtp.parse_domain("mail.example.org"), ours)
    assert smtp.is_under(ours, ours)
    assert not smtp.is_under(smtp.parse_domain("notexample.org"), ours)


@pytest.mark.parametrize(
    ("text", "status", "rest"),
    [
        ("5.7.1 No", EnhancedStatus(5, 7, 1), "No"),
        ("4.7.26", EnhancedStatus(4, 7, 26), ""),
        ("5.7.1-No", None, "5.7.1-No"),
        ("3.7.1 No", None, "3.7.1 No"),
        ("5.7.1000 No", None, "5.7.1000 No"),
        ("No", None, "No"),
    ],
)
def test_a_reply_text_may_begin_with_its_status(text: str, status: EnhancedStatus | None, rest: str) -> None:
    """RFC 3463 section 2: class 2, 4 or 5, at most three digits each."""
    assert smtp.split_status(text) == (status, rest)


def test_stages_stand_in_the_order_of_smtp() -> None:
    """A fact is known from a stage on, so stages compare."""
    assert sorted(Stage) == list(Stage)
    assert Stage.MAIL < Stage.RCPT <= Stage.RCPT < Stage.END_OF_MESSAGE
