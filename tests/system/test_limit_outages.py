"""The real policy daemon while what it counts in goes away and comes back: Redis, the machine's own file."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import pytest

from mailreeve_policyd.limits_open import FILE_NAME
from mailreeve_policyd.limits_outage import LAST_RETRY_SECONDS
from tests.lab.daemons import Daemon, Engine
from tests.lab.policy import PolicyClient
from tests.lab.process import wait_until
from tests.lab.record_schema import check_file
from tests.lab.redis import Cluster, Redis, Sentinels
from tests.lab.site import Site, format_toml
from tests.milterd.miltertalk import MilterTalk

RULES = """
at rcpt {
    usual:  limit 2 recipients/hour per sasl_username           if not policy_context
    local:  limit 2 recipients/hour per sasl_username on-unavailable local   if policy_context is "local"
    open:   limit 2 recipients/hour per sasl_username on-unavailable open    if policy_context is "open"
    closed: limit 2 recipients/hour per sasl_username on-unavailable closed  if policy_context is "closed"
}
"""
AWAY = "the limit store in Redis is away"
BACK = "the limit store in Redis is back"
PASS, FULL, LATER = "DUNNO", "DEFER_IF_PERMIT 4.7.1", "DEFER_IF_PERMIT 4.3.0"

_number = count()


class Counting:
    """`mailreeve policyd` with these limits, and who asks it."""

    def __init__(self, folder: Path, **limits: object) -> None:
        self.state = folder / "state"
        self.state.mkdir(exist_ok=True)
        self.audit = folder / "audit.jsonl"
        address = f"unix:{folder}/policy.sock"
        settings = {
            "rules": "rules",
            "state_dir": str(self.state),
            "policyd": {"listen": [address]},
            "limits": limits,
            "audit": {"to": "file", "file": str(self.audit)},
        }
        (folder / "mailreeve.toml").write_text(format_toml(settings))
        (folder / "rules").write_text(RULES)
        self.address = address
        self.daemon = Daemon("policyd", folder / "mailreeve.toml", folder)

    def ask(self, login: str, context: str = "") -> str:
        """The first two words of the answer about a new message of this login, or its only one."""
        instance = f"{os.getpid():x}.{next(_number):x}"
        with PolicyClient(self.address) as client:
            answer = client.ask(
                instance=instance,
                sasl_username=login,
                recipient="bob@example.net",
                policy_context=context,
            )
        return " ".join(answer.split()[:2])

    def is_degraded(self) -> bool:
        """Was the latest request decided without the store?"""
        last = self.audit.read_bytes().splitlines()[-1]
        return bool(json.loads(last).get("degraded", False))

    def said(self, text: str) -> int:
        """How often the daemon wrote this."""
        return self.daemon.text().count(text)


@contextmanager
def counting(folder: Path, **limits: object) -> Iterator[Counting]:
    """The daemon, running."""
    site = Counting(folder, **limits)
    with site.daemon:
        yield site
    check_file(site.audit)


def in_redis(server: Redis, **limits: object) -> dict[str, object]:
    """[limits] for this Redis."""
    return {"store": "redis", "redis_url": server.url, "redis_timeout_seconds": 0.3, **limits}


@pytest.mark.parametrize(
    ("setting", "answers"),
    [
        ("local", [PASS, PASS, FULL]),
        ("open", [PASS, PASS, PASS]),
        ("closed", [LATER, LATER, LATER]),
    ],
)
def test_each_limit_does_what_it_says_and_else_what_the_setting_says(
    work: Path, setting: str, answers: list[str]
) -> None:
    """While Redis is away; each such record says `degraded`. When it is back, it counts again by itself."""
    as_told = {"local": [PASS, PASS, FULL], "open": [PASS] * 3, "closed": [LATER] * 3}
    with Redis(work) as server, counting(work, **in_redis(server, on_unavailable=setting)) as site:
        assert [site.ask("before") for _ in range(3)] == [PASS, PASS, FULL]
        assert not site.is_degraded()
        server.kill()

        assert [site.ask("usual") for _ in range(3)] == answers
        assert site.is_degraded()
        for word, expected in as_told.items():
            assert [site.ask(word, word) for _ in range(3)] == expected
            assert site.is_degraded()

        server.start()
        site.daemon.wait_for_text(BACK, LAST_RETRY_SECONDS)
        assert [site.ask("usual") for _ in range(3)] == [PASS, PASS, FULL]
        assert not site.is_degraded()
        assert [site.said(AWAY), site.said(BACK)] == [1, 1]


def test_a_redis_that_hangs_is_asked_once_and_not_for_each_request(work: Path) -> None:
    """The first request waits for the timeout, the others go on at once; it comes back by itself."""
    with Redis(work) as server, counting(work, **in_redis(server, redis_timeout_seconds=2.0)) as site:
        site.ask("anybody")
        server.send(signal.SIGSTOP)
        assert [site.ask("bob") for _ in range(3)] == [PASS, PASS, FULL]
        assert site.is_degraded()
        slow = [spent for spent in _seconds_spent(site) if spent > 1.5]
        assert len(slow) == 1

        server.send(signal.SIGCONT)
        site.daemon.wait_for_text(BACK, LAST_RETRY_SECONDS)
        assert site.ask("bob") == PASS
        assert not site.is_degraded()


def _seconds_spent(site: Counting) -> list[float]:
    records = [json.loads(line) for line in site.audit.read_bytes().splitlines()]
    return [sum(record["spent_ms"].values()) / 1000 for record in records]


def test_a_failover_by_sentinels_is_seen_by_the_daemon(work: Path) -> None:
    """The master dies; mail goes on, and the replica counts on where the master was."""
    with Sentinels(work) as sentinels:
        limits = in_redis(sentinels.master, redis_url="redis://mymaster", redis_sentinels=sentinels.addresses)
        with counting(work, **limits) as site:
            assert site.ask("bob") == PASS
            wait_until(
                lambda: sentinels.replica.ask("DBSIZE") == sentinels.master.ask("DBSIZE"), "it follows"
            )
            sentinels.master.kill()
            assert site.ask("alice") == PASS
            site.daemon.wait_for_text(BACK, LAST_RETRY_SECONDS)

            assert [site.ask("bob") for _ in range(2)] == [PASS, FULL]
            assert not site.is_degraded()


def test_a_cluster_without_one_of_its_masters(work: Path) -> None:
    """Logins whose limits it had are counted by the machine, all others where they were."""
    logins = [f"user{number}" for number in range(12)]
    with Cluster(work) as cluster:
        cluster.replica.kill()
        limits = in_redis(cluster.masters[0], redis_cluster=cluster.addresses[1:])
        with counting(work, **limits) as site:
            assert {site.ask(login) for login in logins} == {PASS}
            cluster.masters[0].kill()
            degraded = set()
            for login in logins:
                assert site.ask(login) == PASS
                degraded.add(site.is_degraded())
                answer = site.ask(login)
                assert answer == (PASS if site.is_degraded() else FULL)

    assert degraded == {True, False}
    assert site.said("the part of the limit store in Redis that was at") == 1


# -- the machine's own file --------------------------------------------------------------------------------


def test_a_damaged_file_is_no_outage_of_mail(work: Path) -> None:
    """Each process counts for itself and says so once; when the file is removed it counts there again."""
    site = Counting(work)
    file = site.state / FILE_NAME
    file.write_bytes(b"no database at all, but long enough to look like one" * 100)
    with site.daemon:
        assert [site.ask("bob") for _ in range(3)] == [PASS, PASS, FULL]
        assert site.is_degraded()
        assert site.said("the limit store on this machine is away") == 1
        assert "file is not a database" in site.daemon.text()

        file.unlink()
        site.daemon.wait_for_text("the limit store on this machine is back", LAST_RETRY_SECONDS)
        assert [site.ask("bob") for _ in range(3)] == [PASS, PASS, FULL]
        assert not site.is_degraded()


AT_MILTER = """
at rcpt {{
    few: limit 2 recipients/hour per sender spoofable on-unavailable {word}
}}
at end-of-message {{
    day: limit 2 messages/hour per client_address on-unavailable {word}  if client_address in 192.0.2.0/24
}}
"""


@pytest.mark.parametrize(
    ("word", "taken", "refusal"), [("local", 2, "451 4.7.1"), ("open", 3, ""), ("closed", 0, "451 4.3.0")]
)
def test_the_milter_does_so_too_while_redis_hangs_or_is_away(
    work: Path, engine: Engine, word: str, taken: int, refusal: str
) -> None:
    """Its limits, at RCPT and at the end of a message, which waits in its own thread; back without help."""
    site = Site(
        work,
        rules=AT_MILTER.format(word=word),
        engine=engine,
        store="redis",
        settings={
            "milter": {"decides": ["rcpt", "end-of-message"]},
            "policyd": {"decides": []},
            "limits": {"redis_timeout_seconds": 0.3},
        },
    )
    expected = [""] * taken + [refusal] * (3 - taken)
    with site.without_postfix():
        assert site.redis is not None
        assert [at_milter(site, "before") for _ in range(3)] == ["", "", "451 4.7.1"]

        site.redis.send(signal.SIGSTOP)
        assert [at_milter(site, "hangs") for _ in range(3)] == expected
        at_end = [at_milter(site, f"other{number}", "192.0.2.7") for number in range(3)]
        assert at_end == expected
        assert site.records()[-1]["degraded"]
        site.redis.send(signal.SIGCONT)
        site.milter.wait_for_text(BACK, LAST_RETRY_SECONDS)

        site.redis.kill()
        assert [at_milter(site, "gone") for _ in range(3)] == expected
        site.redis.start()
        wait_until(lambda: site.milter.text().count(BACK) == 2, "it is back", LAST_RETRY_SECONDS)
        assert [at_milter(site, "after") for _ in range(3)] == ["", "", "451 4.7.1"]
        assert not site.records()[-1].get("degraded", False)


def at_milter(site: Site, sender: str, client: str = "198.51.100.9") -> str:
    """What the milter refused a message with, as two words; nothing if it was taken."""
    with MilterTalk(site.milter_address) as talk:
        talk.connect("mail.bank.example", client)
        talk.helo("mail.bank.example")
        talk.mail(f"<{sender}@bank.example>")
        answer = talk.rcpt("<bob@example.org>")
        if answer is None or answer.command == "c":
            talk.data()
            talk.header(b"From", b" ann@bank.example")
            talk.end_of_headers()
            talk.body(b"Dear Bob\r\n")
            answer = talk.end_of_message()[-1]
    return " ".join(answer.data.decode().split()[:2]) if answer.command == "y" else ""
