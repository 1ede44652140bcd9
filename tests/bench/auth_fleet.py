"""The servers of `bench auth` while they are up: started, warmed, each with its messages written ahead."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from tests.bench import auth_mail, milter_load, milter_script, peer_tree, usage
from tests.bench.auth_servers import PEERS, Duty, Engine, Server, name_server, ours
from tests.bench.milter_client import Mail
from tests.bench.milter_load import Loaded
from tests.lab.dns import DnsServer
from tests.lab.process import LabError, Process

ENGINES: tuple[Engine, ...] = ("native", "libmilter")
NOT_UNPACKED = "not unpacked"
WARM_CONNECTIONS, WARM_MESSAGES = 20, 200
DNS_PORT = 53  # the only one that opendmarc, dkimpy-milter and pyspf-milter ask


@dataclass(frozen=True, slots=True)
class Running:
    """A server that is up: the scripts of its messages by their size; its memory after the first of them."""

    server: Server
    scripts: dict[int, list[Path]]
    resident: int

    @property
    def name(self) -> str:
        """The server's name."""
        return self.server.name

    def cpu_seconds(self) -> float:
        """What its processes used so far."""
        return usage.cpu_seconds(self.server.process.pid)


class Fleet:
    """Starts servers until `stack` is closed; `absent` tells why some are not there.

    `peers` are names of other filters; `workers` is for those that must be told.
    """

    def __init__(self, work: Path, stack: ExitStack, peers: list[str], workers: int) -> None:
        self.work = work
        self.peers = peers
        self.workers = workers
        self.absent: dict[str, str] = {}
        self.program = milter_load.compile_program()
        self.key = auth_mail.write_key(work / "key.pem")
        if peer_tree.STAMP.exists():
            peer_tree.open_to((str(work.parent),))
        stack.enter_context(self._name_server())

    def _name_server(self) -> Process | DnsServer:
        if peer_tree.STAMP.exists():
            return name_server(self.work)
        server = DnsServer("\n".join(auth_mail.records()))
        server.port = DNS_PORT
        return server

    def start(self, duty: Duty, sizes: list[int], stack: ExitStack) -> list[Running]:
        """Start every filter that has the duty, with messages of these sizes."""
        folder = self.work / duty
        folder.mkdir()
        mails = {size: mails_for(duty, size) for size in sizes}
        return [
            one for server in self._servers(duty, folder) if (one := self.run(server, mails, folder, stack))
        ]

    def _servers(self, duty: Duty, folder: Path) -> Iterator[Server]:
        for engine in ENGINES:
            yield ours(folder, self.key, duty, self.workers, engine)
        for name, make in PEERS[duty].items():
            if name in self.peers:
                yield make(folder, self.key, duty, self.workers)

    def run(
        self, server: Server, mails: dict[int, list[Mail]], folder: Path, stack: ExitStack
    ) -> Running | None:
        """Start one server with its messages by size, their scripts in `folder`; None if it is absent."""
        if isinstance(server.process, peer_tree.Confined) and not server.process.is_there:
            self.absent[server.name] = NOT_UNPACKED
            return None
        try:
            stack.enter_context(server.process)
            scripts = self._write_scripts(server, mails, folder)
            self.load(server, scripts[min(scripts)], WARM_CONNECTIONS, messages=WARM_MESSAGES)
        except (LabError, OSError, ValueError) as error:
            server.process.stop()
            self.absent[server.name] = str(error)
            return None
        return Running(server, scripts, usage.memory(server.process.pid).resident)

    def _write_scripts(
        self, server: Server, mails: dict[int, list[Mail]], folder: Path
    ) -> dict[int, list[Path]]:
        agreement = milter_script.negotiate(server.address)
        prepare: Callable[[list[Mail]], list[Mail]] = auth_mail.judged if server.reads_results else list
        scripts: dict[int, list[Path]] = {}
        for size, some in mails.items():
            scripts[size] = []
            for number, mail in enumerate(prepare(some)):
                path = folder / f"{server.name}-{size}-{number}".replace(" ", "-")
                path.write_bytes(milter_script.script(agreement, mail, auth_mail.RECIPIENT))
                scripts[size].append(path)
        return scripts

    def load(
        self, server: Server, scripts: list[Path], connections: int, *, seconds: float = 0, messages: int = 0
    ) -> Loaded:
        """Load one server; LabError if the program of the load fails."""
        return milter_load.load(
            self.program,
            server.address,
            scripts,
            server.mark,
            connections=connections,
            seconds=seconds,
            messages=messages,
        )


def mails_for(duty: Duty, size: int) -> list[Mail]:
    """The messages of a duty: a few small ones that differ, or a large one."""
    mails = auth_mail.plain(size, auth_mail.SMALL_MESSAGES if size == auth_mail.SMALL else 1)
    return mails if duty == "sign" else auth_mail.signed(mails)
