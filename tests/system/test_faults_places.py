"""A full disk, a record that cannot be written, files that are gone: mail goes on as configured."""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from mailreeve_policyd.limits_outage import LAST_RETRY_SECONDS
from tests.lab.daemons import Daemon, Engine
from tests.lab.delivered import read_delivered
from tests.lab.keys import SigningKeys
from tests.lab.outside import compose
from tests.lab.process import wait_until
from tests.lab.site import ALICE, LAPTOP, Sent, Site
from tests.lab.work import work_folder

FEW = "at rcpt {\n    few: limit 3 recipients/hour per sasl_username\n}\n"
COUNTING = "at rcpt {\n    hour: limit 1000 recipients/hour per sasl_username\n}\n"
STAYS = "the old configuration stays in force"
NO_LIMIT = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)


def submit(site: Site) -> Sent:
    """A message of alice to bob."""
    message = compose("alice@example.org", "bob@example.org", "Hello", "Hi.")
    return site.send(LAPTOP, "alice@example.org", ["bob@example.org"], message, login=ALICE)


def is_signed(site: Site) -> bool:
    """Does the next delivered message bear our signatures?"""
    delivered = read_delivered(site.postfix.next_message("bob@example.org"))
    return delivered.added == ["DKIM-Signature"] * 2


@pytest.fixture(scope="module")
def site(our_keys: SigningKeys, engine: Engine) -> Iterator[Site]:
    """One of each engine; each test leaves it as it was."""
    with work_folder() as folder, Site(folder, rules=COUNTING, keys=our_keys, engine=engine) as site:
        yield site


def processes(site: Site) -> list[int]:
    return [pid for daemon in (site.milter, site.policyd) for pid in (daemon.pid, *daemon.workers)]


def fill_the_disk(site: Site) -> None:
    """Let no file of the daemons grow, be it store, record or log (RLIMIT_FSIZE)."""
    for pid in processes(site):
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))


def make_room(site: Site) -> None:
    """Let files grow again."""
    for pid in processes(site):
        resource.prlimit(pid, resource.RLIMIT_FSIZE, NO_LIMIT)


def test_with_a_full_disk_mail_is_counted_signed_and_delivered(
    work: Path, our_keys: SigningKeys, engine: Engine
) -> None:
    """Neither record nor store can be written: the limit holds all the same; with room both are again."""
    with Site(work, rules=FEW, keys=our_keys, engine=engine) as site:
        workers = site.milter.workers + site.policyd.workers
        fill_the_disk(site)
        codes = [submit(site).recipients[0].code for _ in range(4)]
        assert codes == [250, 250, 250, 450], "the limit counts in memory meanwhile"
        assert all(is_signed(site) for _ in range(3))
        assert site.records() == []

        make_room(site)
        site.policyd.wait_for_text("the limit store on this machine is back", LAST_RETRY_SECONDS)
        sent = submit(site)
        assert len(site.message_record(sent.queue_id)["signatures"]) == 2
        assert not site.record_wait(lambda one: one["daemon"] == "policyd").get("degraded")
        assert site.milter.workers + site.policyd.workers == workers


def test_a_record_on_a_full_device_stops_no_mail(work: Path, our_keys: SigningKeys, engine: Engine) -> None:
    """/dev/full: each line fails, mail is signed and delivered, and the log says it once."""
    full = {"audit": {"file": "/dev/full"}}
    with Site(work, rules=COUNTING, keys=our_keys, engine=engine, settings=full) as site:
        for _ in range(3):
            assert submit(site).queue_id
            assert is_signed(site)
        assert site.milter.text().count("the record cannot be written") == 1


def test_a_record_whose_place_is_taken_is_written_again_when_it_is_free(site: Site) -> None:
    """A folder in the file's place, by a mistake in rotating: mail goes on, and at last the record does."""
    site.message_record(submit(site).queue_id)
    assert is_signed(site)
    site.audit.rename(site.audit.with_suffix(".1"))
    site.audit.mkdir()
    for _ in range(2):
        assert submit(site).queue_id
        assert is_signed(site)

    site.audit.rmdir()
    wait_until(lambda: bool(submit(site).queue_id) and bool(site.records()), "it is recorded again")


def says_again(daemon: Daemon, times: int) -> bool:
    return daemon.text().count(STAYS) > times


@pytest.mark.parametrize("name", ["rules", "mailreeve.toml"])
def test_files_that_are_gone_leave_the_old_configuration_in_force(site: Site, name: str) -> None:
    """Mail goes on; SIGHUP says what is missing; a worker that dies comes back with what was read."""
    file = site.folder / name
    kept = file.read_bytes()
    file.unlink()
    try:
        for daemon in (site.milter, site.policyd):
            workers, said = daemon.workers, daemon.text().count(STAYS)
            daemon.hup()
            wait_until(partial(says_again, daemon, said), "it is said")
            assert daemon.workers == workers
            assert str(file) in daemon.text()
        assert submit(site).queue_id
    finally:
        file.write_bytes(kept)
    for daemon in (site.milter, site.policyd):
        daemon.reload()
    assert submit(site).queue_id


def make_sparse(path: Path) -> None:
    """A gigabyte of nothing."""
    path.touch()
    os.truncate(path, 1 << 30)


STANDING_IN: dict[str, Callable[[Path], object]] = {
    "a folder": os.mkdir,
    "a pipe that nobody fills": os.mkfifo,
    "a device without end": lambda path: path.symlink_to("/dev/zero"),
    "a link to itself": lambda path: path.symlink_to(path.name),
    "a gigabyte": make_sparse,
    "half of it": lambda path: path.write_text("at rcpt {\n    half: rej"),
}


@pytest.mark.parametrize("name", ["rules", "mailreeve.toml"])
def test_what_stands_in_the_place_of_a_file_is_told_and_changes_nothing(site: Site, name: str) -> None:
    """At SIGHUP, one after the other: nobody waits for it, reads it whole, or goes on without it."""
    file = site.folder / name
    kept = file.with_suffix(".kept")
    file.rename(kept)
    workers = {daemon: daemon.workers for daemon in (site.milter, site.policyd)}
    try:
        for make in STANDING_IN.values():
            make(file)
            for daemon in workers:
                said = daemon.text().count(STAYS)
                daemon.hup()
                wait_until(partial(says_again, daemon, said), "it is said")
            assert submit(site).queue_id
            file.rmdir() if file.is_dir() else file.unlink()
    finally:
        kept.rename(file)
    assert {daemon: daemon.workers for daemon in workers} == workers


def test_signals_that_come_in_storms_leave_one_daemon_that_serves(site: Site) -> None:
    """Hundreds to read anew and to reopen: as many generations as needed, mail between them, none left."""
    for _ in range(100):
        for daemon in (site.milter, site.policyd):
            daemon.send(signal.SIGHUP)
            daemon.send(signal.SIGUSR1)
    assert submit(site).queue_id
    for daemon in (site.milter, site.policyd):
        daemon.reload()
        wait_until(lambda: len(daemon.workers) == 1, "one generation is left")  # noqa: B023
        assert "Traceback" not in daemon.text()
    assert submit(site).queue_id


def test_a_daemon_that_is_told_to_end_while_it_reloads_ends(
    work: Path, our_keys: SigningKeys, engine: Engine
) -> None:
    """SIGTERM in the middle of it, and again: it ends with 0, and leaves no socket behind."""
    site = Site(work, rules=COUNTING, keys=our_keys, engine=engine)
    with site.without_postfix():
        for daemon in (site.milter, site.policyd):
            for _ in range(3):
                daemon.send(signal.SIGHUP)
            daemon.send(signal.SIGTERM)
            daemon.send(signal.SIGTERM)
            assert daemon.wait_ended() == 0
            assert "Traceback" not in daemon.text()
        assert not list(site.folder.glob("*.sock"))


def test_workers_that_die_without_their_files_come_back(site: Site) -> None:
    """Whoever replaces them has what their parent read, and needs neither rules, configuration nor keys."""
    hidden = site.folder / "hidden"
    hidden.mkdir()
    names = ("rules", "mailreeve.toml", "keys")
    for name in names:
        (site.folder / name).rename(hidden / name)
    try:
        for daemon in (site.milter, site.policyd):
            before = daemon.workers
            os.kill(before[0], signal.SIGKILL)
            wait_until(lambda: daemon.workers not in ([], before), "another worker")  # noqa: B023
        wait_until(lambda: bool(submit(site).queue_id), "mail is taken")
        assert is_signed(site)
    finally:
        for name in names:
            (hidden / name).rename(site.folder / name)
        hidden.rmdir()
