"""The lines that the documentation gives to paste, run by a real Postfix as they stand."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.daemons import Engine
from tests.lab.process import wait_until
from tests.lab.site import ALICE, LAPTOP, SHIPPED_RULES, Record, Site
from tests.lab.smtp import Client
from tests.lab.tree import REPOSITORY

MAIN_CF = REPOSITORY / "contrib/postfix/main.cf"
CONFIGURATION = REPOSITORY / "contrib/postfix/mailreeve.toml"
STRANGER = Client("192.0.2.10", "mail.example.net")
PRINTER = Client("198.51.100.7", "printer.example.org")
MESSAGE = b"From: alice@example.org\r\nSubject: Lines to paste\r\n\r\nHello.\r\n"

# What Postfix has where main.cf says nothing (postconf -d smtpd_relay_restrictions).
RELAY_DEFAULT = "permit_mynetworks, permit_sasl_authenticated, defer_unauth_destination"


def parse_main_cf(text: str) -> dict[str, str]:
    """Parameters by name; a line that begins with white space goes on with the one before."""
    joined = re.sub(r"\n[ \t]+", " ", "\n".join(line for line in text.splitlines() if line[:1] != "#"))
    pairs = (line.split("=", 1) for line in joined.splitlines() if line.strip())
    return {name.strip(): value.strip() for name, value in pairs}


@pytest.fixture(scope="module")
def site(shared_work: Path, engine: Engine) -> Iterator[Site]:
    """A site whose Postfix has the lines of contrib/postfix, and its own default for relaying."""
    lines = parse_main_cf(MAIN_CF.read_text())
    work = shared_work / engine
    work.mkdir()
    folder = work / "postfix/q/mailreeve"
    site = Site(
        work,
        rules=SHIPPED_RULES,
        engine=engine,
        settings={
            "policyd": {"listen": [f"unix:{folder}/policy.sock"]},
            "milter": {"listen": f"unix:{folder}/milter.sock"},
        },
        main=lines,
        outside={
            "smtpd_milters": lines["smtpd_milters"],
            "smtpd_recipient_restrictions": lines["smtpd_recipient_restrictions"],
            "smtpd_relay_restrictions": RELAY_DEFAULT,
        },
        submission={  # as Debian's sample of master.cf, but for the line that we give
            "smtpd_milters": lines["smtpd_milters"],
            "smtpd_relay_restrictions": "",
            "smtpd_recipient_restrictions": "$mua_recipient_restrictions",
        },
    )
    folder.mkdir()
    with site:
        yield site


def decisions(site: Site) -> list[Record]:
    """What the policy daemon was asked and recorded."""
    return [record for record in site.records() if record["daemon"] == "policyd"]


def test_everybody_who_may_send_is_asked_about(site: Site) -> None:
    """A stranger to us, our network and a login to the world: taken, and known to both daemons."""
    before = len(decisions(site))
    for client, sender, recipient, login in (
        (STRANGER, "carol@example.net", "bob@example.org", None),
        (PRINTER, "printer@example.org", "somebody@example.net", None),
        (LAPTOP, "alice@example.org", "somebody@example.net", ALICE),
    ):
        message = MESSAGE.replace(b"alice@example.org", sender.encode())
        sent = site.send(client, sender, [recipient], message, login=login)
        site.message_record(sent.queue_id)

    wait_until(lambda: len(decisions(site)) >= before + 3, "the records of three questions")
    asked = [record["client"]["address"] for record in decisions(site)[before:]]
    assert asked == [STRANGER.address, PRINTER.address, LAPTOP.address]


def test_a_stranger_relays_nothing_and_nobody_is_asked(site: Site) -> None:
    """Postfix refuses it by smtpd_relay_restrictions, before our list."""
    before = decisions(site)
    sent = site.send(STRANGER, "carol@example.net", ["somebody@example.com.example"], MESSAGE)

    assert sent.recipients[0].code == 454
    assert decisions(site) == before


def test_mail_of_the_sendmail_command_passes_the_milter(site: Site) -> None:
    """non_smtpd_milters has it seen, and it is our own."""
    site.postfix.sendmail("cron@example.org", ["bob@example.org"], MESSAGE.replace(b"\r\n", b"\n"))

    record = site.record_wait(lambda found: found.get("sender") == "cron@example.org")
    assert record["verdict"]["rule"] == "own-mail"


def test_a_login_runs_into_its_limit(site: Site) -> None:
    """The list of the submission service asks before it permits the login."""
    site.write_rules("at rcpt { one: limit 1 recipients/day per sasl_username }")
    site.policyd.reload()
    first = site.send(LAPTOP, "alice@example.org", ["x@example.net"], MESSAGE, login=ALICE)
    second = site.send(LAPTOP, "alice@example.org", ["y@example.net"], MESSAGE, login=ALICE)

    assert first.recipients[0].code == 250
    assert second.recipients[0].enhanced == "4.7.1"


@pytest.mark.parametrize("page", ["README.md", "docs/postfix-policy.md", "docs/milter.md"])
def test_the_pages_say_what_the_file_says(page: str) -> None:
    """Each parameter of contrib/postfix/main.cf that a page gives is given with the same value."""
    ours = parse_main_cf(MAIN_CF.read_text())
    text = (REPOSITORY / page).read_text()
    blocks = [block.replace("\n    ", "\n") for block in re.findall(r"(?:\n    .*)+", text)]
    given = {name: value for block in blocks for name, value in _parameters(block).items() if name in ours}

    assert given
    for name, value in given.items():
        assert re.sub(r"\s+", " ", value) == re.sub(r"\s+", " ", ours[name]), name


def _parameters(block: str) -> dict[str, str]:
    lines = [line for line in block.splitlines() if line.strip() and not line.startswith(("[", "#"))]
    if not lines or not all(line[:1] == " " or "=" in line for line in lines):
        return {}
    return parse_main_cf("\n".join(lines))


def test_the_configuration_to_copy_is_one() -> None:
    """contrib/postfix/mailreeve.toml has known options alone, and its sockets lie where main.cf looks."""
    settings = tomllib.loads(CONFIGURATION.read_text())
    lines = parse_main_cf(MAIN_CF.read_text())

    queue_folder = "unix:/var/spool/postfix/"
    assert settings["milter"]["listen"].removeprefix(queue_folder) == lines["smtpd_milters"].removeprefix(
        "unix:"
    )
    (policy,) = settings["policyd"]["listen"]
    assert f"unix:{policy.removeprefix(queue_folder)}" in lines["smtpd_recipient_restrictions"]
