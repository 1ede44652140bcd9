"""`mailreeve limits`: what an administrator sees and orders while mail flows, in both stores."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mailreeve_admin.limits_words import format_order, order_object
from mailreeve_policyd.audit_administration import Administered
from mailreeve_policyd.config import load_configuration
from mailreeve_policyd.facts import Door
from mailreeve_policyd.launch import load_rules
from mailreeve_policyd.limits_admin import Order, OrderKind
from mailreeve_policyd.limits_open import open_store
from mailreeve_policyd.policy import Policy
from mailreeve_policyd.smtp import Stage
from mailreeve_policyd.verdict import Verdict
from tests.admin.command import Ran, mailreeve, write_site
from tests.lab.record_schema import check_file
from tests.lab.redis import Redis
from tests.lab.tree import REPOSITORY
from tests.lab.work import work_folder
from tests.policyd.rules_text import moment

RULES = """\
table quotas = file "quotas.csv"
at rcpt {
    minute:  limit 4 recipients/minute per sasl_username
    day:     limit quotas[sasl_username] or 10 recipients/day per sasl_username
    net:     limit 20 recipients/hour per client_address  if not sasl_username
    both:    limit 50 recipients/hour per sasl_username, client_address
    inbound: limit 100 recipients/hour per recipient
    fan:     limit 3 distinct client_address/hour per sasl_username else hold "fan"
}
"""


@dataclass(frozen=True, slots=True)
class Site:
    """A configuration with rules, and daemons that have these in force."""

    config: Path
    folder: Path

    def run(self, *words: str) -> Ran:
        """`mailreeve limits WORDS`."""
        return mailreeve("limits", *words, "--config", self.config)

    def told(self, *words: str) -> Any:
        """What it says to programs."""
        ran = self.run(*words, "--json")
        assert ran.status == 0, ran.err
        return json.loads(ran.out)

    def send(self, count: int = 1, login: str | None = "bob", **given: Any) -> Verdict:
        """Mail to so many recipients, by a daemon of its own; the last answer."""
        configuration = load_configuration(self.config)
        store = open_store(configuration)
        policy = Policy(load_rules(configuration), store, Door.POLICY)
        given.setdefault("recipient", "ann@example.net")
        for _ in range(count):
            verdict = policy.decide(moment(Stage.RCPT, instance=None, login=login, **given))
        store.close()
        return verdict

    def records(self) -> list[dict[str, Any]]:
        """The lines of the record, all as the schema says."""
        check_file(self.folder / "audit.jsonl")
        return [json.loads(line) for line in (self.folder / "audit.jsonl").read_text().splitlines()]


def make_site(folder: Path, store: str) -> Site:
    """A site whose limits are in this store."""
    (folder / "quotas.csv").write_text("carol,500 recipients/day\n")
    audit = '[audit]\nto = "file"\nfile = "audit.jsonl"\n'
    return Site(write_site(folder, RULES, audit + store), folder)


@pytest.fixture(scope="module")
def redis_server() -> Iterator[Redis]:
    """One for all tests here, which begin with an empty one."""
    with work_folder() as work, Redis(work) as server:
        yield server


@pytest.fixture(params=["sqlite", pytest.param("redis", marks=pytest.mark.system)])
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Site:
    """The same on both stores."""
    if request.param == "sqlite":
        return make_site(tmp_path, "")
    server: Redis = request.getfixturevalue("redis_server")
    server.ask("FLUSHALL")
    return make_site(tmp_path, f'[limits]\nstore = "redis"\nredis_url = "{server.unix_url}"\n')


def test_show_says_used_and_maximum_of_every_limit_of_a_key(site: Site) -> None:
    """Each rule that counts by such a key, with when that frees; nothing is counted by asking."""
    site.send(4)

    for _ in range(2):
        limits = site.told("show", "bob")["limits"]
        assert [(each["rule"], each["used"], each["maximum"]) for each in limits] == [
            ("minute", 4, 4),
            ("day", 4, 10),
            ("fan", 1, 3),
        ]
    assert 0 < limits[0]["frees_in_seconds"] <= 61
    assert limits[1]["frees_in_seconds"] is None
    assert 86_000 < limits[1]["empty_in_seconds"] <= 88_000
    out = site.run("show", "bob").out
    assert "minute: 4 of 4 recipients/minute per sasl_username; FULL, the next fits in 1 minute" in out


def test_a_key_is_written_as_the_administrator_knows_it(site: Site) -> None:
    """Without case, IPv6 as its network, several facts with a comma; a table's row is that of the key."""
    site.send(3, login="Bob", client="2001:db8::1")
    site.send(2, login=None, client="2001:db8::2")

    assert site.told("show", "BOB")["limits"][0]["used"] == 3
    (net,) = site.told("show", "2001:db8::9")["limits"]
    assert (net["rule"], net["key"], net["used"]) == ("net", "2001:db8::/64", 2)
    (both,) = site.told("show", "bob,2001:db8::9")["limits"]
    assert (both["rule"], both["used"]) == ("both", 3)
    assert [each["maximum"] for each in site.told("show", "carol")["limits"]] == [4, 500, 3]


def test_top_names_who_is_near_or_over(site: Site) -> None:
    """The nearest first, with everything that one needs to ask further."""
    site.send(5)
    site.send(2, login="ann")
    site.send(1, login="eve")

    rows = [(row["rule"], row["key"], row["used"], row["maximum"]) for row in site.told("top")]

    assert rows == [("minute", "bob", 4, 4), ("minute", "ann", 2, 4)]
    assert site.told("top", "--rule", "day") == []
    assert "100%  4 of 4 recipients/minute  minute  bob (sasl_username)" in site.run("top").out
    assert [row["key"] for row in site.told("top", "-n", "1")] == ["bob"]


def test_a_reset_frees_at_once(site: Site) -> None:
    """Of one limit or of all that count the key; others keep theirs."""
    site.send(4)
    site.send(4, login="ann")
    assert site.send().rule == "minute"

    assert "minute: 4 of 4 recipients/minute freed" in site.run("reset", "bob", "--rule", "minute").out

    assert site.send().rule is None
    assert [each["used"] for each in site.told("show", "bob")["limits"]] == [1, 5, 1]
    site.run("reset", "bob", "--reason", "it was a newsletter")
    assert [each["used"] for each in site.told("show", "bob")["limits"]] == [0, 0, 0]
    assert site.told("show", "ann")["limits"][0]["used"] == 4
    assert site.records()[-1]["reason"] == "it was a newsletter"


def test_a_blocked_login_is_refused_and_told_nothing(site: Site) -> None:
    """5.7.1 in words that give nothing away; its own mail is still received; unblocked it sends again."""
    ran = site.run("block", "bob", "--reason", "hacked: phishing from 203.0.113.9")
    assert ran.status == 0
    assert "minute refuses it at rcpt" in ran.out

    verdict = site.send()

    assert str(verdict.reply) == "550 5.7.1 Refused by local policy"
    assert [limit.blocked for limit in verdict.limits] == [True, True, False, False, True]
    assert verdict.notices == ()
    assert site.send(login="ann").rule is None
    assert site.told("show", "bob")["blocks"][0]["reason"] == "hacked: phishing from 203.0.113.9"
    assert "BLOCKED" in site.run("show", "bob").out
    assert site.run("unblock", "bob").status == 0
    assert site.send().rule is None
    assert [each["used"] for each in site.told("show", "bob")["limits"]] == [1, 1, 1]


def test_an_override_holds_until_its_date(site: Site) -> None:
    """The unit may be left out; the limit is found by the period, or by its name."""
    assert site.run("override", "bob", "2/day", "--until", "7 days", "--reason", "newsletter").status == 0
    site.send(2)

    refused = site.send()

    assert (refused.rule, refused.limits[1].maximum) == ("day", 2)
    day = site.told("show", "bob")["limits"][1]
    assert (day["maximum"], day["override"]["reason"]) == (2, "newsletter")
    site.run("override", "bob", "50", "--rule", "day", "--until", "2 hours")
    assert site.send().rule is None
    (order,) = site.told("list")
    assert (order["kind"], order["rule"], order["maximum"], order["counts"]) == (
        "override", "day", 50, "recipients/day",
    )  # fmt: skip
    assert site.run("unoverride", "bob").status == 0
    assert site.told("list") == []


@pytest.mark.parametrize("poison", ["\udcff", "\x1b[31mred", "a\r\nb", "x" * 10_000, "\u202e", "a\0b"])
@pytest.mark.parametrize(
    "words",
    [
        "show @",
        "show bob --per @",
        "top --rule @",
        "reset @",
        "reset bob --per @",
        "reset bob --rule day --reason @",
        "override bob @ --until 2hours",
        "override bob 500/day --until @",
        "override bob 500/day --until 2hours --reason @",
        "override bob 500/day --until 2hours --rule @",
        "unoverride @",
        "block @ --per sasl_username",
        "block bob --per @",
        "block bob --until @",
        "block bob --per sasl_username --reason @",
        "unblock bob --per @",
    ],
)
def test_what_somebody_pastes_into_an_option_is_told_in_printable_text(
    tmp_path: Path, words: str, poison: str
) -> None:
    """It is refused, or kept and listed; the terminal gets none of it raw, nor all of what is long."""
    site = make_site(tmp_path, "")
    for ran in (site.run(*words.replace("@", poison).split(" ")), site.run("list")):
        said = ran.out + ran.err
        assert ran.status in (0, 64), said
        assert len(said) < 2000
        assert said.replace("\n", "").isprintable(), said
    recorded = site.folder / "audit.jsonl"
    assert not recorded.exists() or (site.records() and poison not in recorded.read_text())


@pytest.mark.parametrize("until", ["9999-12-31T23:59", "9999-12-31T23:59:59-12:00", "9999-12-31T00:00Z"])
def test_no_order_holds_until_a_moment_that_no_clock_can_tell(tmp_path: Path, until: str) -> None:
    """It would be listed nowhere: an order without --until holds for ever."""
    site = make_site(tmp_path, "")
    ran = site.run("block", "bob", "--per", "sasl_username", "--until", until)
    assert ran.status == 64
    assert "leave --until out" in ran.err
    assert site.told("list") == []


@pytest.mark.parametrize("until", [1e300, -1e300])
def test_what_is_in_the_store_is_told_whatever_its_moments_are(until: float) -> None:
    """Another host's clock, or another version's date, hides no order."""
    order = Order(OrderKind.BLOCK, ("sasl_username",), ("bob",), "root", until, "", until)
    assert "bob" in format_order(order)
    assert str(order_object(order)["until"]).endswith("Z")


def test_what_was_ordered_is_in_the_record_with_who_ordered_it(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kind of line of its own: behind sudo it is who called it."""
    monkeypatch.setenv("SUDO_USER", "alice")
    monkeypatch.setenv("SUDO_UID", "1000")
    site.run("block", "bob", "--until", "2 hours", "--reason", "hacked")
    site.run("unblock", "bob")
    site.run("override", "bob", "5/day", "--until", "1 day")
    site.run("reset", "bob")

    records = site.records()

    assert [each["action"] for each in records] == ["block", "unblock", "override", "reset"]
    assert {each["event"] for each in records} == {"administration"}
    assert {(each["per"][0], each["key"][0]) for each in records} == {("sasl_username", "bob")}
    assert records[0]["reason"] == "hacked"
    assert records[0]["until"].endswith("Z")
    assert (records[2]["rules"], records[2]["maximum"]) == (["day"], 5)
    assert records[3]["rules"] == ["minute", "day", "fan"]
    assert {(each["by"], each["uid"]) for each in records} <= {
        ("alice", 1000),
        (records[0]["by"], records[0]["uid"]),
    }


def test_every_key_of_the_record_is_documented() -> None:
    """docs/audit.md names what a line about an administrator holds."""
    page = (REPOSITORY / "docs" / "audit.md").read_text()
    _, section = page.split("## What administrators do")
    section, *_ = section.split("\n## ")

    assert [
        field
        for field in Administered.__struct_fields__
        if f'"{field}"' not in section and f"`{field}`" not in section
    ] == []


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("block", "bob@example.org"), "may be sasl_username (minute, day, fan), or recipient (inbound)"),
        (("block", "bob@example.org"), "say for instance --per sasl_username"),
        (("block", "bob", "--per", "sasl_usernam"), "no limit counts per sasl_usernam: limits count per"),
        (("show", "bob,ann,eve"), "no limit counts bob,ann,eve: limits count per sasl_username (minute, day"),
        (("show", ""), "is no key: write bob, 203.0.113.9, or bob,203.0.113.9"),
        (("reset", "bob", "--rule", "minut"), "there is no limit 'minut': did you mean `minute`?"),
        (("top", "--rule", "dya"), "did you mean `day`?"),
        (("override", "bob", "5", "--until", "1 day"), "say which with --rule minute"),
        (("override", "bob", "5/hour", "--rule", "day", "--until", "1 day"), "day (10 recipients/day)"),
        (("override", "bob", "5 mails/day", "--until", "1 day"), "write `messages`"),
        (("override", "bob", "many", "--until", "1 day"), "is no limit"),
        (("override", "bob", "5/day", "--until", "soon"), "is no date: write 2026-12-01"),
        (("block", "bob", "--until", "2001-01-01"), "is over already"),
        (("block", "bob", "--reason", "x" * 201), "at most 200 characters"),
        (("unblock", "bob"), "there is no block of bob: `mailreeve limits list` shows all"),
    ],
)
def test_what_means_nothing_is_told_with_what_would(
    tmp_path: Path, words: tuple[str, ...], says: str
) -> None:
    """Nothing is ordered, and the exit status is that of wrong usage."""
    site = make_site(tmp_path, "")

    ran = site.run(*words)

    assert ran.status == 64
    assert says in ran.err
    assert site.told("list") == []


def test_block_can_say_by_which_fact(tmp_path: Path) -> None:
    """Who is blocked as a login still receives mail."""
    site = make_site(tmp_path, "")

    site.run("block", "bob@example.org", "--per", "sasl_username")

    assert site.send(login="bob@example.org").rule == "minute"
    assert site.send(login="ann", recipient="bob@example.org").rule is None


@pytest.mark.parametrize("words", [("show", "bob"), ("top",), ("reset", "bob"), ("block", "bob"), ("list",)])
def test_a_store_that_is_away_is_told(tmp_path: Path, words: tuple[str, ...]) -> None:
    """Nothing is ordered on this machine alone as if it held everywhere."""
    site = make_site(tmp_path, f'[limits]\nstore = "redis"\nredis_url = "unix://{tmp_path}/none"\n')

    ran = site.run(*words)

    assert ran.status == 75
    assert ran.err.startswith("the limit store is away, nothing can be asked or ordered: Redis: ")
    assert not (tmp_path / "audit.jsonl").exists()


def test_a_running_daemon_obeys_within_two_seconds(site: Site) -> None:
    """The same process that let mail through a moment ago refuses it, without a signal or a restart."""
    configuration = load_configuration(site.config)
    store = open_store(configuration)
    policy = Policy(load_rules(configuration), store, Door.POLICY)
    bob = moment(Stage.RCPT, instance=None, login="bob", recipient="ann@example.net")
    assert policy.decide(bob).rule is None
    site.run("block", "bob")
    ordered = time.monotonic()

    while policy.decide(bob).rule is None:
        assert time.monotonic() - ordered < 30
    store.close()
