from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from mailreeve_policyd import metrics_catalogue as catalogue
from mailreeve_policyd.config import load_configuration
from mailreeve_policyd.errors import ConfigError
from mailreeve_policyd.metrics_daemon import LOOKED_SECONDS, addresses_of, pages_of
from mailreeve_policyd.metrics_http import Page
from mailreeve_policyd.metrics_ledger import Ledger
from tests.lab.daemons import Daemon
from tests.lab.policy import PolicyClient
from tests.lab.process import Process, wait_until
from tests.policyd.metrics_read import Exposition

pytestmark = pytest.mark.system

CONFIGURATION = """\
state_dir = "{folder}"
[policyd]
listen = ["unix:{folder}/s"]
workers = 2
[metrics]
policyd_listen = "unix:{folder}/m"
[audit]
to = "file"
file = "audit.jsonl"
"""
MILTER = """\
[milter]
listen = "unix:{folder}/milter"
[authentication]
authserv_id = "mx.example.org"
"""
RULES = """\
at rcpt {
    office: accept if client_address in 192.0.2.0/24
    burst:  limit 5 recipients/hour per sasl_username
}
"""


class Both(Process):
    """`mailreeve run`."""

    def __init__(self, folder: Path) -> None:
        config = str(folder / "mailreeve.toml")
        command = [sys.executable, "-m", "mailreeve_admin", "run", "--config", config]
        super().__init__(command, folder / "run.log", os.environ)

    def ready(self) -> bool:
        return "metrics listens at" in self.text()


def write_files(folder: Path, configuration: str = CONFIGURATION) -> Path:
    (folder / "rules").write_text(RULES)
    path = folder / "mailreeve.toml"
    path.write_text(configuration.format(folder=folder))
    return path


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    with Daemon("policyd", write_files(tmp_path), tmp_path) as running:
        running.wait_for_text("metrics listens at")
        yield running


def fetch(folder: Path, path: str) -> tuple[int, str]:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(20)
        client.connect(str(folder / "m"))
        client.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        head, _, body = b"".join(iter(lambda: client.recv(65536), b"")).partition(b"\r\n\r\n")
    return int(head.split()[1]), body.decode()


def scrape(folder: Path) -> Exposition:
    status, body = fetch(folder, "/metrics")
    assert status == 200
    return Exposition(body)


def ask(folder: Path, count: int, **attributes: str) -> None:
    """So many requests over each of eight connections at once: both workers have some."""
    with ExitStack() as stack:
        clients = [stack.enter_context(PolicyClient(f"unix:{folder}/s")) for _ in range(8)]
        for number in range(count):
            for place, client in enumerate(clients):
                client.ask(instance=f"{number}.{place}", recipient="alice@example.org", **attributes)


def has_died(folder: Path, count: int) -> bool:
    return scrape(folder).total("mailreeve_workers_died_total", daemon="policyd") == count


def all_serve(folder: Path) -> bool:
    return fetch(folder, "/readyz")[0] == 200


def test_every_request_is_counted_whoever_answered_it(daemon: Daemon, tmp_path: Path) -> None:
    """By both workers over several connections, by those that were killed, and by those before a reload."""
    office = {"daemon": "policyd", "stage": "rcpt", "action": "accept", "rule": "office"}
    ask(tmp_path, 5, client_address="192.0.2.7")
    assert scrape(tmp_path).value("mailreeve_decisions_total", **office) == 40

    serving = sorted(daemon.workers)[:2]  # forked in this order: two of policyd, then that of the metrics
    for killed, pid in enumerate(serving, 1):
        os.kill(pid, signal.SIGKILL)
        wait_until(partial(has_died, tmp_path, killed), "the death is counted")
    wait_until(lambda: all_serve(tmp_path), "others serve in their place")
    ask(tmp_path, 5, client_address="192.0.2.7")
    assert scrape(tmp_path).value("mailreeve_decisions_total", **office) == 80

    daemon.reload()
    ask(tmp_path, 5, client_address="192.0.2.7")
    ask(tmp_path, 1, sasl_username="bob")
    told = scrape(tmp_path)
    assert told.value("mailreeve_decisions_total", **office) == 120
    assert told.value("mailreeve_limits_exceeded_total", daemon="policyd", rule="burst", observed="no") == 3
    assert told.total("mailreeve_decisions_total") == 128
    assert told.value("mailreeve_duration_seconds_count", daemon="policyd", stage="rcpt") == 128
    assert told.value("mailreeve_reloads_total", outcome="ok") == 1
    assert told.value("mailreeve_workers_started_total", daemon="policyd") == 6


def test_a_failed_reload_is_seen(daemon: Daemon, tmp_path: Path) -> None:
    """It is counted, and told as long as no good one follows; all go on serving."""
    (tmp_path / "rules").write_text("at rcpt { nonsense }")
    daemon.hup()
    daemon.wait_for_text("the old configuration stays in force")
    told = scrape(tmp_path)

    assert told.value("mailreeve_reloads_total", outcome="failed") == 1
    assert told.value("mailreeve_last_reload_successful") == 0
    assert all_serve(tmp_path)
    assert fetch(tmp_path, "/healthz") == (200, "ok\n")


def test_who_serves_no_mail_is_no_matter_of_readiness(daemon: Daemon, tmp_path: Path) -> None:
    """The process of the metrics dies as others do, and is replaced; policyd does not notice."""
    before = daemon.workers
    os.kill(max(before), signal.SIGKILL)
    wait_until(lambda: max(before) not in daemon.workers and len(daemon.workers) == 3, "it is replaced")

    wait_until(lambda: all_serve(tmp_path), "it is asked again")
    told = scrape(tmp_path)
    assert told.value("mailreeve_workers_died_total", daemon="metrics") == 1
    assert told.value("mailreeve_workers", daemon="policyd", state="serving") == 2


def test_a_process_of_the_metrics_that_hangs_is_replaced(tmp_path: Path) -> None:
    """As those that serve mail are: whoever watches would be blind until the next restart."""
    path = write_files(tmp_path, "hung_after_seconds = 1.0\n" + CONFIGURATION)
    with Daemon("policyd", path, tmp_path) as running:
        running.wait_for_text("metrics listens at")
        before = running.workers
        for pid in before:
            os.kill(pid, signal.SIGSTOP)
        wait_until(lambda: not set(before) & set(running.workers), "all are replaced")
        wait_until(lambda: all_serve(tmp_path), "they serve again")


def test_metrics_switched_on_later_wait_for_a_restart(tmp_path: Path) -> None:
    """Memory for them is shared from the start; without them nothing listens and nothing is counted."""
    on, off = CONFIGURATION, CONFIGURATION.replace("policyd_listen", "#policyd_listen")
    with Daemon("policyd", write_files(tmp_path, off), tmp_path) as daemon:
        assert len(daemon.workers) == 2
        write_files(tmp_path, on)
        daemon.reload()
        daemon.wait_for_text("a changed [metrics] takes effect at the next restart")

        assert not (tmp_path / "m").exists()


# -- what is told of health, without any process -----------------------------------------------------


@pytest.fixture
def ledger() -> Iterator[Ledger]:
    made = Ledger()
    yield made
    made.close()


def set_workers(ledger: Ledger, **states: float) -> None:
    tally = ledger.open(ledger.take())
    for state, number in states.items():
        tally.numbers[tally.place(catalogue.WORKERS, "policyd", state)] = number
    tally.numbers[tally.place(catalogue.LOOKED_AT)] = 1000.0
    tally.numbers[tally.place(catalogue.STORE_AWAY, "policyd")] = 1.0


def page(ledger: Ledger, path: str, now: float = 1000.0) -> Page:
    found = pages_of(ledger, lambda: now)(path)
    assert found is not None
    return found


def test_before_the_first_worker_nothing_is_well(ledger: Ledger) -> None:
    """A container that has just started."""
    ledger.take()

    assert page(ledger, "/healthz").status == page(ledger, "/readyz").status == 503


def test_a_store_that_is_away_is_told_and_is_no_reason_to_take_mail_elsewhere(ledger: Ledger) -> None:
    """Mail goes on as `on_unavailable` says."""
    set_workers(ledger, wanted=2, serving=2, answering=1)

    assert page(ledger, "/readyz").status == 200
    assert b"policyd: the limit store is away" in page(ledger, "/readyz").body


def test_a_missing_worker_is_not_ready_but_well(ledger: Ledger) -> None:
    """One answers, another is being replaced."""
    set_workers(ledger, wanted=2, serving=1, answering=1)

    assert page(ledger, "/readyz").status == 503
    assert b"policyd: 1 of 2 workers serve" in page(ledger, "/readyz").body
    assert page(ledger, "/healthz").status == 200


def test_workers_that_do_not_answer_are_not_well(ledger: Ledger) -> None:
    """They serve, as far as anybody knows, and hang."""
    set_workers(ledger, wanted=2, serving=2, answering=0)

    assert page(ledger, "/healthz") == Page(503, b"policyd: no worker answers\n")


def test_a_parent_that_is_gone_or_hangs_is_not_well(ledger: Ledger) -> None:
    """Nobody would replace a worker."""
    set_workers(ledger, wanted=1, serving=1, answering=1)

    assert page(ledger, "/healthz", 1000.0 + LOOKED_SECONDS).status == 200
    assert page(ledger, "/healthz", 1001.0 + LOOKED_SECONDS).status == 503


def test_pages_are_read_while_others_write(ledger: Ledger) -> None:
    """Whoever asks sees whole names and numbers, and waits for nobody."""
    tally = ledger.open(ledger.take())
    ended = threading.Event()

    def write() -> None:
        for number in range(2000):
            tally.numbers[tally.place(catalogue.OBSERVED, "policyd", f"rule-{number}", "reject")] += 1.0
        ended.set()

    writer = threading.Thread(target=write)
    writer.start()
    while not ended.is_set():
        Exposition(page(ledger, "/metrics").body.decode())
    writer.join()

    assert Exposition(page(ledger, "/metrics").body.decode()).total("mailreeve_observed_total") == 2000


def test_each_daemon_has_an_address_and_both_together_have_both(tmp_path: Path) -> None:
    """Both run by themselves, or under one parent."""
    path = tmp_path / "mailreeve.toml"
    path.write_text('[metrics]\npolicyd_listen = "inet:8925@127.0.0.1"\nmilter_listen = "inet:8926@::1"\n')
    configuration = load_configuration(path)

    assert [str(one) for one in addresses_of(configuration, ["milter"])] == ["inet:8926@::1"]
    assert len(addresses_of(configuration, ["policyd", "milter"])) == 2


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('policyd_listen = "8925"', r"metrics\.policyd_listen: not an address to listen at"),
        ('milter_listen = "unix:/run/mailreeve/policy.sock"', "is that of policyd.listen"),
    ],
)
def test_an_address_that_cannot_be_is_a_mistake(tmp_path: Path, line: str, problem: str) -> None:
    """Found with all others before anything starts."""
    path = tmp_path / "mailreeve.toml"
    path.write_text(f"[metrics]\n{line}\n")

    with pytest.raises(ConfigError, match=problem):
        load_configuration(path)


def test_run_tells_both_daemons_at_one_address(tmp_path: Path) -> None:
    """They have one parent; each worker counts under the name of its daemon."""
    write_files(tmp_path, CONFIGURATION + MILTER)
    with Both(tmp_path):
        wait_until(lambda: all_serve(tmp_path), "all serve")
        ask(tmp_path, 1, client_address="192.0.2.7")
        told = scrape(tmp_path)

    assert told.total("mailreeve_decisions_total", daemon="policyd") == 8
    assert told.value("mailreeve_workers", daemon="milter", state="serving") == 1
    assert told.value("mailreeve_workers", daemon="policyd", state="serving") == 2
    assert told.value("mailreeve_errors_total", daemon="milter") == 0
