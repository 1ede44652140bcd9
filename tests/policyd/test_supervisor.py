from __future__ import annotations

import os
import pwd
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.policyd.supervising import Supervised, answer

pytestmark = pytest.mark.system


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Supervised]:
    supervised = Supervised(tmp_path)
    yield supervised
    supervised.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_serves_and_stops_cleanly(daemon: Supervised, number: signal.Signals) -> None:
    """The socket is there while it serves and gone afterwards, and the exit status is 0."""
    daemon.start("one")
    word, pid, _ = daemon.ask()

    assert word == "one"
    assert daemon.process is not None
    assert pid != daemon.process.pid
    daemon.signal(number)
    assert daemon.ended() == 0
    assert not daemon.path.exists()


def test_an_open_connection_is_answered_to_its_end_when_all_processes_are_signalled(
    daemon: Supervised,
) -> None:
    """Ctrl-C and service managers signal workers too: they leave it to the parent, and drain."""
    daemon.start("one")
    with daemon.connect() as client:
        assert answer(client)[0] == "one"
        assert daemon.process is not None
        os.killpg(daemon.process.pid, signal.SIGINT)

        assert client.recv(100) == b""
    assert daemon.ended() == 0


def test_a_bad_configuration_at_the_first_start_ends_with_78(daemon: Supervised) -> None:
    """EX_CONFIG, and the operator reads what is wrong."""
    daemon.start("one", broken=True)

    assert daemon.ended() == os.EX_CONFIG
    assert any("config.json:word: is broken" in line for line in daemon.seen)


def test_workers_that_cannot_start_end_the_first_start(daemon: Supervised) -> None:
    """A configuration that only the worker finds wrong is wrong all the same."""
    daemon.start("one", cannot_start=True, workers=2)

    assert daemon.ended() == os.EX_CONFIG
    assert not daemon.path.exists()


def test_an_address_in_use_ends_with_78(daemon: Supervised) -> None:
    """Two daemons do not share a socket."""
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(daemon.path))
        other.listen()
        daemon.start("one")

        assert daemon.ended() == os.EX_CONFIG
    assert daemon.path.exists()


def test_a_reload_serves_with_the_new_configuration(daemon: Supervised) -> None:
    """New connections meet new workers; the old ones answer what they hold and end."""
    daemon.start("one", workers=2)
    _, old, _ = daemon.ask()
    daemon.configure("two", workers=2)
    daemon.signal(signal.SIGHUP)
    daemon.wait_for("the last worker with the old configuration has ended")

    word, new, _ = daemon.ask()
    assert (word, new == old) == ("two", False)
    daemon.signal(signal.SIGTERM)
    assert daemon.ended() == 0


def test_a_bad_configuration_leaves_the_old_workers_in_place(daemon: Supervised) -> None:
    """It is said, and nothing changes."""
    daemon.start("one")
    before = daemon.ask()
    daemon.configure("two", broken=True)
    daemon.signal(signal.SIGHUP)
    daemon.wait_for("the old configuration stays in force")

    assert daemon.ask() == before


def test_new_workers_that_cannot_start_leave_the_old_ones_in_place(daemon: Supervised) -> None:
    """The old ones retire only when the new ones serve."""
    daemon.start("one")
    before = daemon.ask()
    daemon.configure("two", cannot_start=True)
    daemon.signal(signal.SIGHUP)
    daemon.wait_for("the old one stays in force")

    assert daemon.ask() == before


def test_a_changed_listen_address_asks_for_a_restart(daemon: Supervised, tmp_path: Path) -> None:
    """The rest of the new configuration is taken."""
    daemon.start("one")
    daemon.configure("two", listen=str(tmp_path / "other"))
    daemon.signal(signal.SIGHUP)
    daemon.wait_for("takes effect at the next restart")
    daemon.wait_for("the last worker with the old configuration has ended")

    assert daemon.ask()[0] == "two"


def test_a_dead_worker_is_replaced(daemon: Supervised) -> None:
    """Connections wait in the socket meanwhile."""
    daemon.start("one")
    _, pid, _ = daemon.ask()
    os.kill(pid, signal.SIGKILL)
    daemon.wait_for("died (signal 9)")

    word, new, _ = daemon.ask()
    assert (word, new == pid) == ("one", False)


def test_workers_end_when_their_parent_is_killed(daemon: Supervised) -> None:
    """Nobody would reload or stop them; every worker notices, whichever was forked last."""
    daemon.start("one", workers=3)
    daemon.signal(signal.SIGKILL)
    for _ in range(3):
        daemon.wait_for("the parent process is gone")

    assert daemon.ended() == -signal.SIGKILL


def test_a_worker_that_does_not_finish_in_time_ends_itself(daemon: Supervised) -> None:
    """The drain is bounded."""
    daemon.start("one", stuck=True, drain_seconds=0.05)
    daemon.signal(signal.SIGTERM)
    daemon.wait_for("not finished after 0.05 seconds")

    assert daemon.ended() == 0


def is_running(pid: int) -> bool:
    """Not stopped, that is: "T" in the third field of proc(5)'s stat, behind the name in parentheses."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "T"


def test_a_worker_that_does_not_even_listen_is_killed(daemon: Supervised) -> None:
    """A stopped process, or one that hangs in C: the parent has the last word."""
    daemon.start("one", drain_seconds=0.0)
    worker = daemon.ask()[1]
    os.kill(worker, signal.SIGSTOP)
    while is_running(worker):
        pass  # the signal comes when it comes
    daemon.signal(signal.SIGTERM)
    daemon.wait_for("retiring for too long: killed")

    assert daemon.ended() == 0


def test_a_second_signal_stops_at_once(daemon: Supervised) -> None:
    """An operator who does not want to wait does not have to."""
    daemon.start("one", stuck=True, drain_seconds=3000.0)
    daemon.signal(signal.SIGTERM)
    daemon.wait_for("finishing what is under way")
    daemon.signal(signal.SIGTERM)
    daemon.wait_for("stopping at once")

    assert daemon.ended() == 0


def test_signals_that_come_while_it_ends_do_not_change_its_exit_status(daemon: Supervised) -> None:
    """A service manager that is impatient, or Ctrl-C held down."""
    daemon.start("one")
    assert daemon.process is not None
    while daemon.process.poll() is None:
        daemon.process.send_signal(signal.SIGTERM)

    assert daemon.ended() == 0


def test_a_reload_before_it_listens_is_done_once_it_can_be(daemon: Supervised) -> None:
    """The configuration may have changed since it was read."""
    daemon.start("one", hup_while_loading=True)

    assert any("reading the configuration anew" in line for line in daemon.seen)
    assert daemon.ask()[0] == "one"
    daemon.signal(signal.SIGTERM)
    assert daemon.ended() == 0


def test_sigusr1_has_every_worker_reopen_its_files(daemon: Supervised) -> None:
    """After logrotate."""
    daemon.start("one", workers=2)
    daemon.signal(signal.SIGUSR1)
    daemon.wait_for("one reopens")
    daemon.wait_for("one reopens")


def test_root_becomes_the_configured_user(daemon: Supervised, tmp_path: Path) -> None:
    """Before the first worker is forked; who is not root stays who he is."""
    nobody = pwd.getpwnam("nobody").pw_uid
    if os.geteuid() == 0:
        for folder in (tmp_path, *tmp_path.parents[:2]):
            folder.chmod(0o755)
    daemon.start("one", user="nobody")

    assert daemon.ask()[2] == (nobody if os.geteuid() == 0 else os.geteuid())
    assert daemon.path.stat().st_uid == (nobody if os.geteuid() == 0 else os.geteuid())


def test_an_unknown_user_is_a_mistake_of_the_operator(daemon: Supervised) -> None:
    """It is named, and nothing starts."""
    daemon.start("one", user="no-such-user-here")

    assert daemon.ended() == os.EX_CONFIG
    assert any("no user 'no-such-user-here'" in line for line in daemon.seen)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: who is not root becomes nobody else")
def test_an_account_that_cannot_be_taken_leaves_no_socket(daemon: Supervised) -> None:
    """A container may forbid setuid: told as the operator's matter, and what was bound is gone."""
    daemon.start("one", forbidden=True)

    assert daemon.ended() == os.EX_CONFIG
    assert any("cannot become 'nobody'" in line for line in daemon.seen)
    assert not any("Traceback" in line for line in daemon.seen)
    assert not daemon.path.exists()


@pytest.mark.parametrize(
    ("changed", "said"), [({"socket_mode": 0o600}, "socket_mode"), ({"user": "root"}, "user or group")]
)
def test_what_a_reload_cannot_change_is_said(daemon: Supervised, changed: dict[str, Any], said: str) -> None:
    """The socket is bound and the account taken once: the operator learns that a restart is needed."""
    daemon.start("one")
    daemon.configure("two", **changed)
    daemon.signal(signal.SIGHUP)

    assert said in daemon.wait_for("takes effect at the next restart")
    daemon.wait_for("serves with the new configuration")


# -- workers that hang or have done enough ------------------------------------------------------------


def test_a_worker_that_hangs_is_killed_and_replaced(daemon: Supervised) -> None:
    """It lives and answers nobody: only who is asked, and does not answer, can be known to hang."""
    daemon.start("one", hung_after_seconds=0.2)
    hanging = daemon.ask()[1]
    os.kill(hanging, signal.SIGSTOP)
    daemon.wait_for(f"worker {hanging} has not answered for 0.2 seconds: killed")

    assert daemon.ask()[1] != hanging


def test_a_worker_whose_loop_hangs_is_killed_although_its_threads_live(daemon: Supervised) -> None:
    """The thread that hears the parent is not the one that serves."""
    daemon.configure("one", hung_after_seconds=0.2, deaf=True)
    daemon.begin()

    daemon.wait_for("has not answered for 0.2 seconds: killed")
    daemon.wait_for("died (signal 9)")


def test_a_parent_that_was_stopped_kills_nobody(daemon: Supervised) -> None:
    """Ctrl-Z and fg: workers were not asked meanwhile, and have nothing to answer for."""
    daemon.start("one", hung_after_seconds=0.2)
    worker = daemon.ask()[1]
    assert daemon.process is not None
    daemon.signal(signal.SIGSTOP)
    while is_running(daemon.process.pid):
        pass
    with pytest.raises(subprocess.TimeoutExpired):
        daemon.process.wait(0.5)  # longer than a worker may be silent
    daemon.signal(signal.SIGCONT)
    daemon.signal(signal.SIGUSR1)
    daemon.wait_for("one reopens")

    assert daemon.ask()[1] == worker
    assert not any("killed" in line for line in daemon.seen)


def test_a_worker_that_has_done_enough_is_replaced_and_finishes_what_it_holds(daemon: Supervised) -> None:
    """Another serves first; a connection that the old one has is answered until it retires."""
    daemon.start("one", most_served=3)
    with daemon.connect() as client:
        first = [answer(client)[1] for _ in range(3)]
        while client.recv(100):
            pass  # closed by the retiring worker, which is when another serves
    daemon.wait_for("another took its place")

    assert len(set(first)) == 1
    assert daemon.ask()[1] != first[0]
    assert not any("died" in line for line in daemon.seen)


def meet(daemon: Supervised, word: str) -> socket.socket:
    """A connection to a worker that answers so."""
    client = daemon.connect()
    while answer(client)[0] != word:
        client.close()
        client = daemon.connect()
    return client


def test_a_worker_that_has_done_enough_before_its_generation_serves_goes_with_it(daemon: Supervised) -> None:
    """New workers that are given up leave none behind, whatever they had done by then."""
    gate = daemon.folder / "gate"
    os.mkfifo(gate)
    daemon.start("one")
    daemon.configure("two", workers=2, most_served=1, second_fails=str(gate))
    daemon.signal(signal.SIGHUP)
    with meet(daemon, "two") as client:
        daemon.wait_for("another takes its place")
        gate.write_bytes(b"now")
        daemon.wait_for("the old one stays in force")

        assert client.recv(100) == b""


def test_workers_that_have_done_enough_do_not_wait_for_one_that_does_not_come(daemon: Supervised) -> None:
    """Each goes when as many serve as should: they would add up while one of them takes long to start."""
    gate = daemon.folder / "gate"
    os.mkfifo(gate)
    daemon.start("one")
    daemon.configure("two", workers=2, most_served=1, first_waits=str(gate))
    daemon.signal(signal.SIGHUP)
    with meet(daemon, "two") as client:
        serving = {answer(client)[1]}
        while len(serving) < 3:
            word, pid, _ = daemon.ask()
            serving |= {pid} if word == "two" else set()

        assert client.recv(100) == b""
    gate.write_bytes(b"now")
    daemon.wait_for("serves with the new configuration at")


def test_a_worker_that_has_grown_is_replaced(daemon: Supervised) -> None:
    """Memory is a bound, too."""
    daemon.start("one", most_memory_bytes=150 << 20, hoards=200 << 20)
    first = daemon.ask()[1]
    daemon.wait_for("MB of memory: another takes its place")
    daemon.wait_for(f"worker {first} has ended, another took its place")

    assert daemon.ask()[1] != first


def test_a_worker_that_needs_more_than_it_may_from_its_start_is_told_and_stays(daemon: Supervised) -> None:
    """Its replacement would be replaced, for ever."""
    daemon.configure("one", most_memory_bytes=1)
    daemon.begin()
    daemon.wait_for("MB from the start")

    assert daemon.ask()[0] == "one"


# -- in a terminal ------------------------------------------------------------------------------------


def test_in_a_terminal_workers_have_process_groups_of_their_own(daemon: Supervised) -> None:
    """Ctrl-C and Ctrl-Z are for the parent; it tells its workers what it thinks right."""
    daemon.configure("one")
    master, terminal = os.openpty()
    daemon.begin(stdin=terminal)
    daemon.wait_for("listens at")
    worker = daemon.ask()[1]

    assert daemon.process is not None
    assert os.getpgid(worker) == worker
    os.killpg(daemon.process.pid, signal.SIGINT)  # what the terminal does for Ctrl-C
    assert daemon.ended() == 0
    os.close(master)
    os.close(terminal)
