"""All results of one message: what each check gives to the others, and their order."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from ipaddress import ip_address

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from mailreeve_milter.authenticate import authenticate
from mailreeve_milter.authfield import format_field
from mailreeve_milter.dmarc import Method
from mailreeve_milter.message import HeaderField
from mailreeve_policyd.authres import MethodResult, results_of
from mailreeve_policyd.evidence import gather_envelope_evidence
from mailreeve_policyd.resolver import ZoneResolver
from mailreeve_policyd.resolver_dns import BudgetResolver, DnsResolver, Server
from mailreeve_policyd.smtp import Domain, Stage, parse_domain, parse_path
from mailreeve_policyd.transaction import Envelope, Evidence, Session, Transaction
from tests.lab.dns import SILENT, DnsServer

ZONE = """
    example.org. TXT "v=spf1 ip4:192.0.2.1 -all"
    _dmarc.example.org. TXT "v=DMARC1; p=reject"
    mail.example.org. TXT "v=spf1 a -all"
    mail.example.org. A 192.0.2.1
    evil.example.net. TXT "v=spf1 +all"
    1.2.0.192.in-addr.arpa. PTR mail.example.org.
"""
FROM_BOB = [HeaderField(b"From", b" Bob <bob@example.org>")]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the DKIM room would say of a signature."""

    result: MethodResult
    domain: Domain | None
    counts: bool


def signed(domain: str, word: str = "pass", *, counts: bool | None = None) -> Outcome:
    result = MethodResult("dkim", word, {"header.d": domain})
    return Outcome(result, parse_domain(domain), word == "pass" if counts is None else counts)


def message(
    sender: str = "<bob@example.org>", client: str = "192.0.2.1", helo: str = "mail.example.org"
) -> Transaction:
    session = Session(client_address=ip_address(client), helo_name=helo)
    return Transaction(Stage.END_OF_MESSAGE, session, Envelope(parse_path(sender)))


def judged(
    transaction: Transaction,
    *outcomes: Outcome,
    fields: list[HeaderField] | None = None,
    failing: tuple[str, ...] = (),
) -> Evidence:
    return authenticate(
        transaction, FROM_BOB if fields is None else fields, outcomes, ZoneResolver(ZONE, failing)
    )


def test_results_stand_in_the_order_of_the_field() -> None:
    """The order is spf of HELO, spf of MAIL FROM, dkim of each signature, dmarc."""
    evidence = judged(message(), signed("example.org"), signed("example.net", "fail"))

    assert [(one.method, one.result, next(iter(one.properties))) for one in evidence.results] == [
        ("spf", "pass", "smtp.helo"),
        ("spf", "pass", "smtp.mailfrom"),
        ("dkim", "pass", "header.d"),
        ("dkim", "fail", "header.d"),
        ("dmarc", "pass", "header.from"),
    ]


def test_the_evidence_names_author_signers_and_policy() -> None:
    """What rules ask: the author, the domains that signed validly, the effective policy."""
    evidence = judged(message(), signed("example.org"), signed("example.org"), signed("example.net", "fail"))

    assert str(evidence.author) == "bob@example.org"
    assert evidence.dkim_domains == ("example.org",)
    assert evidence.dmarc_policy == "reject"


def test_an_unsigned_message_is_dkim_none() -> None:
    """RFC 8601 section 2.7.1: none is said, not left out."""
    assert results_of(judged(message()).results, "dkim") == (MethodResult("dkim", "none"),)


def test_a_pass_that_does_not_count_proves_nothing() -> None:
    """A signature that covers a part of the body gives DMARC no domain, and rules none."""
    evidence = judged(message("<x@evil.example.net>"), signed("example.org", counts=False))

    assert word(evidence) == "fail"
    assert evidence.dkim_domains == ()


def test_spf_of_the_reverse_path_counts() -> None:
    """An aligned SPF pass of MAIL FROM is a DMARC pass."""
    assert word(judged(message())) == "pass"


def test_spf_of_another_domain_does_not_count() -> None:
    """A stranger's own SPF pass proves nothing for the author's domain."""
    evidence = judged(message("<x@evil.example.net>", "198.51.100.1"))

    assert evidence.result("spf", "smtp.mailfrom") is not None
    assert word(evidence) == "fail"


def test_a_helo_pass_does_not_count_beside_a_mail_from() -> None:
    """RFC 9989 section 4.4.2: SPF of HELO aligns nothing where there is a MAIL FROM."""
    evidence = judged(message("<x@none.example.net>"))

    helo = evidence.result("spf", "smtp.helo")
    assert helo is not None
    assert helo.result == "pass"
    assert word(evidence) == "fail"


def test_the_null_sender_counts_as_postmaster_at_helo() -> None:
    """For <> the HELO name is the SPF identity, and aligns."""
    assert word(judged(message("<>"))) == "pass"


def test_a_temperror_that_could_have_aligned_leaves_dmarc_open() -> None:
    """SPF or DKIM of the author's domain that DNS left open is temperror, and no policy applies."""
    spf_open = judged(message(), failing=("example.org TXT",))
    dkim_open = judged(message("<x@evil.example.net>"), signed("example.org", "temperror"))

    assert (word(spf_open), spf_open.dmarc_policy) == ("temperror", None)
    assert (word(dkim_open), dkim_open.dmarc_policy) == ("temperror", None)


def test_a_strangers_temperror_does_not_save_a_forgery() -> None:
    """A signature of another domain whose DNS is away leaves the fail a fail."""
    evidence = judged(message("<x@evil.example.net>"), signed("evil.example.net", "temperror"))

    assert (word(evidence), evidence.dmarc_policy) == ("fail", "reject")


def test_organizational_domains_are_found_as_asked() -> None:
    """The public suffix list where it is asked for: co.uk is nobody's, whatever record stands there."""
    zone = '_dmarc.co.uk. TXT "v=DMARC1; p=reject"'
    fields = [HeaderField(b"From", b" bob@one.co.uk")]
    for method, expected in ((Method.TREE_WALK, "pass"), (Method.PUBLIC_SUFFIX_LIST, "none")):
        evidence = authenticate(message(), fields, [signed("two.co.uk")], ZoneResolver(zone), method=method)
        assert word(evidence) == expected


def test_without_one_author_domain_dmarc_is_permerror() -> None:
    """RFC 9989 section 5.3.1: two From fields never pass, whatever signed them."""
    evidence = judged(message(), signed("example.org"), fields=FROM_BOB * 2)

    assert evidence.author is None
    assert results_of(evidence.results, "dmarc") == (
        MethodResult("dmarc", "permerror", reason="2 From fields"),
    )
    assert evidence.dmarc_policy is None


def test_what_an_earlier_stage_found_is_not_asked_again() -> None:
    """Envelope results are taken over, iprev with them."""
    resolver = ZoneResolver(ZONE)
    early = gather_envelope_evidence(message(), {"spf", "spf_helo", "iprev"}, resolver)
    asked = resolver.count()
    evidence = authenticate(replace(message(), evidence=early), FROM_BOB, [signed("example.org")], resolver)

    assert evidence.results[:3] == early.results
    assert resolver.count() - asked == 1  # the DMARC record


def test_a_spent_budget_is_temperror_everywhere() -> None:
    """With no time left for questions, nothing passes and nothing fails."""
    resolver = BudgetResolver(ZoneResolver(ZONE), seconds=0)
    evidence = authenticate(message(), FROM_BOB, [], resolver)

    assert [one.result for one in evidence.results] == ["temperror", "temperror", "none", "temperror"]


def test_a_silent_domain_delays_its_own_mail_alone() -> None:
    """Mail that needs a server that answers nothing is temperror within the budget; other mail goes by."""
    zone = ZONE + 'silent.example. TXT "v=spf1 -all"'
    with DnsServer(zone) as server, ThreadPoolExecutor(4) as pool:
        for name in ("silent.example", "_dmarc.silent.example"):
            server.fail(name, SILENT)
        resolver = DnsResolver([Server(ip_address("127.0.0.1"), server.port)], timeout=5)
        waiting = [pool.submit(timed, message("<x@silent.example>"), resolver, 1.0) for _ in range(2)]
        prompt = [timed(message(), resolver, 1.0) for _ in range(5)]
        assert not any(one.done() for one in waiting)
        late = [one.result() for one in waiting]

    assert {word(evidence) for evidence, _ in prompt} == {"pass"}
    assert all(seconds < 0.5 for _, seconds in prompt)
    assert [one.result for one in late[0][0].results] == ["pass", "temperror", "none", "temperror"]
    assert all(seconds < 1.5 for _, seconds in late)


def timed(transaction: Transaction, resolver: DnsResolver, budget: float) -> tuple[Evidence, float]:
    """The evidence of a message from the author of its reverse-path, and the seconds that it took."""
    assert transaction.envelope is not None
    fields = [HeaderField(b"From", f" {transaction.envelope.reverse_path}".encode())]
    started = time.monotonic()
    evidence = authenticate(transaction, fields, [], BudgetResolver(resolver, budget))
    return evidence, time.monotonic() - started


@settings(max_examples=100, deadline=None)
@given(sender=st.text(max_size=30), helo=st.text(max_size=30), value=st.binary(max_size=40))
def test_any_mail_gives_evidence_that_can_be_written(sender: str, helo: str, value: bytes) -> None:
    """Whatever envelope and From hold: evidence, and a field of it."""
    evidence = judged(message(sender, helo=helo), fields=[HeaderField(b"From", value)])

    assert format_field("mx.example.net", evidence.results).value.isascii()


def word(evidence: Evidence) -> str:
    found = evidence.result("dmarc")
    assert found is not None
    return found.result
