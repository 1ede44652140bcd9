from __future__ import annotations

import fcntl
import multiprocessing
import os
import socket
import stat
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest

from mailreeve_policyd.errors import ConfigError
from mailreeve_policyd.listen import (
    Address,
    InetAddress,
    Ownership,
    UnixAddress,
    bind,
    lock_of,
    parse_listen,
)
from mailreeve_policyd.privileges import Account, rights_of

TIMEOUT_SECONDS = 30.0
FILE, KEY = "mailreeve.toml", "policyd.listen"


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("unix:/run/mailreeve/policy.sock", UnixAddress(Path("/run/mailreeve/policy.sock"))),
        ("local:/run/m.sock", UnixAddress(Path("/run/m.sock"))),
        ("inet:10040@127.0.0.1", InetAddress("127.0.0.1", 10040)),
        ("inet:10040@localhost", InetAddress("localhost", 10040)),
        ("inet:127.0.0.1:10040", InetAddress("127.0.0.1", 10040)),
        ("inet:mx.example.org:10040", InetAddress("mx.example.org", 10040)),
        ("inet:[::1]:10040", InetAddress("::1", 10040)),
        ("inet:10040@[::1]", InetAddress("::1", 10040)),
        ("inet6:10040@2001:db8::1", InetAddress("2001:db8::1", 10040)),
    ],
)
def test_addresses_are_read_as_postfix_and_sendmail_write_them(text: str, address: Address) -> None:
    """Both orders of host and port, and brackets around IPv6 or not."""
    assert parse_listen(text, FILE, KEY) == address


@pytest.mark.parametrize(
    "text",
    [
        "", "unix:", "unix:relative", "unix:/" + "x" * 120, "unix:/a\0b", "/run/m.sock", "inet:",
        "inet:10040", "inet:@127.0.0.1", "inet:127.0.0.1", "inet:0@127.0.0.1", "inet:70000@127.0.0.1",
        "inet:::1:25",
        "tcp:25@127.0.0.1", "inet:a b:25", "inet:smtp@127.0.0.1",
    ],
)  # fmt: skip
def test_what_is_no_address_says_where_it_stands(text: str) -> None:
    """The operator reads file and key."""
    with pytest.raises(ConfigError) as caught:
        parse_listen(text, FILE, KEY)

    assert str(caught.value).startswith("mailreeve.toml:policyd.listen: ")


@pytest.mark.parametrize("address", [InetAddress("127.0.0.1", 25), UnixAddress(Path("/run/m.sock"))])
def test_an_address_is_written_as_it_is_read(address: Address) -> None:
    """What a log line says can be pasted into the configuration."""
    assert parse_listen(str(address), FILE, KEY) == address


def test_a_unix_socket_has_the_asked_mode_and_goes_with_its_listener(tmp_path: Path) -> None:
    """Whatever umask the daemon was started with, and nothing is left behind."""
    path = tmp_path / "s"
    before = os.umask(0o077)
    try:
        listener = bind(UnixAddress(path), Ownership(0o666))
    finally:
        os.umask(before)

    assert stat.S_IMODE(path.stat().st_mode) == 0o666
    assert listener.socket.getblocking() is False
    listener.close()
    assert not path.exists()


@pytest.mark.parametrize("mode", [0o600, 0o660, 0o606, 0o777])
def test_a_unix_socket_is_made_with_its_mode(tmp_path: Path, mode: int) -> None:
    """No file is changed by its name afterwards: another may have been put there, or a link to one."""
    path = tmp_path / "s"
    listener = bind(UnixAddress(path), Ownership(mode))

    assert stat.S_IMODE(path.lstat().st_mode) == mode
    listener.close()


def test_a_unix_socket_has_the_asked_group(tmp_path: Path) -> None:
    """One that its maker is in: the only other that who is not root may give it."""
    groups = [group for group in os.getgroups() if group != os.getegid()] or [os.getegid()]
    group = 65534 if os.geteuid() == 0 else groups[0]
    listener = bind(UnixAddress(tmp_path / "s"), Ownership(0o660, group=group))

    assert (tmp_path / "s").stat().st_gid == group
    assert (tmp_path / "s").stat().st_uid == os.geteuid()
    listener.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: to become somebody who may not")
def test_a_group_that_may_not_be_given_is_a_mistake(tmp_path: Path) -> None:
    """It says who may give which, and leaves no socket."""
    nobody = Account("nobody", 65534, 65534)
    tmp_path.chmod(0o777)
    for folder in tmp_path.parents[:2]:
        folder.chmod(0o755)
    with rights_of(nobody), pytest.raises(ConfigError, match="only to a group that it is in"):
        bind(UnixAddress(tmp_path / "s"), Ownership(0o660, group=0))

    assert not (tmp_path / "s").exists()


def test_a_socket_left_by_a_dead_daemon_is_replaced(tmp_path: Path) -> None:
    """A crash must not keep the next start from listening."""
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))

    listener = bind(UnixAddress(path))
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
    listener.close()


ROUNDS = 30
STARTS = 4


def start_at(path: Path, begin: Event, results: Queue[bool], end: Event) -> None:
    """One daemon that starts when all do, and listens to the end if it may."""
    begin.wait(TIMEOUT_SECONDS)
    try:
        listener = bind(UnixAddress(path))
    except ConfigError:
        results.put(False)
        return
    results.put(True)
    end.wait(TIMEOUT_SECONDS)
    listener.socket.close()  # as if killed: the file stays for the next round


@pytest.mark.filterwarnings(
    "ignore::DeprecationWarning"
)  # of fork beside threads, which these tests have not
def test_of_several_daemons_that_start_at_once_one_listens(tmp_path: Path) -> None:
    """Over what a dead one left: none removes the socket of another that has just begun to listen."""
    path = tmp_path / "s"
    context = multiprocessing.get_context("fork")
    for _ in range(ROUNDS):
        begin, end = context.Event(), context.Event()
        results: Queue[bool] = context.Queue()
        starts = [context.Process(target=start_at, args=(path, begin, results, end)) for _ in range(STARTS)]
        for start in starts:
            start.start()
        begin.set()
        listening = sum(results.get(timeout=TIMEOUT_SECONDS) for _ in starts)
        with socket.socket(socket.AF_UNIX) as client:
            reached = client.connect_ex(str(path))
        end.set()
        for start in starts:
            start.join(TIMEOUT_SECONDS)
        assert (listening, reached) == (1, 0)
    assert [entry.name for entry in tmp_path.iterdir()] == ["s"]


def test_while_another_daemon_is_starting_its_socket_is_left_alone(tmp_path: Path) -> None:
    """Bound and not yet listening it would look like one that a dead daemon left."""
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as starting, lock_of(path).open("w") as lock:
        starting.bind(str(path))
        fcntl.flock(lock, fcntl.LOCK_EX)

        with pytest.raises(ConfigError, match="another daemon is starting there"):
            bind(UnixAddress(path))
        starting.listen()
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))


def test_a_lock_that_a_dead_daemon_left_is_none(tmp_path: Path) -> None:
    """It was unlocked with its end."""
    path = tmp_path / "s"
    lock_of(path).touch()

    bind(UnixAddress(path)).close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
def test_a_lock_that_another_user_left_is_told(tmp_path: Path) -> None:
    """Only by its name does somebody find what to remove: it is hidden."""
    path = tmp_path / "s"
    lock_of(path).touch(0o600)
    tmp_path.chmod(0o777)
    for folder in tmp_path.parents[:2]:
        folder.chmod(0o755)
    os.seteuid(65534)
    try:
        with pytest.raises(ConfigError, match=f"Permission denied\n  hint: remove {lock_of(path)}, which"):
            bind(UnixAddress(path))
    finally:
        os.seteuid(0)


def test_who_ends_leaves_the_socket_to_who_starts(tmp_path: Path) -> None:
    """It may be the other's already."""
    path = tmp_path / "s"
    listener = bind(UnixAddress(path))
    with lock_of(path).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        listener.close()

    assert path.exists()


def test_a_socket_that_is_in_use_is_left_alone(tmp_path: Path) -> None:
    """A second daemon says so and does not take the first one's clients."""
    first = bind(UnixAddress(tmp_path / "s"))

    with pytest.raises(ConfigError, match="already running"):
        bind(UnixAddress(tmp_path / "s"))
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(tmp_path / "s"))
    first.close()


def test_a_file_that_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    """A mistyped path must not cost the operator a file."""
    path = tmp_path / "rules"
    path.write_text("precious")

    with pytest.raises(ConfigError, match="no socket"):
        bind(UnixAddress(path))
    assert path.read_text() == "precious"


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    """Most often /run/mailreeve was not made."""
    with pytest.raises(ConfigError, match="missing does not exist"):
        bind(UnixAddress(tmp_path / "missing" / "s"))


def test_a_listener_removes_no_file_but_its_own(tmp_path: Path) -> None:
    """Another daemon that took the path over keeps its socket."""
    first = bind(UnixAddress(tmp_path / "s"))
    (tmp_path / "s").unlink()
    second = bind(UnixAddress(tmp_path / "s"))
    first.close()

    assert (tmp_path / "s").exists()
    second.close()


def test_a_tcp_address_is_bound_and_a_second_time_refused() -> None:
    """Port 0 is any free one, and the listener knows which."""
    listener = bind(InetAddress("127.0.0.1", 0))
    assert isinstance(listener.address, InetAddress)
    assert listener.address.port != 0

    with pytest.raises(ConfigError, match="already running"):
        bind(listener.address)
    listener.close()


def test_a_host_that_is_not_ours_is_a_mistake_of_the_operator() -> None:
    """An address of RFC 5737 is no address of this machine."""
    with pytest.raises(ConfigError, match="cannot listen"):
        bind(InetAddress("192.0.2.1", 0))
