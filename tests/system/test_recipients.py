"""Where rules send mail: redirect, bcc and filter as a real Postfix carries them out, by both doors."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.daemons import Engine
from tests.lab.delivered import read_delivered
from tests.lab.outside import compose
from tests.lab.site import Site
from tests.lab.smtp import Client

OUTSIDER = Client("192.0.2.44", "mail.example.net")
RULES = """
at rcpt {
    moved:    redirect "alice@example.org"    if sender is "moved@example.net"
    copied:   bcc "alice@example.org"         if sender is "copied@example.net"
    marked:   add-header "X-Marked: yes"      if sender is "marked@example.net"
    filtered: filter "discard:here"           if sender is "filtered@example.net"
    observe unseen: redirect "nobody@example.org"
}
at end-of-message {
    late:     redirect "alice@example.org"    if sender is "late@example.net"
    also:     bcc "alice@example.org"         if sender is "also@example.net"
}
"""


@pytest.fixture(scope="module")
def site(shared_work: Path, engine: Engine) -> Iterator[Site]:
    """These rules, with each engine."""
    with Site(shared_work / engine, rules=RULES, engine=engine) as site:
        yield site


def send(site: Site, who: str, recipient: str = "bob@example.org") -> str:
    """The queue id of a message from that sender."""
    message = compose(f"{who}@example.net", recipient, "Hello", "Dear Bob")
    sent = site.send(OUTSIDER, f"{who}@example.net", [recipient], message)
    assert sent.queue_id
    return sent.queue_id


@pytest.mark.parametrize("who", ["moved", "late"])
def test_a_redirected_message_reaches_the_one_address_alone(site: Site, who: str) -> None:
    """By the policy daemon and by the milter, however the client wrote the recipient."""
    send(site, who, "Bob@EXAMPLE.org")
    arrived = site.postfix.next_message("alice@example.org")
    send(site, "plain")  # what comes next to Bob is this, and no copy of the other

    assert f"{who}@example.net".encode() in arrived
    assert b"plain@example.net" in site.postfix.next_message("bob@example.org")


@pytest.mark.parametrize("who", ["copied", "also"])
def test_a_copied_message_reaches_both(site: Site, who: str) -> None:
    """The recipient and the copy."""
    send(site, who)

    for mailbox in ("alice@example.org", "bob@example.org"):
        assert f"{who}@example.net".encode() in site.postfix.next_message(mailbox)


def test_a_field_is_prepended(site: Site) -> None:
    """PREPEND at RCPT stands in the delivered message."""
    send(site, "marked")

    assert read_delivered(site.postfix.next_message("bob@example.org")).values("X-Marked") == ["yes"]


def test_a_filter_takes_the_message_out_of_its_way(site: Site) -> None:
    """Here the filter throws it away, so that the next one is the first to arrive."""
    queue_id = send(site, "filtered")
    send(site, "plain")

    assert b"plain@example.net" in site.postfix.next_message("bob@example.org")
    assert site.record_wait(lambda one: one.get("queue_id") == queue_id)["event"] == "message"
