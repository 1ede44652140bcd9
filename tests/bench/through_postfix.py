"""`bench auth` through a real Postfix: how many messages a second it takes with this filter or that.

One Postfix, with an SMTP service for each filter and one without any; Postfix's own smtp-source sends, one
message on each connection, from the client address that the case wants; what was taken is discarded.
"""

import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tests.bench import auth_mail
from tests.bench.auth_fleet import Running
from tests.bench.auth_report import CHAIN_NAME, NO_FILTER, Case, Sample
from tests.bench.auth_servers import CHAIN, Duty
from tests.bench.milter_client import Mail
from tests.lab import tree
from tests.lab.postfix import Postfix
from tests.lab.process import LabError

CONNECTIONS = 16
FIRST_PORT = 2500  # the network is our own
MEMORY = Path("/dev/shm")  # noqa: S108 - where Postfix's fsync costs nothing, which is not what we measure
PROBE = "bob@example.org"  # who has a mailbox
SEND_SECONDS = 300
WARM_MESSAGES = 4 * CONNECTIONS  # Postfix starts a process for each connection at first
AT_RCPT = "smtpd_recipient_restrictions"


class PolicyServer(Protocol):
    """Who is asked at RCPT. If it does not answer, Postfix takes no message."""

    @property
    def address(self) -> str:
        """As Postfix writes it."""

    def cpu_seconds(self) -> float:
        """What it used until now."""


@dataclass(frozen=True, slots=True)
class Service:
    """What one SMTP service asks: filters, in this order, and a policy server if there is one."""

    name: str
    filters: Sequence[Running] = ()
    policy: PolicyServer | None = None

    def cpu_seconds(self) -> float:
        """What all of them used until now."""
        own = self.policy.cpu_seconds() if self.policy else 0
        return own + sum(one.cpu_seconds() for one in self.filters)

    def options(self) -> str:
        """The parameters of its line in master.cf."""
        milters = ",".join(one.server.address for one in self.filters)
        asked = f" -o {{ {AT_RCPT} = check_policy_service {self.policy.address} }}" if self.policy else ""
        return f"-o smtpd_milters={milters}{asked}"


class BenchPostfix(Postfix):
    """The lab's Postfix with one more SMTP service for each list of filters, on ports from FIRST_PORT."""

    def __init__(self, work: Path, services: Sequence[Service]) -> None:
        self.services = services
        addresses = ("127.0.0.1", auth_mail.DOMAIN.address, auth_mail.OUR_ADDRESS)
        main = {
            "inet_interfaces": ", ".join(addresses),
            "mynetworks": ", ".join(addresses),
            "default_transport": "discard:",
            "default_process_limit": "200",
        }
        super().__init__(work, main=main)

    def _master_services(self) -> str:
        lines = [
            f"{FIRST_PORT + number} inet n - n - - smtpd {service.options()}\n"
            for number, service in enumerate(self.services)
        ]
        return super()._master_services() + "".join(lines)

    def send_mail(self, number: int, mail: Mail, recipient: str, messages: int) -> float:
        """Send a message so often through a service; the seconds it took. LabError if one was not taken."""
        path = self.folder / "message"
        path.write_bytes(mail.message.replace(b"\r\n", b"\n"))
        words = [
            "-s",
            str(min(CONNECTIONS, messages)),
            "-m",
            str(messages),
            "-f",
            mail.sender,
            "-t",
            recipient,
        ]
        target = f"inet:{mail.client}:{FIRST_PORT + number}"
        command = [str(tree.program("usr/sbin/smtp-source")), *words, "-F", str(path), target]
        begun = time.monotonic()
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            env=dict(self.environment),
            timeout=SEND_SECONDS,
            check=False,
        )
        if done.returncode or done.stderr:
            raise LabError(f"smtp-source: {done.stderr[-500:]}")
        return time.monotonic() - begun


def measure_postfix(
    duty: Duty, running: Sequence[Running], messages: int, rounds: int
) -> Iterator[tuple[Case, str, Sample]]:
    """Every filter in turn, and without any, and the chain, round after round."""
    yield from measure_services(duty, _services(duty, running), messages, rounds)


def measure_services(
    duty: Duty, services: Sequence[Service], messages: int, rounds: int
) -> Iterator[tuple[Case, str, Sample]]:
    """Each service in turn, round after round; LabError if one does not do its work."""
    mail = auth_mail.plain(auth_mail.SMALL, 1)
    mail = mail if duty == "sign" else auth_mail.signed(mail)
    case = Case(duty, auth_mail.SMALL, CONNECTIONS, through_postfix=True)
    with _folder() as folder, BenchPostfix(folder, services) as postfix:
        for number, service in enumerate(services):
            _probe(postfix, number, service, mail[0])
            postfix.send_mail(number, mail[0], auth_mail.RECIPIENT, min(messages, WARM_MESSAGES))
        for _ in range(rounds):
            for number, service in enumerate(services):
                yield case, service.name, _sample(postfix, number, service, mail[0], messages)


def _services(duty: Duty, running: Sequence[Running]) -> list[Service]:
    by_name = {one.name: one for one in running}
    services = [Service(NO_FILTER)]
    services += [Service(one.name, [one]) for one in running if not one.server.reads_results]
    if duty == "verify" and all(name in by_name for name in CHAIN):
        services.append(Service(CHAIN_NAME, [by_name[name] for name in CHAIN]))
    return services


def _probe(postfix: BenchPostfix, number: int, service: Service, mail: Mail) -> None:
    """See that the filters do their work here; LabError if they do not."""
    postfix.send_mail(number, mail, PROBE, 1)
    delivered = postfix.next_message(PROBE)
    if missing := [one.name for one in service.filters if one.server.mark.encode() not in delivered]:
        raise LabError(f"{', '.join(missing)} behind Postfix: no mark in {delivered[:2000]!r}")


def _sample(postfix: BenchPostfix, number: int, service: Service, mail: Mail, messages: int) -> Sample:
    before = service.cpu_seconds()
    took = postfix.send_mail(number, mail, auth_mail.RECIPIENT, messages)
    used = service.cpu_seconds() - before
    postfix.wait_empty(SEND_SECONDS)
    return Sample(per_second=messages / took, cpu_seconds=used / messages)


@contextmanager
def _folder() -> Iterator[Path]:
    """As `work_folder`, in memory where there is such a place."""
    folder = Path(tempfile.mkdtemp(prefix="mailreeve-", dir=MEMORY if MEMORY.is_dir() else "/tmp"))  # noqa: S108
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
