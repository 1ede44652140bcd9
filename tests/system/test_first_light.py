"""Real mail through a real Postfix with both daemons beside it: checked, signed, limited and recorded."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.daemons import Engine
from tests.lab.delivered import Delivered, read_delivered
from tests.lab.dkim_verifier import verify
from tests.lab.keys import SigningKeys
from tests.lab.outside import OutsideDomain, compose
from tests.lab.postfix import OUTSIDE
from tests.lab.process import wait_until
from tests.lab.site import ALICE, BOB, LAPTOP, SHIPPED_RULES, Record, Site, StoreName, parse_replies
from tests.lab.smtp import Client, Reply

FORGER = Client("203.0.113.66", "cheap-host.example.net")
OUR_PROGRAM = Client("127.0.0.1", "localhost", "localhost")
BESIDES: dict[str, tuple[Engine, StoreName]] = {
    "native": ("native", "sqlite"),
    "libmilter": ("libmilter", "sqlite"),
    "native, redis": ("native", "redis"),
}
REFUSED = 554  # Postfix makes this of a reject by a policy server
BURST = 60  # what the shipped rules allow a login in a minute


@pytest.fixture(scope="module", params=BESIDES)
def site(
    request: pytest.FixtureRequest, shared_work: Path, our_keys: SigningKeys, bank: OutsideDomain
) -> Iterator[Site]:
    """The shipped rules with each engine and each store; these know nothing of each other."""
    engine, store = BESIDES[request.param]
    work = shared_work / f"{engine}-{store}"
    work.mkdir()
    site = Site(work, rules=SHIPPED_RULES, keys=our_keys, store=store, engine=engine, zone=bank.zone)
    with site:
        yield site


def delivered(site: Site, mailbox: str = "bob@example.org") -> Delivered:
    """The next message that arrives in a mailbox."""
    return read_delivered(site.postfix.next_message(mailbox))


def results_of(record: Record) -> dict[str, str]:
    """What each method found, SPF of the reverse-path."""
    return {
        one["method"]: one["result"]
        for one in record["results"]
        if "smtp.helo" not in one.get("properties", {})
    }


# -- the five things that `make demo` shows ----------------------------------------------------------------


def test_a_well_signed_message_is_delivered_as_passing_everything(site: Site, bank: OutsideDomain) -> None:
    """SPF, DKIM and DMARC pass, and one Authentication-Results of ours on top says so, as does the record."""
    message = bank.sign(compose("Bank <alerts@bank.example>", "bob@example.org", "Statement", "Dear Bob"))
    sent = site.send(bank.server, "bounces@bank.example", ["bob@example.org"], message)

    arrived = delivered(site)
    assert arrived.added == ["Authentication-Results"]
    [field] = arrived.values("Authentication-Results")
    assert field.startswith("mx.example.org;")
    assert re.search(r"\bspf=pass\b.*smtp\.mailfrom=bounces@bank\.example", field), field
    assert re.search(r"\bdkim=pass\b.*header\.d=bank\.example", field), field
    assert re.search(r"\bdmarc=pass\b.*header\.from=bank\.example", field), field
    record = site.message_record(sent.queue_id)
    assert results_of(record) == {"spf": "pass", "dkim": "pass", "dmarc": "pass"}
    assert record["author_domain"] == "bank.example"
    assert record["client"]["address"] == bank.address
    assert record["recipients"] == ["bob@example.org"]


def test_a_forgery_is_refused_by_the_shipped_rules(site: Site, bank: OutsideDomain) -> None:
    """Mail that claims to be the bank's, from elsewhere and unsigned, is rejected with a 5.7.x reply."""
    message = compose("Bank <alerts@bank.example>", "bob@example.org", "Your account", "Click here")
    sent = site.send(FORGER, "alerts@bank.example", ["bob@example.org"], message)

    assert sent.end is not None
    assert sent.end.code == 550
    assert re.match(r"5\.7\.\d+ .*DMARC", sent.end.text), sent.end
    record = site.record_wait(lambda one: one["daemon"] == "milter" and one["verdict"]["action"] == "reject")
    assert record["client"]["address"] == FORGER.address
    assert record["verdict"]["rule"]
    assert results_of(record) == {"spf": "fail", "dkim": "none", "dmarc": "fail"}


def test_mail_that_a_list_changed_is_held_and_not_refused(site: Site, bank: OutsideDomain) -> None:
    """Its DKIM is broken and SPF says nothing: p=reject alone rejects nothing (RFC 9989 section 7.4)."""
    message = bank.sign(compose("alerts@bank.example", "bob@example.org", "Statement", "Dear Bob"))
    changed = message.replace(b"Dear", b"[list] Dear")
    sent = site.send(FORGER, "bounces@list.example", ["bob@example.org"], changed)

    record = site.message_record(sent.queue_id)
    assert record["verdict"]["action"] == "hold"
    assert results_of(record) == {"spf": "none", "dkim": "fail", "dmarc": "fail"}
    held = [entry for entry in site.postfix.queue() if entry["queue_id"] == sent.queue_id]
    assert [entry["queue_name"] for entry in held] == ["hold"]


def test_mail_of_a_login_leaves_signed(site: Site) -> None:
    """A program that is not ours finds the RSA signature right; both signatures stand on top."""
    message = compose("Alice <alice@example.org>", "somebody@example.net", "Lunch?", "At noon.")
    sent = site.send(LAPTOP, "alice@example.org", ["somebody@example.net"], message, login=ALICE)

    raw = site.postfix.next_message(OUTSIDE)
    arrived = read_delivered(raw)
    assert arrived.added == ["DKIM-Signature", "DKIM-Signature"]
    assert arrived.rest == message.replace(b"\r\n", b"\n")
    results = {one.algorithm: one for one in verify(raw, site.dns)}
    assert results["rsa-sha256"].result == "pass", results
    assert results["rsa-sha256"].domain == "example.org"
    record = site.message_record(sent.queue_id)
    assert [one["algorithm"] for one in record["signatures"]] == [
        dict(re.findall(r"(\w+)=([^;]*)", value))["a"] for value in arrived.values("DKIM-Signature")
    ]
    assert record["login"] == ALICE.user


def test_our_signatures_pass_at_the_next_server(site: Site) -> None:
    """What left signed and comes in elsewhere, from an address that SPF does not name, passes DKIM twice."""
    message = compose("alice@example.org", "somebody@example.net", "Round trip", "There and back.")
    site.send(LAPTOP, "alice@example.org", ["somebody@example.net"], message, login=ALICE)
    out = site.postfix.next_message(OUTSIDE)
    begin = out.index(b"DKIM-Signature:")
    signed = out[begin:].replace(b"\n", b"\r\n")

    site.send(FORGER, "list@list.example", ["bob@example.org"], signed)

    [field] = delivered(site).values("Authentication-Results")
    assert len(re.findall(r"dkim=pass", field)) == 2, field
    assert "dmarc=pass" in field


def test_a_burst_from_one_login_is_deferred_after_so_many(site: Site) -> None:
    """Sixty recipients in a minute are let through, the next are told how long to wait."""
    with site.session(LAPTOP, BOB) as session:
        replies = []
        for number in range(BURST + 3):
            message = compose("bob@example.org", "alice@example.org", f"Offer {number}", "Buy!")
            replies.append(session.mail("bob@example.org", ["alice@example.org"], message))
            session.command("RSET")

    taken = [answers for answers in replies if answers[-1].ok]
    refused = [answers[1] for answers in replies if not answers[1].ok]
    assert len(taken) == BURST
    assert [reply.code // 100 for reply in refused] == [4, 4, 4]
    assert all(re.match(r"4\.7\.1 .*\b\d+ (second|minute)", reply.text) for reply in refused), refused
    record = site.record_wait(
        lambda one: one.get("login") == BOB.user and one["verdict"]["action"] == "defer"
    )
    [limit] = [one for one in record["limits"] if one["exceeded"]]
    assert (limit["used"], limit["maximum"]) == (BURST, BURST)
    assert 0 < limit["retry_after_seconds"] <= 62
    assert record["daemon"] == "policyd"


def test_a_blocked_login_is_refused_until_it_is_let_in_again(site: Site) -> None:
    """What `mailreeve limits` says holds for Postfix's clients within seconds, and is recorded."""

    def reply() -> Reply:
        with site.session(LAPTOP, ALICE) as session:
            session.command("MAIL FROM:<alice@example.org>")
            return session.command("RCPT TO:<bob@example.org>")

    administer(site, "block", "alice@example.org", "--per", "sasl_username", "--reason", "stolen")
    wait_until(lambda: reply().code == REFUSED, "the login is blocked")
    refused = reply()
    administer(site, "unblock", "alice@example.org", "--per", "sasl_username")
    wait_until(lambda: reply().code != REFUSED, "the login is no longer blocked")

    assert refused.text.startswith("5.7.1 "), refused
    record = site.record_wait(lambda one: any(limit.get("blocked") for limit in one.get("limits", ())))
    assert (record["login"], record["verdict"]["action"]) == (ALICE.user, "reject")


def administer(site: Site, *words: str) -> None:
    """Run `mailreeve limits` as the administrator would."""
    program = Path(sys.executable).parent / "mailreeve"
    subprocess.run(
        [program, "limits", *words, "--config", site.config], check=True, capture_output=True, timeout=60
    )


def test_a_forged_result_is_removed(site: Site, bank: OutsideDomain) -> None:
    """A field that claims our name goes, in any case and wherever it stands; another server's stays."""
    forged = "Authentication-Results: MX.example.org; dmarc=pass header.from=bank.example"
    message = compose(
        "crook@crook.example",
        "bob@example.org",
        "Trust me",
        "All is well.",
        forged,
        "Authentication-Results: other.example.net; spf=pass",
        "authentication-results: (really) mx.example.org 1; spf=pass",
    )
    sent = site.send(FORGER, "crook@crook.example", ["bob@example.org"], message)

    arrived = delivered(site)
    values = arrived.values("Authentication-Results")
    assert len(values) == 2
    assert values[0].startswith("mx.example.org;")
    assert "pass" not in values[0]
    assert values[1] == "other.example.net; spf=pass"
    assert site.message_record(sent.queue_id)["removed"]


# -- our own mail ------------------------------------------------------------------------------------------


def test_forged_results_of_our_own_users_are_removed_and_none_is_added(site: Site) -> None:
    """A user's mail has no Authentication-Results of ours afterwards, neither a forged nor a true one."""
    forged = "Authentication-Results: mx.example.org; dkim=pass"
    message = compose("alice@example.org", "bob@example.org", "Look", "I am authenticated.", forged)
    site.send(LAPTOP, "alice@example.org", ["bob@example.org"], message, login=ALICE)

    arrived = delivered(site)
    assert arrived.values("Authentication-Results") == []
    assert arrived.added == ["DKIM-Signature", "DKIM-Signature"]


def test_a_bounce_from_our_network_is_signed_for_its_author(site: Site) -> None:
    """The null sender has no domain; the key is found by From, and the signature is right."""
    message = compose("postmaster@example.org", "bob@example.org", "Undelivered", "Sorry.")
    site.send(OUR_PROGRAM, None, ["bob@example.org"], message)

    raw = site.postfix.next_message("bob@example.org")
    results = {one.algorithm: one.result for one in verify(raw, site.dns)}
    assert results["rsa-sha256"] == "pass"


def test_mail_of_the_sendmail_command_is_signed(site: Site) -> None:
    """A program on the server itself comes by no network, and its mail is our own."""
    site.postfix.sendmail(
        "cron@example.org", ["somebody@example.net"], b"From: cron@example.org\nSubject: done\n\nok\n"
    )
    results = {one.algorithm: one.result for one in verify(site.postfix.next_message(OUTSIDE), site.dns)}
    assert results["rsa-sha256"] == "pass"


def test_our_mail_for_a_domain_without_a_key_goes_unsigned(site: Site) -> None:
    """A login may write as example.com, for which there is no key: delivered without a signature."""
    message = compose("carol@example.com", "bob@example.org", "No key", "Hello.")
    sent = site.send(LAPTOP, "carol@example.com", ["bob@example.org"], message, login=ALICE)

    assert delivered(site).added == []
    assert not site.message_record(sent.queue_id).get("signatures")


def test_newsletters_have_their_unsubscribe_fields_signed(site: Site) -> None:
    """The List-Unsubscribe fields are signed (RFC 8058 section 4), and From once more than it is there."""
    message = compose(
        "news@example.org",
        "somebody@example.net",
        "News",
        "Much.",
        "List-Unsubscribe: <https://example.org/u/1>",
        "List-Unsubscribe-Post: List-Unsubscribe=One-Click",
    )
    site.send(LAPTOP, "news@example.org", ["somebody@example.net"], message, login=ALICE)

    for value in read_delivered(site.postfix.next_message(OUTSIDE)).values("DKIM-Signature"):
        names = re.sub(r"\s", "", dict(re.findall(r"(\w+)=([^;]*)", value))["h"]).lower().split(":")
        assert {"list-unsubscribe", "list-unsubscribe-post"} <= set(names)
        assert names.count("from") == 2


# -- what comes in many shapes ------------------------------------------------------------------------------


def test_internationalised_addresses_pass_in_and_out(site: Site) -> None:
    """UTF-8 in the envelope and in From (RFC 6531, RFC 6532) is checked and signed like any other."""
    message = compose("Jürgen <jürgen@example.org>", "bob@example.org", "Grüße", "Ümläute.")
    site.send(LAPTOP, "jürgen@example.org", ["bob@example.org"], message, login=ALICE, parameters="SMTPUTF8")
    assert delivered(site).added == ["DKIM-Signature", "DKIM-Signature"]

    outsider = compose("bäcker@bank.example", "bob@example.org", "Brötchen", "Guten Morgen")
    server = Client("192.0.2.25", "mail.bank.example")
    site.send(server, "bäcker@bank.example", ["bob@example.org"], outsider, parameters="SMTPUTF8")
    [field] = delivered(site).values("Authentication-Results")
    assert "spf=pass" in field
    assert "dmarc=pass" in field


def test_octets_that_are_no_utf8_do_no_harm(site: Site) -> None:
    """Latin-1 in From and Subject, undeclared: delivered as it was, with a result that says something."""
    message = b"From: J\xfcrgen <j@list.example>\r\nSubject: Gr\xfc\xdfe \xff\r\n\r\nH\xe4\r\n"
    site.send(Client("203.0.113.9", "h\u00e4.example"), "j@list.example", ["bob@example.org"], message)

    arrived = delivered(site)
    assert arrived.added == ["Authentication-Results"]
    assert arrived.rest == message.replace(b"\r\n", b"\n")


def test_messages_of_one_session_know_nothing_of_each_other(site: Site, bank: OutsideDomain) -> None:
    """A message after one that passed and one that was given up has results and a record of its own."""
    passes = bank.sign(compose("alerts@bank.example", "bob@example.org", "One", "1"))
    crooked = compose("crook@crook.example", "bob@example.org", "Two", "2")
    with site.session(bank.server) as session:
        session.mail("alerts@bank.example", ["bob@example.org"], passes)
        session.envelope("alerts@bank.example", ["bob@example.org"])
        session.command("RSET")
        replies = session.mail("crook@crook.example", ["bob@example.org"], crooked)

    record = site.message_record(parse_replies(replies, 1).queue_id)
    assert record["sender"] == "crook@crook.example"
    assert record["author_domain"] == "crook.example"
    assert results_of(record) == {"spf": "none", "dkim": "none", "dmarc": "none"}
    fields = [field for _ in range(2) for field in delivered(site).values("Authentication-Results")]
    assert ["dmarc=pass" in field for field in fields] == [True, False]
