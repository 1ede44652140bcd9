"""Every operator, on every type of fact it is for, with what is there, absent, and not to be known."""

from __future__ import annotations

import time

import pytest

from mailreeve_policyd.authres import MethodResult
from mailreeve_policyd.escape import decode_wire
from mailreeve_policyd.smtp import Stage
from mailreeve_policyd.transaction import Evidence
from tests.policyd.rules_text import MILTER_ALONE, holds, moment

EOM = Stage.END_OF_MESSAGE


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ('sasl_username is "bob@example.org"', True),
        ('sasl_username is "BOB@Example.ORG"', True),
        ('sasl_username is "ann@example.org"', False),
        ('sasl_username is not "ann@example.org"', True),
        ('sasl_username is not "BOB@example.org"', False),
        ('sasl_username in ("ann@example.org", "Bob@example.org")', True),
        ('sasl_username in "bob@example.org"', True),
        ("sasl_username", True),
        ("not sasl_username", False),
        ('sender is "Ann@EXAMPLE.net"', True),
        ('sender_domain is "Example.Net"', True),
        ('sender_domain under "net"', True),
        ('sender_domain under "ample.net"', False),
        ('sender_domain under ("example.org", "example.net")', True),
        ('helo_name under "example.net"', True),
        ("helo_name matches /^mx[0-9]+\\./", True),
        ("helo_name matches /^MX/", False),
        ("helo_name matches /^MX/i", True),
        ("helo_name matches /a\\/b/", False),
        ("client_address is 203.0.113.9", True),
        ('client_address is "203.0.113.9"', True),
        ("client_address is not 203.0.113.9", False),
        ("client_address in 203.0.113.0/24", True),
        ("client_address in (192.0.2.0/24, 203.0.113.9)", True),
        ("client_address in (192.0.2.0/24, 198.51.100.0/24)", False),
        ("client_address in ::ffff:203.0.113.0/120", True),
        ("client_address in 2001:db8::/32", False),
        ("client_port is 25000", True),
        ("client_port is not 25000", False),
        ("client_port < 25001", True),
        ("client_port < 25000", False),
        ("client_port <= 25000", True),
        ("client_port > 25000", False),
        ("client_port >= 25000", True),
        ("client_port in (25, 25000)", True),
        ('attribute("tls_sni") is "MX.example.org"', True),
        ('attribute("unheard_of")', False),
    ],
)
def test_an_operator_compares(condition: str, expected: bool) -> None:
    """Logins, addresses and domains without case, numbers as numbers, addresses by networks."""
    transaction = moment(
        login="bob@example.org",
        sender="ann@example.net",
        helo="mx1.example.net",
        client_port=25000,
        attributes={"tls_sni": "mx.example.org"},
    )

    assert holds(condition, transaction) is expected


@pytest.mark.parametrize(
    "condition",
    [
        'sasl_username is "bob"',
        'sasl_username is not "bob"',
        'sasl_username in ("bob", "ann")',
        "sasl_username matches /./",
        "sasl_username",
        'sender_domain under "example.org"',
        "client_address in 0.0.0.0/0",
        "client_address is not 192.0.2.1",
        "client_port < 5",
        "client_port is not 5",
        "size >= 0",
    ],
)
def test_of_an_absent_fact_every_comparison_is_false(condition: str) -> None:
    """`is not` too; and `not` of any of them is true."""
    transaction = moment(client=None)

    assert holds(condition, transaction) is False
    assert holds(f"not ({condition})", transaction) is True


def test_sets_are_looked_up_by_the_type_of_the_fact() -> None:
    """One set may hold logins for one rule; another networks; another numbers."""
    sets = 'set staff = "Bob", "ann"\nset office = 192.0.2.0/24, 2001:db8::/32\nset ports = 465, 587'
    transaction = moment(client="2001:db8::7", login="bob", server_port=587)

    assert holds("sasl_username in staff", transaction, sets)
    assert holds("client_address in office", transaction, sets)
    assert holds("server_port in ports", transaction, sets)
    assert holds("client_address in (192.0.2.7, office)", transaction, sets)


def test_a_set_file_is_read_line_by_line() -> None:
    """One entry a line; comments, empty lines, space and CRs are nothing."""
    files = {"vip.txt": "# important\n\n  Bob@example.org  # the boss\r\nann@example.org\n"}
    sets = 'set vip = file "vip.txt"'

    assert holds("sasl_username in vip", moment(login="bob@example.org"), sets, files=files)
    assert not holds("sasl_username in vip", moment(login="# important"), sets, files=files)


def test_a_domain_may_be_written_in_its_own_letters() -> None:
    """U-labels in the rules are A-labels on the wire (RFC 5890)."""
    transaction = moment(sender="ann@xn--bcher-kva.example")

    assert holds('sender_domain is "BÜCHER.example"', transaction)
    assert holds('sender is "Ann@bücher.example"', transaction)
    assert holds('sender_domain under "bücher.example."', transaction)


def test_bytes_that_are_no_utf8_match_and_compare() -> None:
    """They neither stop a pattern nor equal anything that was written."""
    transaction = moment(helo=decode_wire(b"mx\xff.example.net"))

    assert holds("helo_name matches /^mx.\\.example/", transaction)
    assert not holds('helo_name under "example.net"', transaction)
    assert not holds('helo_name is "mx.example.net"', transaction)


def test_a_pattern_that_would_backtrack_takes_no_time() -> None:
    """The engine is linear in the text, whatever the pattern (CWE-1333)."""
    started = time.monotonic()

    assert not holds("helo_name matches /^(a+)+$/", moment(helo="a" * 50_000 + "!"))
    assert time.monotonic() - started < 2


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("spf is pass", None),
        ("spf is not pass", None),
        ("spf is temperror", True),
        ("spf is not temperror", False),
        ("spf in (pass, fail)", None),
        ("spf in (pass, temperror)", True),
        ("not spf is pass", None),
        ("spf is pass and sasl_username", False),
        ("sasl_username and spf is pass", False),
        ("spf is pass and sender", None),
        ("spf is pass or sender", True),
        ("sender or spf is pass", True),
        ("spf is pass or sasl_username", None),
        ("not (spf is pass or sasl_username)", None),
        ("dmarc is fail", None),
        ("dmarc_policy is reject", None),
        ("dmarc_policy is temperror", True),
        ('spf is "pass"', None),
    ],
)
def test_what_cannot_be_known_is_neither_true_nor_false(condition: str, expected: bool | None) -> None:
    """Kleene's logic: unknown unless the rest settles it."""
    transaction = moment(EOM, sender="ann@example.net", results={"spf": "temperror", "dmarc": "temperror"})

    assert holds(condition, transaction) is expected


def test_without_a_record_there_is_no_policy() -> None:
    """An absent policy is known to be absent."""
    transaction = moment(EOM, results={"dmarc": "none"})

    assert holds("dmarc_policy is reject", transaction) is False
    assert holds("not dmarc_policy", transaction) is True


def test_a_list_has_what_is_in_it() -> None:
    """`has` compares domains without case."""
    transaction = moment(EOM, dkim_domains=("lists.example.net",))

    assert holds('dkim_domains has "Lists.Example.NET"', transaction) is True
    assert holds('dkim_domains has "example.net"', transaction) is False
    assert holds("dkim_domains", transaction) is True
    assert holds("dkim_domains", moment(EOM)) is False


def test_a_signature_that_cannot_be_checked_now_may_be_in_the_list() -> None:
    """Only for its own domain: others are known not to be there."""
    result = MethodResult("dkim", "temperror", {"header.d": "lists.example.net"})
    transaction = moment(EOM)
    transaction = type(transaction)(EOM, transaction.session, evidence=Evidence((result,)))

    assert holds('dkim_domains has "lists.example.net"', transaction) is None
    assert holds('dkim_domains has "example.org"', transaction) is False


@pytest.mark.parametrize("condition", ["spf is pass", "spf_helo is pass", "iprev is pass"])
def test_spf_and_iprev_may_be_asked_from_mail_on_through_both_doors(condition: str) -> None:
    """The policy daemon gathers them as the milter does."""
    assert holds(condition, moment(Stage.MAIL)) is False
    assert holds(condition, moment(Stage.MAIL), doors=MILTER_ALONE) is False


def test_recipient_at_data_may_be_asked_though_it_is_absent_with_several() -> None:
    """Absent is no error."""
    assert holds('recipient is "bob@example.org"', moment(Stage.DATA, recipient_count=3)) is False


def test_the_claimed_size_may_be_compared_before_end_of_message() -> None:
    """It is the client's claim there (RFC 1870)."""
    assert holds("size > 10000000", moment(Stage.MAIL, size=20_000_000)) is True
