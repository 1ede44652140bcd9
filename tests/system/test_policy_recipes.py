"""A submission with login, limited by the policy daemon alone: what the client and Postfix's queue see."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.delivered import read_delivered
from tests.lab.outside import compose
from tests.lab.site import ALICE, BOB, LAPTOP, Sent, Site
from tests.lab.smtp import Client, Login
from tests.lab.tree import REPOSITORY

PLACES = (REPOSITORY / "contrib/recipes/many-places.rules").read_text()
AT_ONCE = 5  # addresses of one login in an hour, by many-places
COUNTRIES = re.compile(r"^    countries:.*?(?=^    #)", re.MULTILINE | re.DOTALL)

RULES = """
at rcpt {
    marked:   add-header "X-Sent-By: a login"  if recipient is "bob@example.org"
    few:      limit 2 recipients/hour  per sasl_username
                  else defer "4.7.1 Daily limit reached, try again in {retry_after}"
                  if sasl_username is "alice@example.org" and sender is "newsletter@example.org"
}
at end-of-message {
    volume:   limit 20000 bytes/day  per sasl_username
                  else defer "4.2.2 {used} of {maximum} octets, try again in {retry_after}"  if sasl_username
}
"""


def without_countries(rules: str) -> str:
    """The recipe without what needs a file of countries, and its expect lines."""
    return COUNTRIES.sub("", rules).partition("\nexpect")[0] + "\n"


@pytest.fixture(scope="module")
def site(shared_work: Path) -> Iterator[Site]:
    """The policy daemon decides all stages, and Postfix asks it at RCPT and at END-OF-MESSAGE."""
    asked = f"check_policy_service unix:{shared_work}/mailreeve/policy.sock"
    every_stage = ["connect", "helo", "mail", "rcpt", "data", "end-of-message"]
    site = Site(
        shared_work,
        rules=without_countries(PLACES) + RULES,
        settings={"policyd": {"decides": every_stage}, "milter": {"decides": []}},
        submission={"smtpd_end_of_data_restrictions": asked},
    )
    (site.folder / "travellers.csv").write_text("")
    with site:
        yield site


def submit(
    site: Site, login: Login, client: Client = LAPTOP, size: int = 1000, sender: str | None = None
) -> Sent:
    """A message to bob by a login from an address, so many octets long or a little more."""
    message = compose(login.user, "bob@example.org", "Hello", ("x" * 70 + "\r\n") * (size // 72))
    return site.send(client, sender or login.user, ["bob@example.org"], message, login=login)


def test_a_login_from_many_addresses_is_held_in_the_queue(site: Site) -> None:
    """HOLD at RCPT: the message from the sixth address is taken, and waits."""
    sent = [submit(site, BOB, Client(f"203.0.113.{20 + number}", "laptop")) for number in range(AT_ONCE + 1)]

    site.postfix.delivered_wait("bob@example.org", AT_ONCE)
    held = [entry["queue_id"] for entry in site.postfix.queue() if entry["queue_name"] == "hold"]
    assert held == [sent[-1].queue_id]
    record = site.record_wait(lambda one: one["verdict"]["action"] == "hold")
    assert (record["daemon"], record["login"], record["verdict"]["rule"]) == ("policyd", BOB.user, "places")


def test_a_field_is_prepended_to_what_a_login_sends(site: Site) -> None:
    """PREPEND at RCPT stands in the delivered message."""
    submit(site, BOB)

    assert read_delivered(site.postfix.next_message("bob@example.org")).values("X-Sent-By") == ["a login"]


def test_who_is_deferred_at_rcpt_is_told_how_long_to_wait(site: Site) -> None:
    """450 with the rule's text: the client keeps the message."""
    replies = [submit(site, ALICE, sender="newsletter@example.org").recipients[0] for _ in range(3)]

    assert [reply.code for reply in replies] == [250, 250, 450]
    assert re.match(
        r"4\.7\.1 <bob@example\.org>: .*: Daily limit reached, try again in 1 hour( 1 minute)?$",
        replies[-1].text,
    )


def test_octets_are_counted_when_the_message_is_there(site: Site) -> None:
    """END-OF-MESSAGE by the policy door: what was refused counts nothing, so a smaller one fits yet."""
    taken, refused = (submit(site, ALICE, size=12_000).end for _ in range(2))
    smaller = submit(site, ALICE, size=1000).end

    assert taken is not None
    assert refused is not None
    assert smaller is not None
    assert (taken.code, refused.code, smaller.code) == (250, 450, 250)
    assert re.search(r"4\.2\.2 .*\d+ of 20000 octets, try again in 1 day", refused.text)


def test_only_submission_waits_for_a_daemon_that_is_away(work: Path) -> None:
    """default_action=DUNNO lets mail from outside pass; a login is told 451, and both are limited before."""
    socket = f"unix:{work}/mailreeve/policy.sock"
    outside = f"{socket}, timeout=5s, default_action=DUNNO, policy_context=outside"
    submission = f"{socket}, timeout=30s, policy_context=submission"
    site = Site(
        work,
        rules=(REPOSITORY / "contrib/recipes/daemon-away.rules").read_text(),
        main={"smtpd_policy_service_try_limit": "1"},
        outside={"smtpd_recipient_restrictions": f"check_policy_service {{ {outside} }}"},
        submission={"smtpd_recipient_restrictions": f"check_policy_service {{ {submission} }}"},
    )
    message = compose("ann@example.net", "bob@example.org", "Hello", "Dear Bob")
    stranger = Client("192.0.2.10", "mail.example.net")
    with site:
        site.send(stranger, "ann@example.net", ["bob@example.org"], message)
        submit(site, BOB)
        limits = [record["limits"][0]["rule"] for record in site.records() if record["daemon"] == "policyd"]
        site.policyd.stop()
        passed = site.send(stranger, "ann@example.net", ["bob@example.org"], message).recipients[0]
        waits = submit(site, BOB).recipients[0]

    assert limits == ["strangers", "login-day"]
    assert passed.code == 250
    assert (waits.code, waits.text.partition(" ")[0]) == (451, "4.3.5")
