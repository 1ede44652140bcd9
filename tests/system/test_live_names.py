"""Sets and tables that change while the real policy daemon runs: in a real Redis, and in files."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.daemons import Daemon
from tests.lab.process import wait_until
from tests.lab.redis import Redis
from tests.policyd.mmdb import make_mmdb

RULES = """\
set   staff  = redis "staff"
set   vip    = file  "vip.txt"
table quotas = redis "quotas"
table roles  = file  "roles.csv"

at rcpt {
    vip:     accept                                      if sasl_username in vip
    bulk:    discard                                     if roles[sasl_username] is "bulk"
    far:     hold "far"                                  if client_country is "NL"
    other:   reject "5.7.1 who are you"                  if not sasl_username in staff
    day:     limit quotas[sasl_username] or 1000 recipients/day per sasl_username
}
expect continue at rcpt with sasl_username = "somebody" where staff has "somebody"
expect reject   at rcpt with sasl_username = "somebody"
"""


class Asked:
    """The policy daemon, with Redis and its files."""

    def __init__(self, work: Path) -> None:
        self.folder = work / "mailreeve"
        (self.folder / "state").mkdir(parents=True)
        self.redis = Redis(work)
        (self.folder / "mailreeve.toml").write_text(
            f'state_dir = "state"\n[policyd]\nlisten = ["unix:{self.folder}/s"]\n'
            f'[audit]\nto = "file"\nfile = "audit.jsonl"\n'
            f'[live]\nredis_url = "{self.redis.url}"\n[geoip]\ncountry = "country.mmdb"\n'
        )
        (self.folder / "rules").write_text(RULES)
        for name in ("vip.txt", "roles.csv"):
            (self.folder / name).write_text("")
        (self.folder / "country.mmdb").write_bytes(make_mmdb({}))
        self.daemon = Daemon("policyd", self.folder / "mailreeve.toml", work)

    def answer(self, login: str, instance: str = "") -> str:
        """The action for a recipient of this login."""
        request = (
            f"request=smtpd_access_policy\nprotocol_state=RCPT\ninstance={instance}\n"
            f"client_address=192.0.2.1\nrecipient=x@example.net\nsasl_username={login}\n\n"
        )
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(30)
            client.connect(str(self.folder / "s"))
            client.sendall(request.encode())
            return client.recv(1000).decode().split()[0].removeprefix("action=")

    def becomes(self, login: str, action: str) -> None:
        """Ask until the answer is this."""
        wait_until(lambda: self.answer(login) == action, f"{login} gets {action}", 30)

    def put(self, name: str, content: bytes) -> None:
        """A file in the place of another, as `mv` does."""
        (self.folder / "new").write_bytes(content)
        (self.folder / "new").rename(self.folder / name)


@pytest.fixture(scope="module")
def asked(shared_work: Path) -> Iterator[Asked]:
    """Running, with Redis."""
    found = Asked(shared_work)
    with found.redis, found.daemon:
        yield found


def test_what_redis_is_told_holds_without_a_reload(asked: Asked) -> None:
    """A set, and a quota in a table; a wrong quota is told in the log and counts as the default."""
    assert asked.answer("bob") == "REJECT"
    asked.redis.ask("SADD mailreeve:set:staff bob")
    asked.becomes("bob", "DUNNO")
    asked.redis.ask('HSET mailreeve:table:quotas bob "0 recipients/day"')
    asked.becomes("bob", "REJECT")
    asked.redis.ask("HSET mailreeve:table:quotas bob lots")
    asked.becomes("bob", "DUNNO")
    asked.daemon.wait_for_text("the table quotas in Redis, under bob: `lots` is no limit")


def test_files_are_read_again_while_mail_comes(asked: Asked) -> None:
    """A set, a table and where clients are; a wrong one leaves the old one, and is told."""
    assert asked.answer("eve") == "REJECT"
    asked.put("roles.csv", b"ann\n")
    asked.daemon.wait_for_text("roles.csv:1: `ann` is no entry of a table")
    asked.put("roles.csv", b"ann,bulk\n")
    asked.put("vip.txt", b"eve\n")
    asked.put("country.mmdb", make_mmdb({"192.0.2.0/24": {"country": {"iso_code": "NL"}}}))
    asked.becomes("ann", "DISCARD")
    asked.becomes("eve", "DUNNO")
    asked.becomes("zoe", "HOLD")
    asked.put("country.mmdb", make_mmdb({}))
    asked.becomes("zoe", "REJECT")


def test_an_outage_of_redis_defers_what_needs_it_and_nothing_else(asked: Asked) -> None:
    """By the rule's on-unknown; when Redis is back it is asked again, by itself."""
    asked.redis.ask("SADD mailreeve:set:staff bob")
    asked.becomes("bob", "DUNNO")
    asked.redis.stop()
    asked.becomes("bob", "DEFER_IF_PERMIT")
    assert asked.answer("eve") == "DUNNO"
    asked.daemon.wait_for_text("Redis with the sets and tables of the rules is away")
    asked.redis.start()
    asked.redis.ask("SADD mailreeve:set:staff bob")
    asked.becomes("bob", "DUNNO")
    asked.daemon.wait_for_text("Redis with the sets and tables of the rules is back")
