"""Real Redis servers on loopback, without persistence: one alone, behind Sentinels, as a Cluster."""

import socket
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.lab import tree
from tests.lab.ports import LOOPBACK, free_port
from tests.lab.process import Process, wait_until

SLOTS = 16384
ANSWER_SECONDS = 5.0


class Redis(Process):
    """A server on a port and a unix socket of its own, which stay the same when it is started again.

    `url` and `unix_url` are what redis-py's `from_url` takes. `program` is redis-server of the lab's tree, or
    another one that is started in the same way. What a server does it keeps in a folder `name`.
    """

    def __init__(self, work: Path, *options: str, name: str = "redis", program: str | None = None) -> None:
        folder = work / name
        folder.mkdir()
        self.folder = folder
        self.port = free_port()
        self.socket = folder / "sock"
        self.url = f"redis://{LOOPBACK}:{self.port}/0"
        self.unix_url = f"unix://{self.socket}?db=0"
        settings = ["--port", str(self.port), "--bind", LOOPBACK, "--unixsocket", str(self.socket)]
        settings += ["--save", "", "--appendonly", "no", "--dir", str(folder), "--daemonize", "no"]
        settings += ["--repl-diskless-sync-delay", "0"]  # a replica need not wait for others
        command = [program or str(tree.program("usr/bin/redis-server")), *settings, *options]
        super().__init__(command, folder / "log", tree.environment())

    def ready(self) -> bool:
        """Whether it answers PING."""
        try:
            return self.ask("PING") == "+PONG"
        except OSError:
            return False

    def ask(self, command: str) -> str:
        """The answer to one command, such as "DBSIZE" or "INFO": its first line, or the text it is of."""
        return ask(self.socket, command)


def ask(where: Path | int, command: str) -> str:
    """What a server at a unix socket or a port of loopback answers to one command; OSError if nothing."""
    family = socket.AF_INET if isinstance(where, int) else socket.AF_UNIX
    with socket.socket(family, socket.SOCK_STREAM) as connection:
        connection.settimeout(ANSWER_SECONDS)
        connection.connect((LOOPBACK, where) if isinstance(where, int) else str(where))
        connection.sendall(command.encode() + b"\r\n")
        with connection.makefile("rb") as stream:
            first = stream.readline().decode().rstrip("\r\n")
            if not first.startswith("$"):
                return first
            return stream.read(int(first[1:])).decode() if first != "$-1" else ""


class Group:
    """Servers that are started and stopped together."""

    servers: list[Redis]

    def __enter__(self) -> Self:
        try:
            with ThreadPoolExecutor() as pool:
                list(pool.map(lambda server: server.start(), self.servers))
            self.join()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def join(self) -> None:
        """Have them find each other, once they run."""

    def stop(self) -> None:
        """Stop all that run."""
        for server in self.servers:
            server.kill()  # nothing of theirs is kept, and a Cluster's nodes would wait for each other


class Sentinel(Redis):
    """A Sentinel, which finds a master down that was silent for a third of a second."""

    def __init__(self, work: Path, number: int) -> None:
        super().__init__(work, name=f"sentinel{number}")
        self.id = f"{number + 1:040x}"
        self.file = self.folder / "sentinel.conf"
        self.command = [self.command[0], str(self.file), "--sentinel"]

    def watch(self, master: Redis, replica: Redis, others: Iterable["Sentinel"]) -> None:
        """Write its file, in which it knows already whom it would find within some seconds."""
        lines = [f"port {self.port}", f"bind {LOOPBACK}", f"unixsocket {self.socket}", f"dir {self.folder}"]
        lines += [
            f"sentinel myid {self.id}",
            f"sentinel monitor mymaster {LOOPBACK} {master.port} 2",
            "sentinel down-after-milliseconds mymaster 300",
            "sentinel failover-timeout mymaster 3000",
            f"sentinel known-replica mymaster {LOOPBACK} {replica.port}",
            *(f"sentinel known-sentinel mymaster {LOOPBACK} {other.port} {other.id}" for other in others),
        ]
        self.file.write_text("\n".join(lines) + "\n")

    def knows(self) -> dict[str, str]:
        """What it knows of the master."""
        words = ask_list(self.socket, "SENTINEL MASTER mymaster")
        return dict(zip(words[::2], words[1::2], strict=True))


def ask_list(where: Path, command: str) -> list[str]:
    """As `ask`, where the answer is a list of texts."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(ANSWER_SECONDS)
        connection.connect(str(where))
        connection.sendall(command.encode() + b"\r\n")
        with connection.makefile("rb") as stream:
            count = int(stream.readline()[1:])
            return [stream.read(int(stream.readline()[1:]) + 2)[:-2].decode() for _ in range(count)]


class Sentinels(Group):
    """A master, a replica, and three Sentinels that make the replica master when the master is gone."""

    name = "mymaster"

    def __init__(self, work: Path) -> None:
        self.master = Redis(work, name="master")
        self.replica = Redis(work, "--replicaof", f"{LOOPBACK} {self.master.port}", name="replica")
        self.sentinels = [Sentinel(work, number) for number in range(3)]
        for sentinel in self.sentinels:
            others = [other for other in self.sentinels if other is not sentinel]
            sentinel.watch(self.master, self.replica, others)
        self.servers = [self.master, self.replica, *self.sentinels]

    @property
    def addresses(self) -> list[str]:
        """Those of the Sentinels."""
        return [f"{LOOPBACK}:{sentinel.port}" for sentinel in self.sentinels]

    def join(self) -> None:
        """Wait until each Sentinel sees the others and the replica, which has what the master has."""
        wait_until(lambda: all(map(self._sees_all, self.sentinels)), "the Sentinels see each other")
        wait_until(
            lambda: "master_link_status:up" in self.replica.ask("INFO replication"), "the replica follows"
        )

    def _sees_all(self, sentinel: Sentinel) -> bool:
        return sentinel.ask("SENTINEL CKQUORUM mymaster").startswith("+OK 3 usable")


class Cluster(Group):
    """Three masters, and a replica for the first, which takes over when that is gone."""

    def __init__(self, work: Path, *options: str) -> None:
        self.masters = [self._node(work, f"master{number}", options) for number in range(3)]
        self.replica = self._node(work, "replica", options)
        self.servers = [*self.masters, self.replica]
        for server in self.servers:
            (server.folder / "nodes.conf").write_text("".join(self._nodes(server)))

    def _nodes(self, reader: Redis) -> Iterator[str]:
        """The file in which a node keeps what it knows: so they need not meet, which takes seconds."""
        for number, server in enumerate(self.servers):
            flags = "myself," if server is reader else ""
            where = f"{_id(number)} {LOOPBACK}:{server.port}@{_bus(server)}"
            if server is self.replica:
                yield f"{where} {flags}slave {_id(0)} 0 0 1 connected\n"
            else:
                slots = self.slots(number)
                yield f"{where} {flags}master - 0 0 {number + 1} connected {slots[0]}-{slots[-1]}\n"
        yield "vars currentEpoch 3 lastVoteEpoch 0\n"

    def _node(self, work: Path, name: str, options: tuple[str, ...]) -> Redis:
        settings = ["--cluster-enabled", "yes", "--cluster-node-timeout", "500"]
        settings += ["--cluster-port", str(free_port()), "--cluster-require-full-coverage", "no"]
        return Redis(work, *settings, *options, name=name)

    @property
    def addresses(self) -> list[str]:
        """Those of the masters at the start."""
        return [f"{LOOPBACK}:{master.port}" for master in self.masters]

    def slots(self, number: int) -> range:
        """The slots that a master owns at the start."""
        ends = [SLOTS * at // 3 for at in range(4)]
        return range(ends[number], ends[number + 1])

    def join(self) -> None:
        """Wait until each of them says that all is well."""
        wait_until(lambda: all(self._is_well()), "the cluster is well")

    def _is_well(self) -> Iterator[bool]:
        for server in self.servers:
            told = server.ask("CLUSTER INFO")
            yield "cluster_state:ok" in told and "cluster_slots_ok:16384" in told
            yield "slave" in server.ask("CLUSTER NODES")
        yield "master_link_status:up" in self.replica.ask("INFO replication")


def _id(number: int) -> str:
    return f"{number + 1:040x}"


def _bus(server: Redis) -> str:
    return server.command[server.command.index("--cluster-port") + 1]
