"""Mail of the sendmail command: never seen by a policy server, limited at end-of-message all the same."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.daemons import Engine
from tests.lab.process import LabError, wait_until
from tests.lab.site import Record, Site
from tests.lab.tree import REPOSITORY

RECIPE = (REPOSITORY / "contrib/recipes/local-mail.rules").read_text()
FORM, SHOP, WAITING, ROOT = "form@example.org", "shop@example.org", "waits@example.org", "root@mx.example.org"
MESSAGE = b"From: Visitor <visitor@example.net>\nSubject: Your form\n\nBuy!\n"
ALLOWED = 3
COMPLETE = 0o100  # the mode by which postdrop says that a file is whole

RULES = f"""
at end-of-message {{
    waiting:  limit {ALLOWED} messages/hour  per sender  else defer "4.7.1 Try again in {{retry_after}}"
                  if client_address in this_host and sender is "{WAITING}"
}}
"""


def local_senders() -> str:
    """The lines that docs/recipes.md gives, for the account of the tests in the place of the web site's."""
    page = (REPOSITORY / "docs/recipes.md").read_text()
    site, others = re.findall(r"^    (/\^.*\n)", page, re.MULTILINE)
    account: str = site.replace(SHOP, f"{FORM} {SHOP} {WAITING}").replace("www-shop", "root")
    return account + str(others)


@pytest.fixture(scope="module")
def site(shared_work: Path, engine: Engine) -> Iterator[Site]:
    """The recipe as it is shipped, with rows for two senders, and one rule that defers.

    Accounts may name no sender but those of main.cf, as docs/recipes.md says.
    """
    site = Site(
        shared_work / engine,
        rules=RECIPE + RULES,
        engine=engine,
        main={"local_login_sender_maps": f"regexp:{shared_work}/{engine}/local_senders"},
    )
    (shared_work / engine / "local_senders").write_text(local_senders())
    rows = [f"{FORM},{ALLOWED} messages/hour", f"{SHOP},1000 messages/hour"]
    (site.folder / "forms.csv").write_text("".join(f"{row}\n" for row in rows))
    with site:
        yield site


def local_records(site: Site, sender: str) -> list[Record]:
    """What was recorded of a sender's mail, first to last."""
    return [record for record in site.records() if record.get("sender") == sender]


def test_a_hacked_form_is_held_after_so_many_and_no_other(site: Site) -> None:
    """The message above the limit lies in Postfix's hold queue; another site's passes, as do those before."""
    for _ in range(ALLOWED + 1):
        site.postfix.sendmail(FORM, ["bob@example.org"], MESSAGE)
    site.postfix.sendmail(SHOP, ["alice@example.org"], MESSAGE)

    site.postfix.delivered_wait("alice@example.org")
    wait_until(lambda: len(local_records(site, FORM)) == ALLOWED + 1, "all are recorded")
    records = local_records(site, FORM)
    assert [record["verdict"]["action"] for record in records] == ["continue"] * ALLOWED + ["hold"]
    assert len(site.postfix.delivered_wait("bob@example.org", ALLOWED)) == ALLOWED
    (held,) = [entry for entry in site.postfix.queue() if entry["queue_name"] == "hold"]
    assert held["queue_id"] == records[-1]["queue_id"]
    assert held["sender"] == FORM
    assert {record["daemon"] for record in site.records()} == {"milter"}


def test_who_it_was_says_the_envelope_sender_and_nothing_else(site: Site) -> None:
    """Client 127.0.0.1 and localhost, no login; without -f the sender is the account."""
    site.postfix.sendmail(ROOT, ["alice@example.org"], MESSAGE)

    record = site.record_wait(lambda one: one.get("sender") == ROOT)
    assert record["client"] == {"address": "127.0.0.1", "name": "localhost"}
    assert record["helo"] == "localhost"
    assert "login" not in record


def test_an_account_sends_under_no_other_name(site: Site) -> None:
    """local_login_sender_maps: so no form escapes its limit by a new sender for each message."""
    with pytest.raises(LabError, match="not authorized to use sender"):
        site.postfix.sendmail("made-up@example.org", ["bob@example.org"], MESSAGE)


def test_deferred_local_mail_stays_in_maildrop_and_is_tried_again(site: Site) -> None:
    """The sendmail command ended well long ago; pickup asks anew, and each attempt is refused again."""
    for _ in range(ALLOWED + 1):
        site.postfix.sendmail(WAITING, ["carol@example.com"], MESSAGE)

    wait_until(
        lambda: [one["verdict"]["action"] for one in local_records(site, WAITING)].count("defer") >= 2,
        "pickup tries again",
        20.0,
    )
    assert len(site.postfix.delivered_wait("carol@example.com", ALLOWED)) == ALLOWED
    waiting = (site.postfix.queue_folder / "maildrop").iterdir()
    assert len([path for path in waiting if path.stat().st_mode & COMPLETE]) == 1
