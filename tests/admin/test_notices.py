"""`mailreeve notices test`: everybody is tried, and it is said what became of it."""

from __future__ import annotations

import json
import os
import pwd
from pathlib import Path

import pytest

from mailreeve_policyd.notices_mark import SECRET_FILE
from tests.admin.command import mailreeve, write_site
from tests.lab.ports import LOOPBACK
from tests.policyd.notice_services import mail_server, web_server


def test_all_are_tried_and_told_what_became_of_it(tmp_path: Path) -> None:
    """One notice to the administrator, the user and the webhook; 0 when all took it."""
    with mail_server() as mail, web_server() as web:
        text = (
            f'[notices]\nmail_to = ["root@example.org"]\nmail_user = true\nuser_domain = "example.org"\n'
            f'smtp_server = "inet:{mail.port}@{LOOPBACK}"\nwebhook_url = "{web.url}"\n'
        )
        ran = mailreeve("notices", "test", "--user", "bob", "-c", write_site(tmp_path, configuration=text))

    assert ran.status == 0, ran.err
    assert ran.out.splitlines() == [
        f"mail to root@example.org: taken ({LOOPBACK}:{mail.port}: 250 2.0.0 Ok)",
        f"mail to bob@example.org: taken ({LOOPBACK}:{mail.port}: 250 2.0.0 Ok)",
        f"webhook to {LOOPBACK}: taken (HTTP 204)",
    ]
    assert [letter.recipient for letter in mail.letters] == ["<root@example.org>", "<bob@example.org>"]
    assert json.loads(web.posted[0].body)["kind"] == "test"


def test_what_was_not_taken_ends_with_75(tmp_path: Path) -> None:
    """It is tried once, and the server's words are shown."""
    with mail_server({"rcpt": ["550 5.1.1 no such user"]}) as mail:
        text = f'[notices]\nmail_to = ["rot@example.org"]\nsmtp_server = "inet:{mail.port}@{LOOPBACK}"\n'
        ran = mailreeve("notices", "test", "-c", write_site(tmp_path, configuration=text))

    assert ran.status == 75
    assert "rot@example.org: refused" in ran.out
    assert "550 5.1.1 no such user" in ran.out


def test_nobody_to_tell_is_a_mistake(tmp_path: Path) -> None:
    """With the line that would change it."""
    ran = mailreeve("notices", "test", "-c", write_site(tmp_path))

    assert ran.status == 78
    assert "names nobody who is told" in ran.err
    assert "mail_to" in ran.err


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: files of another user")
def test_the_secret_that_is_made_is_the_daemons(tmp_path: Path) -> None:
    """Root asks, before the daemon was ever started: the daemon must be able to read it."""
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)
    with mail_server() as mail:
        text = f'[notices]\nmail_to = ["root@example.org"]\nsmtp_server = "inet:{mail.port}@{LOOPBACK}"\n'
        config = write_site(tmp_path, configuration=text)
        config.write_text('user = "nobody"\n' + config.read_text())
        nobody = pwd.getpwnam("nobody").pw_uid
        for owned in (tmp_path / "state", config):
            os.chown(owned, nobody, -1)
        ran = mailreeve("notices", "test", "-c", config)

    assert ran.status == 0, ran.err
    assert (tmp_path / "state" / SECRET_FILE).stat().st_uid == nobody
