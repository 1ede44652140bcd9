"""The policy servers that `bench policy` loads: ours with either store, and the peers that are installed.

A peer is measured where Debian's package of it is installed (apt-get install postfwd policyd-rate-limit);
else it is said to be absent. All count logins, with limits so high that every answer is DUNNO.
"""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal, Protocol

import redis

from tests.bench.policy_load import LOGINS, Loaded, load
from tests.lab.daemons import Daemon
from tests.lab.ports import LOOPBACK, accepts, free_port
from tests.lab.process import Process, wait_until
from tests.lab.redis import Redis
from tests.lab.site import ANY_MODE, StoreName, format_toml

POSTFWD = Path("/usr/sbin/postfwd1")
POLICYD_RATE_LIMIT = Path("/usr/bin/policyd-rate-limit")
TICKS = os.sysconf("SC_CLK_TCK")

RulesName = Literal["5 rules", "50 rules"]

FIVE_RULES = """
set office = 198.51.100.0/24, 2001:db8::/32
at rcpt {
    office:     accept  if client_address in office
    burst:      limit 1000000 recipients/minute  per sasl_username
    day:        limit 9000000 recipients/day  per sasl_username
    spam:       reject "5.7.1 Refused"  if sender_domain under "spam.example"
    strangers:  limit 1000000 messages/minute  per client_address  if not sasl_username
"""
# conditions of the kinds that administrators write; none holds, so that each is asked at every request
CONDITIONS = (
    'sender_domain is "sender{n}.example"',
    "client_address in 203.0.{n}.0/24",
    'recipient_domain under "recipient{n}.example"',
    'helo_name is "helo{n}.example" and not sasl_username',
    'sasl_username in ("mallory{n}@example.org", "eve{n}@example.org") or size > 100000{n}',
)

BARE_SCRIPT = "local n = redis.call('INCR', KEYS[1]) redis.call('PEXPIRE', KEYS[1], ARGV[1]) return n"


class Server(Protocol):
    """What is loaded, as a context manager that runs it."""

    @property
    def name(self) -> str:
        """As the table calls it."""

    def load(self, program: Path, connections: int, seconds: float) -> Loaded:
        """Load it."""

    def cpu_seconds(self) -> float:
        """What it used until now: its own processes, no database server."""

    def __enter__(self) -> object: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...


def cpu_seconds(pids: Iterable[int]) -> float:
    """What processes used, user and system (proc(5)), their threads that ended included."""
    stats = [Path(f"/proc/{pid}/stat").read_text() for pid in pids]
    times = [stat.rpartition(")")[2].split()[11:13] for stat in stats]
    return sum(int(ticks) for pair in times for ticks in pair) / TICKS


def rules_text(name: RulesName) -> str:
    """A rules file with so many rules at rcpt, two of which count each request."""
    wanted = 45 if name == "50 rules" else 0
    more = [
        f'    rule-{n}: reject "5.7.1 Refused"  if {CONDITIONS[n % len(CONDITIONS)].format(n=n)}'
        for n in range(wanted)
    ]
    return FIVE_RULES + "\n".join(more) + "\n}\n"


class Ours:
    """Our policy daemon; `workers` as its setting, 0 for one a core."""

    def __init__(
        self, work: Path, store: StoreName, rules: RulesName, shared: Redis | None, workers: int
    ) -> None:
        self.name = name_of(store, rules)
        folder = work / self.name.replace(" ", "-").replace(",", "")
        (folder / "state").mkdir(parents=True)
        self.address = f"unix:{folder}/sock"
        (folder / "rules").write_text(rules_text(rules))
        limits = {"store": "redis", "redis_url": shared.unix_url} if shared else {"store": "sqlite"}
        settings = {
            "rules": "rules",
            "state_dir": str(folder / "state"),
            "policyd": {
                "listen": [self.address],
                "socket_mode": ANY_MODE,
                "workers": workers,
                "max_connections": 2000,
            },
            "milter": {"listen": f"unix:{folder}/milter"},
            "authentication": {"authserv_id": "mx.example.org"},
            "limits": limits,
            "audit": {"to": "file", "file": str(folder / "audit.jsonl")},
        }
        (folder / "mailreeve.toml").write_text(format_toml(settings))
        self.daemon = Daemon("policyd", folder / "mailreeve.toml", folder)

    def load(self, program: Path, connections: int, seconds: float) -> Loaded:
        return load(program, self.address, connections, seconds)

    def cpu_seconds(self) -> float:
        return cpu_seconds([self.daemon.pid, *self.daemon.workers])

    def __enter__(self) -> None:
        self.daemon.start()

    def __exit__(self, *error: object) -> None:
        self.daemon.stop()


def name_of(store: StoreName, rules: RulesName) -> str:
    """How the table calls our daemon with these."""
    return f"mailreeve {store}, {rules}"


class Postfwd:
    """postfwd1: one process that counts in memory, by default for a login.

    It serves only as a daemon, so it is not our child.
    """

    name = "postfwd1"

    def __init__(self, work: Path, key: str = "sasl_username") -> None:
        self.address = f"inet:{LOOPBACK}:{free_port()}"
        self._rules = work / "postfwd.rules"
        self._pid_file = work / "postfwd.pid"
        self._rules.write_text(f"id=R1; action=rate({key}/1000000/3600/450 4.7.1 too many)\n")

    def load(self, program: Path, connections: int, seconds: float) -> Loaded:
        return load(program, self.address, connections, seconds)

    def cpu_seconds(self) -> float:
        return cpu_seconds([self._pid])

    @property
    def _pid(self) -> int:
        return int(self._pid_file.read_text())

    def __enter__(self) -> None:
        port = self.address.rpartition(":")[2]
        words = f"-f {self._rules} -i {LOOPBACK} -p {port} -u root -g root --cache 0 --no-rulelog -d"
        command = [str(POSTFWD), *words.split(), "--pidfile", str(self._pid_file)]
        subprocess.run(command, check=True, capture_output=True)
        wait_until(lambda: accepts(self.address), "postfwd1 starts")

    def __exit__(self, *error: object) -> None:
        os.kill(self._pid, signal.SIGTERM)


class PolicydRateLimit(Process):
    """policyd-rate-limit: counts each recipient as a row of SQLite."""

    name = "policyd-rate-limit"

    def __init__(self, work: Path) -> None:
        folder = work / "policyd-rate-limit"
        folder.mkdir()
        self.address = f"unix:{folder}/sock"
        (folder / "conf.yaml").write_text(
            "debug: False\nuser: root\ngroup: root\nbackend: 0\n"
            f'pidfile: "{folder}/pid"\nSOCKET: "{folder}/sock"\nsocket_permission: 0666\n'
            f'sqlite_config:\n    database: "{folder}/db.sqlite3"\n'
            "limits:\n    - [1000000, 3600]\nlimits_by_id: {}\nlimited_networks: []\n"
            "limit_by_sasl: True\nlimit_by_sender: True\nlimit_by_ip: False\n"
            'success_action: "dunno"\nfail_action: "defer_if_permit Rate limit reached"\n'
            'db_error_action: "dunno"\nreport: False\ndelay_to_close: 300\n'
        )
        super().__init__([POLICYD_RATE_LIMIT, "-f", folder / "conf.yaml"], folder / "log", dict(os.environ))

    def ready(self) -> bool:
        """Whether it accepts a connection."""
        return accepts(self.address)

    def load(self, program: Path, connections: int, seconds: float) -> Loaded:
        return load(program, self.address, connections, seconds)

    def cpu_seconds(self) -> float:
        return cpu_seconds([self.pid])


class BareRedis:
    """No server, but the floor of one: a loop of EVALSHA through redis-py, whatever the connections."""

    name = "bare EVALSHA loop"

    def __init__(self, shared: Redis) -> None:
        self._url = shared.unix_url

    def load(self, program: Path, connections: int, seconds: float) -> Loaded:
        del program, connections
        client = redis.Redis.from_url(self._url, protocol=2)
        script, count, begun = client.script_load(BARE_SCRIPT), 0, time.monotonic()
        while time.monotonic() - begun < seconds:
            client.evalsha(script, 1, f"bare:{count % LOGINS}", "60000")
            count += 1
        spent = time.monotonic() - begun
        client.close()
        return Loaded(count, spent, 0, spent / count * 1000, spent / count * 1000)

    def cpu_seconds(self) -> float:
        return time.process_time()

    def __enter__(self) -> None: ...

    def __exit__(self, *error: object) -> None: ...


@dataclass(frozen=True, slots=True)
class Peer:
    """A program that may be installed."""

    program: Path
    make: Callable[[Path], Server]


PEERS = (Peer(POSTFWD, Postfwd), Peer(POLICYD_RATE_LIMIT, PolicydRateLimit))


def absent_peers() -> list[str]:
    """Programs that are not installed."""
    return [peer.program.name for peer in PEERS if not peer.program.exists()]


def peers(work: Path) -> list[Server]:
    """Those that are."""
    return [peer.make(work) for peer in PEERS if peer.program.exists()]
