"""A whole mail site on loopback: DNS, Postfix, both daemons beside it, and Redis if it counts there.

The demo and the system tests build it here and nowhere else. It is the site of the documentation: its server
mx.example.org takes mail for example.org and example.com, alice and bob log in, all is in one work folder.
"""

import json
import os
import pwd
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from tests.lab.daemons import Daemon, Engine
from tests.lab.dns import DnsServer
from tests.lab.keys import SigningKeys
from tests.lab.postfix import HOSTNAME, Door, Postfix, queue_id
from tests.lab.process import LabError, Process, wait_until
from tests.lab.record_schema import check_file
from tests.lab.redis import Redis
from tests.lab.smtp import Client, Login, RawClient, Reply
from tests.lab.tree import REPOSITORY

SHIPPED_RULES = REPOSITORY / "contrib/rules"
ALICE = Login("alice@example.org", "correct horse")
BOB = Login("bob@example.org", "battery staple")
LAPTOP = Client("203.0.113.20", "laptop.example.org")
ANY_MODE = "0666"  # Postfix runs as a user of its own, which shares no group with the daemons here

Record = dict[str, Any]
Settings = Mapping[str, object]
StoreName = Literal["sqlite", "redis"]

ZONE = """
    example.org.          MX   10 mx.example.org.
    example.org.          TXT  "v=spf1 ip4:198.51.100.0/24 -all"
    _dmarc.example.org.   TXT  "v=DMARC1; p=reject"
    example.com.          MX   10 mx.example.org.
    mx.example.org.       A    198.51.100.25
"""


@dataclass(frozen=True, slots=True)
class Sent:
    """The replies to one message: to MAIL, to each RCPT, and to the message if a recipient was taken."""

    mail: Reply
    recipients: tuple[Reply, ...]
    end: Reply | None

    @property
    def queue_id(self) -> str:
        """Postfix's name for it; LabError if it was not taken."""
        if self.end is None or not self.end.ok:
            raise LabError(f"not taken: {self}")
        return queue_id(self.end.text)


def parse_replies(replies: list[Reply], recipients: int) -> Sent:
    """The replies of `RawClient.mail` for so many recipients."""
    end = replies[1 + recipients] if len(replies) > 1 + recipients else None
    return Sent(replies[0], tuple(replies[1 : 1 + recipients]), end)


class Site:
    """The site; as a context manager it runs from entry to exit.

    `rules` is the text of the rules file, or a folder with it (`rules`) and with the files that it names.
    `engine` is what speaks to Postfix in the milter; None leaves it to mailreeve.toml's default.
    `settings` are what of mailreeve.toml differs from the site's own, merged key by key:
    {"dns": {"timeout_seconds": 0.2}, "drain_seconds": 1.0}. `zone` is added to DNS, to the site's own names
    and those of `keys`. `main` are parameters of main.cf, `outside` and `submission` such parameters
    of Postfix's two doors alone.
    """

    def __init__(
        self,
        work: Path,
        *,
        rules: str | Path,
        keys: SigningKeys | None = None,
        store: StoreName = "sqlite",
        engine: Engine | None = None,
        settings: Settings | None = None,
        zone: str = "",
        main: Mapping[str, str] | None = None,
        outside: Mapping[str, str] | None = None,
        submission: Mapping[str, str] | None = None,
    ) -> None:
        self.work = work
        self.folder = work / "mailreeve"
        (self.folder / "state").mkdir(parents=True)
        self.config = self.folder / "mailreeve.toml"
        self.rules = self.folder / "rules"
        self.audit = self.folder / "audit.jsonl"
        self.milter_address = f"unix:{self.folder}/milter.sock"
        self.policy_address = f"unix:{self.folder}/policy.sock"
        self.keys = keys
        self.dns = DnsServer(ZONE + (keys.zone if keys else "") + zone)
        self.redis = Redis(work) if store == "redis" else None
        self.settings = self._settings(engine, settings or {})
        self.write_rules(rules)
        self.write_config()
        self._give_away()
        self.policyd = Daemon("policyd", self.config, work)
        self.milter = Daemon("milter", self.config, work)
        doors = [
            Door((self.milter_address,), self.policy_address, options=options or {})
            for options in (outside, submission)
        ]
        self.postfix = Postfix(work, *doors, local_milters=[self.milter_address], main=main)
        for login in (ALICE, BOB):
            self.postfix.add_user(login.user, login.password)

    def __enter__(self) -> Self:
        self._start(self.servers())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()
        if kind is None:
            check_file(self.audit)

    def _start(self, servers: Iterable[DnsServer | Process]) -> None:
        """Start servers side by side, which none of them minds; if one cannot start, stop all."""
        try:
            with ThreadPoolExecutor() as pool:
                list(pool.map(lambda server: server.start(), servers))
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop all servers; harmless for those that do not run."""
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda server: server.stop(), self.servers()))

    @contextmanager
    def without_postfix(self) -> Iterator[None]:
        """The site with its daemons alone, for a client that speaks their protocols itself."""
        self._start(server for server in self.servers() if server is not self.postfix)
        try:
            yield
        finally:
            self.stop()
        check_file(self.audit)

    def servers(self) -> Iterator[DnsServer | Process]:
        """All that it consists of."""
        yield self.dns
        if self.redis:
            yield self.redis
        yield from (self.policyd, self.milter, self.postfix)

    # -- its files ---------------------------------------------------------------------------------------

    def _settings(self, engine: Engine | None, changed: Settings) -> dict[str, object]:
        """Everything of mailreeve.toml, as sections and options."""
        milter = {"listen": self.milter_address, "socket_mode": ANY_MODE}
        if engine:
            milter["engine"] = engine
        limits: dict[str, object] = {"store": "sqlite"}
        if self.redis:
            limits = {"store": "redis", "redis_url": self.redis.unix_url}
        settings: dict[str, object] = {
            "rules": "rules",
            "state_dir": str(self.folder / "state"),
            "drain_seconds": 5.0,
            "policyd": {"listen": [self.policy_address], "socket_mode": ANY_MODE},
            "milter": milter,
            "authentication": {"authserv_id": HOSTNAME},
            "signing": {"keys": self._copy_keys()},
            "dns": {"servers": [self.dns.address], "timeout_seconds": 2.0, "message_budget_seconds": 4.0},
            "limits": limits,
            "audit": {"to": "file", "file": str(self.audit)},
        }
        for name, value in changed.items():
            own = settings.get(name)
            settings[name] = (
                {**own, **value} if isinstance(own, dict) and isinstance(value, Mapping) else value
            )
        return settings

    def _give_away(self) -> None:
        """With `user` among the settings, all files belong to that user, as an installation has it."""
        if "user" in self.settings:
            account = pwd.getpwnam(str(self.settings["user"]))
            for path in (self.folder, *self.folder.rglob("*")):
                os.chown(path, account.pw_uid, account.pw_gid)

    def _copy_keys(self) -> list[dict[str, str]]:
        if self.keys is None:
            return []
        shutil.copytree(self.keys.folder, self.folder / "keys")
        return [{**key, "file": f"keys/{key['file']}"} for key in self.keys.entries]

    def write_rules(self, rules: str | Path) -> None:
        """Replace the rules file; `daemon.hup()` takes it into force."""
        if isinstance(rules, Path):
            shutil.copytree(rules, self.folder, dirs_exist_ok=True)
        else:
            self.rules.write_text(rules)

    def write_config(self) -> None:
        """Write mailreeve.toml from what `settings` say now."""
        self.config.write_text(format_toml(self.settings))
        self.config.chmod(0o640)

    # -- mail --------------------------------------------------------------------------------------------

    @contextmanager
    def session(self, client: Client, login: Login | None = None) -> Iterator[RawClient]:
        """A connection as this client, after EHLO: to the submission service and logged in, with a login."""
        port = self.postfix.submission_port if login else self.postfix.port
        with RawClient(port) as connection:
            hello = connection.hello(client)
            reply = connection.login(login) if hello.ok and login else hello
            if not reply.ok:
                raise LabError(f"no session for {client}: {reply}")
            yield connection

    def send(
        self,
        client: Client,
        sender: str | None,
        recipients: list[str],
        message: bytes,
        *,
        login: Login | None = None,
        parameters: str = "",
    ) -> Sent:
        """One message in a session of its own; its lines end with CRLF."""
        with self.session(client, login) as connection:
            replies = connection.mail(sender, recipients, message, parameters)
            return parse_replies(replies, len(recipients))

    # -- the record --------------------------------------------------------------------------------------

    def records(self) -> list[Record]:
        """All lines of the record, as they were written; a line that is being written is not there yet."""
        if not self.audit.exists():
            return []
        return [
            json.loads(line)
            for line in self.audit.read_bytes().splitlines(keepends=True)
            if line[-1:] == b"\n"
        ]

    def record_wait(self, wanted: Callable[[Record], bool], what: str = "the record") -> Record:
        """The latest record that is wanted, as soon as there is one; LabError naming `what` if none comes."""
        wait_until(lambda: any(wanted(record) for record in self.records()), what, 10.0)
        return next(record for record in reversed(self.records()) if wanted(record))

    def message_record(self, name: str) -> Record:
        """The milter's record of the message with this queue id."""
        return self.record_wait(
            lambda record: record["daemon"] == "milter" and record.get("queue_id") == name,
            f"the record of {name}",
        )


def format_toml(settings: Settings, prefix: str = "") -> str:
    """Options as TOML text, tables and arrays of tables after the plain ones."""
    lines = [f"{name} = {_toml_value(value)}" for name, value in settings.items() if not _is_table(value)]
    for name, value in settings.items():
        if isinstance(value, Mapping):
            lines += ["", f"[{prefix}{name}]", format_toml(value, f"{prefix}{name}.")]
        elif _is_table(value) and isinstance(value, list):
            for table in value:
                lines += ["", f"[[{prefix}{name}]]", format_toml(table)]
    return "\n".join(lines) + "\n"


def _is_table(value: object) -> bool:
    return isinstance(value, Mapping) or (
        isinstance(value, list) and any(isinstance(one, Mapping) for one in value)
    )


def _toml_value(value: object) -> str:
    return json.dumps(value)  # text, numbers, booleans and lists of them are written alike in both
