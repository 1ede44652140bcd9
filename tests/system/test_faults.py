"""When something is away, dies, is silent or is told to stop, no mail is lost and none passes unmarked."""

import grp
import os
import pwd
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.lab.daemons import Engine
from tests.lab.delivered import read_delivered
from tests.lab.dns import SILENT
from tests.lab.keys import SigningKeys
from tests.lab.outside import OutsideDomain, compose
from tests.lab.process import LabError, wait_until
from tests.lab.site import ALICE, LAPTOP, Sent, Site, StoreName
from tests.lab.smtp import RawClient, Reply

COUNTING = "at rcpt {\n    hour: limit 100 recipients/hour per sasl_username\n}\n"
REFUSING = """
at rcpt {
    hour: limit 100 recipients/hour per sasl_username
}
at end-of-message {
    forged: reject "5.7.26 Fails DMARC" if dmarc is fail and dmarc_policy is reject and spf is fail
}
"""
BROKEN = "at rcpt {\n    oops: rejekt if sender\n}\n"
CLOSED = 'at end-of-message {\n    closed: reject "5.7.1 Closed by the new rules"\n}\n'
PROBES = 90  # more messages than pass while a worker starts, fewer than REFUSING lets pass
SECOND_RULES = 'at rcpt {\n    closed: reject "5.7.1 Closed by the new rules" if sasl_username\n}\n'
IMPATIENT = {"dns": {"timeout_seconds": 0.3, "message_budget_seconds": 0.6}}
MEGABYTE = 1024 * 1024
LARGE = compose("alerts@bank.example", "bob@example.org", "Large", "x" * 76) + (b"y" * 76 + b"\r\n") * (
    20 * MEGABYTE // 78
)
ALLOWED_GROWTH_KB = (
    6 * 1024
)  # a tenth of what holding one of these messages once would come to, with some room


@pytest.fixture
def site(work: Path, our_keys: SigningKeys, bank: OutsideDomain, engine: Engine) -> Iterator[Site]:
    """A site of its own for each test, since each breaks it."""
    site = Site(work, rules=REFUSING, keys=our_keys, engine=engine, zone=bank.zone, settings=IMPATIENT)
    with site:
        yield site


@pytest.fixture
def counting(work: Path) -> Iterator[Site]:
    """A site of its own for a test of the policy daemon, to which the milter's engine is nothing."""
    with Site(work, rules=COUNTING) as site:
        yield site


def kill(pid: int) -> None:
    """End a process without a chance to say anything."""
    os.kill(pid, signal.SIGKILL)


def peak_kilobytes(pid: int) -> int:
    """The most memory that a process ever had resident (proc(5), VmHWM)."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found
    return int(found[1])


def submit(site: Site, subject: str = "Hello") -> Sent:
    """A message of alice to bob."""
    message = compose("alice@example.org", "bob@example.org", subject, "Hi.")
    return site.send(LAPTOP, "alice@example.org", ["bob@example.org"], message, login=ALICE)


@contextmanager
def half_a_message(site: Site, sender: str = "alice@example.org") -> Iterator[RawClient]:
    """A session of alice's in which DATA was answered and half of the message is sent."""
    with site.session(LAPTOP, ALICE) as session:
        assert all(reply.ok for reply in session.envelope(sender, ["bob@example.org"]))
        assert session.command("DATA").code == 354
        session.send(b"From: alice@example.org\r\nSubject: half\r\n\r\nfirst half\r\n")
        yield session


def second_half(session: RawClient) -> Reply:
    """Send the rest of `half_a_message`."""
    session.send(b"second half\r\n.\r\n")
    return session.read_reply()


# -- the milter dies ---------------------------------------------------------------------------------------


def test_a_worker_that_dies_in_a_message_defers_it_and_is_replaced(site: Site) -> None:
    """Postfix answers 4xx, the parent starts another worker, and the retry is delivered and signed."""
    [before] = site.milter.workers
    with half_a_message(site) as session:
        kill(before)
        reply = second_half(session)
    assert reply.code == 451, reply
    assert reply.enhanced == "4.7.1"

    site.milter.wait_for_text("replaced in")
    wait_until(lambda: site.milter.workers not in ([], [before]), "a new worker")
    assert submit(site).queue_id
    assert read_delivered(site.postfix.next_message("bob@example.org")).added == ["DKIM-Signature"] * 2


def test_a_worker_that_dies_while_it_judges_defers_the_message(site: Site, bank: OutsideDomain) -> None:
    """A death at end-of-message, when everything was sent, loses nothing and delivers nothing."""
    site.dns.fail("bank.example", SILENT)
    [worker] = site.milter.workers
    message = compose("alerts@bank.example", "bob@example.org", "Statement", "Dear Bob")
    with site.session(bank.server) as session:
        session.envelope("alerts@bank.example", ["bob@example.org"])
        session.command("DATA")
        session.send(message + b".\r\n")
        wait_until(lambda: site.dns.count("bank.example") > 0, "the milter asks DNS")
        kill(worker)
        assert session.read_reply().code == 451
    assert site.postfix.delivered("bob@example.org") == []
    assert site.postfix.queue() == []


def test_a_milter_that_dies_with_all_its_processes_starts_again(site: Site) -> None:
    """Parent and worker killed in a message: 4xx; the socket file that they left hinders no new start."""
    with half_a_message(site) as session:
        site.milter.kill()
        assert second_half(session).code == 451
    with pytest.raises(LabError, match=r"454 4\.3\.0 Try again later"):  # milter_default_action = tempfail
        submit(site)

    site.milter.start()
    assert submit(site).queue_id
    assert read_delivered(site.postfix.next_message("bob@example.org")).added == ["DKIM-Signature"] * 2


def test_workers_end_with_their_parent(site: Site) -> None:
    """A parent that is killed leaves no worker behind, and the message that one holds is finished first."""
    [worker] = site.milter.workers
    with half_a_message(site) as session:
        kill(site.milter.pid)
        site.milter.wait_for_text("the parent process is gone")
        assert second_half(session).ok
    wait_until(lambda: not Path(f"/proc/{worker}").exists(), "the worker ends")


# -- the policy daemon and the store -----------------------------------------------------------------------


def test_without_the_policy_daemon_mail_waits_and_is_counted_once(counting: Site) -> None:
    """Postfix answers 451 4.3.5 while it is away; the retry is accepted, and one recipient was counted."""
    counting.policyd.kill()
    refused = submit(counting).recipients[0]
    assert (refused.code, refused.enhanced) == (451, "4.3.5")

    counting.policyd.start()
    assert submit(counting).queue_id
    record = counting.record_wait(lambda one: one["daemon"] == "policyd")
    assert [(limit["rule"], limit["used"]) for limit in record["limits"]] == [("hour", 1)]


def test_policy_workers_end_with_their_parent(counting: Site) -> None:
    """A parent that is killed leaves none behind: mail waits, and is counted once when there is one again."""
    workers = counting.policyd.workers
    kill(counting.policyd.pid)
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers), "the workers end")
    refused = submit(counting).recipients[0]
    assert (refused.code, refused.enhanced) == (451, "4.3.5")

    counting.policyd.start()
    assert submit(counting).queue_id
    record = counting.record_wait(lambda one: one["daemon"] == "policyd")
    assert [(limit["rule"], limit["used"]) for limit in record["limits"]] == [("hour", 1)]


def test_a_message_asked_about_from_two_lists_is_counted_once(work: Path) -> None:
    """Postfix asks in smtpd_sender_restrictions and at the recipient; one recipient is counted."""
    both = {"smtpd_sender_restrictions": f"check_policy_service unix:{work}/mailreeve/policy.sock"}
    with Site(work, rules=COUNTING, submission=both) as site:
        for _ in range(2):
            assert submit(site).queue_id
        asked = [one for one in site.records() if one["daemon"] == "policyd"]
        assert len(asked) == 4
        assert max(limit["used"] for one in asked for limit in one.get("limits", [])) == 2


@pytest.mark.parametrize("store", ["sqlite", "redis"])
def test_a_recipient_above_a_limit_is_refused_alone(work: Path, store: StoreName) -> None:
    """The third of three recipients is deferred at RCPT; the message goes to the other two."""
    rules = "at rcpt {\n    few: limit 2 recipients/hour per sasl_username\n}\n"
    recipients = ["bob@example.org", "carol@example.com", "alice@example.org"]
    message = compose("alice@example.org", "bob@example.org", "To all", "Hi.")
    with Site(work, rules=rules, store=store) as site:
        sent = site.send(LAPTOP, "alice@example.org", recipients, message, login=ALICE)
        assert [reply.code for reply in sent.recipients] == [250, 250, 450]
        assert sent.recipients[2].enhanced == "4.7.1"
        for mailbox in recipients[:2]:
            assert site.postfix.next_message(mailbox)
        assert site.message_record(sent.queue_id)["recipients"] == recipients[:2]
        site.postfix.wait_empty()
        assert site.postfix.delivered(recipients[2]) == []


def test_without_redis_the_machine_counts_itself_and_says_so(work: Path) -> None:
    """Mail goes on under the same limit, its records are marked; when Redis is back it counts again."""
    rules = "at rcpt {\n    few: limit 2 recipients/hour per sasl_username\n}\n"
    with Site(work, rules=rules, store="redis") as site:
        assert site.redis
        site.redis.kill()
        codes = [submit(site).recipients[0].code for _ in range(3)]
        assert codes == [250, 250, 450]
        assert all(one.get("degraded") for one in site.records() if one["daemon"] == "policyd")

        site.redis.start()
        wait_until(lambda: submit(site).recipients[0].ok, "Redis counts again")
        assert not site.record_wait(lambda one: one["daemon"] == "policyd").get("degraded")


# -- DNS ---------------------------------------------------------------------------------------------------


def test_silent_dns_is_a_temporary_error_and_defers_only_what_a_rule_asks_for(
    site: Site, bank: OutsideDomain
) -> None:
    """With a reject rule on DMARC the message waits (4xx); without one it is delivered, marked temperror."""
    for name in ("bank.example", "mail.bank.example", "_dmarc.bank.example", "s1._domainkey.bank.example"):
        site.dns.fail(name, SILENT)
    message = bank.sign(compose("alerts@bank.example", "bob@example.org", "Statement", "Dear Bob"))
    waits = site.send(bank.server, "alerts@bank.example", ["bob@example.org"], message)
    assert waits.end is not None
    assert waits.end.code // 100 == 4, waits.end

    site.write_rules(COUNTING)
    site.milter.reload()
    sent = site.send(bank.server, "alerts@bank.example", ["bob@example.org"], message)
    results = site.message_record(sent.queue_id)["results"]
    assert {one["method"]: one["result"] for one in results} == dict.fromkeys(
        ("spf", "dkim", "dmarc"), "temperror"
    )
    [field] = read_delivered(site.postfix.next_message("bob@example.org")).values("Authentication-Results")
    assert "=fail" not in field
    assert field.count("=temperror") == len(results)


# -- told to read again, told to stop ----------------------------------------------------------------------


def test_new_rules_take_force_at_sighup_and_broken_ones_never(counting: Site) -> None:
    """A broken file is told with its place and the old rules stay; a right one decides the next message."""
    counting.write_rules(BROKEN)
    counting.policyd.hup()
    counting.policyd.wait_for_text("the old configuration stays in force")
    assert "rules:2:" in counting.policyd.text()
    assert "reject" in counting.policyd.text()
    assert submit(counting).queue_id

    counting.write_rules(SECOND_RULES)
    counting.policyd.reload()
    [refused] = submit(counting).recipients
    assert str(refused).startswith("554 5.7.1")
    assert "Closed by the new rules" in refused.text


def test_a_message_under_way_ends_under_the_rules_that_it_began_with(site: Site) -> None:
    """SIGHUP in a message: the old worker takes and signs it; the next session meets the new rules."""
    [before] = site.milter.workers
    probe = compose("alice@example.org", "carol@example.com", "Probe", "Hi.")
    with half_a_message(site) as session:
        site.write_rules(CLOSED)
        site.milter.hup()
        replies: list[Reply | None] = []  # the old worker takes sessions until the new one serves
        while not replies or (replies[-1] and replies[-1].ok and len(replies) < PROBES):
            sent = site.send(LAPTOP, "alice@example.org", ["carol@example.com"], probe, login=ALICE)
            replies.append(sent.end)
        assert str(replies[-1]).startswith("550 5.7.1 Closed by the new rules")
        assert before in site.milter.workers
        assert second_half(session).ok
    assert read_delivered(site.postfix.next_message("bob@example.org")).added == ["DKIM-Signature"] * 2
    wait_until(lambda: before not in site.milter.workers, "the old worker ends")


def test_sigterm_lets_the_milter_finish_what_it_holds(site: Site) -> None:
    """The message under way is taken, signed and delivered; then the daemon ends with 0."""
    with half_a_message(site) as session:
        site.milter.send(signal.SIGTERM)
        site.milter.wait_for_text("stopping")
        assert second_half(session).ok
        session.command("QUIT")
    assert site.milter.wait_ended() == 0
    assert read_delivered(site.postfix.next_message("bob@example.org")).added == ["DKIM-Signature"] * 2


def test_sigterm_does_not_wait_for_ever(work: Path, engine: Engine) -> None:
    """An open session that says nothing holds both daemons no longer than drain_seconds; they end with 0."""
    site = Site(work, rules=COUNTING, engine=engine, settings={"drain_seconds": 0.5})
    with site, half_a_message(site):
        for daemon in (site.milter, site.policyd):
            daemon.send(signal.SIGTERM)
        assert [daemon.wait_ended(5.0) for daemon in (site.milter, site.policyd)] == [0, 0]


# -- as a user of its own, and memory ----------------------------------------------------------------------


def test_both_daemons_drop_root_and_do_their_work(work: Path, our_keys: SigningKeys, engine: Engine) -> None:
    """With `user` set no process of theirs is root's; mail is counted, signed and recorded all the same.

    Nor have they another group than `group`, or a right of root's; `socket_group` has the sockets.
    """
    settings = {
        "user": "nobody",
        "group": "games",
        "milter": {"socket_group": "mail", "socket_mode": "0666"},
        "policyd": {"socket_group": "mail", "socket_mode": "0666"},
    }
    with Site(work, rules=COUNTING, keys=our_keys, engine=engine, settings=settings) as site:
        user, group = pwd.getpwnam("nobody").pw_uid, grp.getgrnam("games").gr_gid
        for daemon in (site.milter, site.policyd):
            for pid in (daemon.pid, *daemon.workers):
                assert rights_of(pid) == {
                    "Uid": {str(user)},
                    "Gid": {str(group)},
                    "Groups": {str(group)},
                    "CapEff": {f"{0:016x}"},
                }
        for name in ("milter.sock", "policy.sock"):
            assert (site.folder / name).group() == "mail"
        record = site.message_record(submit(site).queue_id)
        assert len(record["signatures"]) == 2
        asked = site.record_wait(lambda one: one["daemon"] == "policyd")
        assert [limit["used"] for limit in asked["limits"]] == [1]
        assert "running as root" not in site.milter.text() + site.policyd.text()


def rights_of(pid: int) -> dict[str, set[str]]:
    """What /proc/PID/status says of a process' accounts and rights."""
    lines = (line.split() for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    wanted = ("Uid:", "Gid:", "Groups:", "CapEff:")
    return {line[0].rstrip(":"): set(line[1:]) for line in lines if line[0] in wanted}


def test_large_messages_are_never_held_whole(site: Site, bank: OutsideDomain) -> None:
    """Verifying and signing 20 MB, several times, takes no more memory than a small message does."""
    [worker] = site.milter.workers
    small = bank.sign(compose("alerts@bank.example", "bob@example.org", "Small", "x"))
    site.send(bank.server, "alerts@bank.example", ["bob@example.org"], small)
    submit(site)
    before = peak_kilobytes(worker)

    signed = bank.sign(LARGE)
    for _ in range(2):
        sent = site.send(bank.server, "alerts@bank.example", ["bob@example.org"], signed)
        dkim = [
            one["result"] for one in site.message_record(sent.queue_id)["results"] if one["method"] == "dkim"
        ]
        assert dkim == ["pass"]
    ours = LARGE.replace(b"alerts@bank.example", b"alice@example.org")
    sent = site.send(LAPTOP, "alice@example.org", ["bob@example.org"], ours, login=ALICE)
    assert len(site.message_record(sent.queue_id)["signatures"]) == 2

    assert site.milter.workers == [worker]
    assert peak_kilobytes(worker) - before < ALLOWED_GROWTH_KB
