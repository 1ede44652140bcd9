"""A real Postfix on loopback: one door for mail from outside, one for our own users, delivery into Maildirs.

No account is made for it: it runs as users that every Debian has. No message can leave: what is for no
mailbox of the lab ends in the mailbox OUTSIDE. Relay rights are those of a real server all the same.
"""

import grp
import json
import os
import pwd
import re
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.lab import tree
from tests.lab.ports import LOOPBACK, free_port
from tests.lab.process import LabError, Process, wait_until

# Postfix wants a user and a group that own nothing else, and another user for mailboxes; see base-passwd
MAIL_OWNER, SETGID_GROUP, MAILBOX_OWNER = "news", "uucp", "mail"
HOSTNAME = "mx.example.org"
DOMAINS = ("example.org", "example.com")
MAILBOXES = ("alice@example.org", "bob@example.org", "carol@example.com")
OUTSIDE = "outside"
OUR_NETWORKS = "198.51.100.0/24"
COMMAND_SECONDS = 60
# Postfix waits two seconds before it trusts a file that was written just now
SETTLED_SECONDS = 10
QUEUE_FOLDERS = {
    0o700: (
        "active",
        "bounce",
        "corrupt",
        "defer",
        "deferred",
        "flush",
        "hold",
        "incoming",
        "private",
        "trace",
    ),
    0o730: ("maildrop",),
    0o710: ("public",),
}
# Where Postfix can ask a policy server; each is a parameter smtpd_*_restrictions
POLICY_STAGES = ("client", "helo", "sender", "recipient", "data", "end_of_data", "etrn")


@dataclass(frozen=True, slots=True)
class Door:
    """What one SMTP service asks, and its own settings.

    `milters` are written for Postfix (`unix:PATH`, `inet:HOST:PORT`), and so is `policy`, the policy server
    that is asked at the `policy_stages` after Postfix's own relay check. `options` are parameters of main.cf
    for this service alone, such as {"milter_default_action": "accept"}.
    """

    milters: tuple[str, ...] = ()
    policy: str | None = None
    policy_stages: tuple[str, ...] = ("recipient",)
    options: Mapping[str, str] = field(default_factory=dict)

    def parameters(self) -> dict[str, str]:
        """The parameters of main.cf that this comes to."""
        asked: dict[str, str] = {}
        if self.policy is not None:
            for stage in self.policy_stages:
                if stage not in POLICY_STAGES:
                    raise ValueError(f"{stage}: none of {', '.join(POLICY_STAGES)}")
                asked[f"smtpd_{stage}_restrictions"] = f"check_policy_service {self.policy}"
        return {"smtpd_milters": ", ".join(self.milters), **asked, **self.options}


class Postfix(Process):
    """Postfix's master with all its services; `port` takes mail from outside, `submission_port` from users.

    `main` overrides parameters of main.cf. `local_milters` see mail that the sendmail command hands in. At
    both doors a client on loopback may say by XCLIENT who it is; OUR_NETWORKS may relay at `port`. Users log
    in at the submission port only, PLAIN or LOGIN, after `add_user`.
    """

    def __init__(
        self,
        work: Path,
        outside: Door | None = None,
        submission: Door | None = None,
        *,
        local_milters: Sequence[str] = (),
        mailboxes: Sequence[str] = MAILBOXES,
        main: Mapping[str, str] | None = None,
    ) -> None:
        if os.geteuid() != 0:
            raise LabError("Postfix can only be started by root")
        self.folder = work / "postfix"
        self.etc = self.folder / "etc"
        self.queue_folder = self.folder / "q"
        self.mail_folder = self.folder / "mail"
        self.sasldb = self.etc / "sasldb2"
        self.port = free_port()
        self.submission_port = free_port()
        self.outside = outside or Door()
        self.submission = submission or Door()
        self.local_milters = tuple(local_milters)
        self.mailboxes = tuple(mailboxes)
        self.main = dict(main or {})
        self._seen: dict[str, int] = {}
        self._started = 0
        self._make_folders(work)
        self.configure()
        master = str(tree.program("usr/lib/postfix/sbin/master"))
        super().__init__(
            [master, "-c", str(self.etc), "-s"],
            self.folder / "master.out",
            tree.environment() | {"MAIL_CONFIG": str(self.etc)},
        )

    def start(self) -> None:
        """Start, and return when both doors listen."""
        self._started = self.log_text().count("daemon started --")
        super().start()

    def ready(self) -> bool:
        """Whether it said that it started; a connection to ask would be seen by the milters."""
        return self.log_text().count("daemon started --") > self._started

    def reload(self) -> None:
        """Take the files written by `configure` into force, as `postfix reload` does."""
        before = self.log_text().count("reload --")
        self.send(signal.SIGHUP)
        wait_until(lambda: self.log_text().count("reload --") > before, "postfix reload")

    def text(self) -> str:
        """The mail log, and before it what the master wrote elsewhere."""
        return super().text() + self.log_text()

    def log_text(self) -> str:
        """The mail log."""
        log = self.folder / "maillog"
        return log.read_text(errors="replace") if log.exists() else ""

    def wait_for_text(self, text: str, seconds: float = 20.0) -> None:
        """Wait until the mail log holds the text; LabError with the end of the log if it does not."""
        try:
            wait_until(lambda: text in self.log_text(), f"the mail log says {text!r}", seconds)
        except LabError as error:
            raise LabError(f"{error}\n{self.log_text()[-2000:]}") from None

    def add_user(self, login: str, password: str) -> None:
        """Let a user log in; `login` without a domain belongs to Postfix's own host name."""
        user, _, realm = login.partition("@")
        words = ["-p", "-c", "-f", str(self.sasldb), "-u", realm or HOSTNAME, user]
        self._run("usr/sbin/saslpasswd2", *words, given=password.encode())
        os.chown(self.sasldb, pwd.getpwnam(MAIL_OWNER).pw_uid, -1)

    def sendmail(self, sender: str | None, recipients: Sequence[str], message: bytes) -> None:
        """Hand in a message, its lines ended by LF, by the sendmail command."""
        self._run("usr/sbin/sendmail", "-i", "-f", sender or "", "--", *recipients, given=message)

    def queue(self) -> list[dict[str, Any]]:
        """What lies in the queue, as postqueue -j tells it: queue_name, queue_id, sender, recipients ..."""
        return [json.loads(line) for line in self._run("usr/sbin/postqueue", "-j").splitlines()]

    def flush(self) -> None:
        """Try to deliver at once whatever is deferred."""
        self._run("usr/sbin/postqueue", "-f")

    def wait_empty(self, seconds: float = 20.0) -> None:
        """Wait until the queue is empty; LabError with the log if it is not."""
        try:
            wait_until(lambda: not self.queue(), "the queue is empty", seconds)
        except LabError as error:
            raise LabError(f"{error}\n{self.log_text()[-2000:]}") from None

    def delivered(self, mailbox: str) -> list[bytes]:
        """The files in a mailbox ("bob@example.org" or OUTSIDE), oldest first, as virtual(8) wrote them.

        Each begins with Return-Path, X-Original-To, Delivered-To and our Received. Lines end with LF.
        """
        return [path.read_bytes() for path in self._new(mailbox)]

    def delivered_wait(self, mailbox: str, count: int = 1, seconds: float = 30.0) -> list[bytes]:
        """As `delivered`, once at least `count` messages are there; LabError with the log if not."""
        try:
            wait_until(lambda: len(self._new(mailbox)) >= count, f"{count} messages for {mailbox}", seconds)
        except LabError as error:
            raise LabError(f"{error}\n{self.log_text()[-3000:]}") from None
        return self.delivered(mailbox)

    def next_message(self, mailbox: str, seconds: float = 30.0) -> bytes:
        """The oldest message of a mailbox that no call of this returned before; waits for it."""
        seen = self._seen.get(mailbox, 0)
        message = self.delivered_wait(mailbox, seen + 1, seconds)[seen]
        self._seen[mailbox] = seen + 1
        return message

    def configure(self) -> None:
        """Write main.cf, master.cf and the tables from what this object's fields say now."""
        self._write(
            "main.cf", "".join(f"{name} = {value}\n" for name, value in self._main_parameters().items())
        )
        self._write("master.cf", self._master_services())
        self._write("mailboxes", "".join(f"{mailbox} {mailbox}/\n" for mailbox in self.mailboxes))
        sasl = "pwcheck_method: auxprop\nauxprop_plugin: sasldb\nmech_list: PLAIN LOGIN\n"
        self._write("sasl/smtpd.conf", f"{sasl}sasldb_path: {self.sasldb}\n")

    def _main_parameters(self) -> dict[str, str]:
        owner = pwd.getpwnam(MAILBOX_OWNER)
        libexec = tree.ROOT / "usr/lib/postfix"
        kept = "MAIL_CONFIG TZ LD_LIBRARY_PATH SASL_PATH"
        parameters = {
            "compatibility_level": "3.6",
            # the unpacked tree, and this instance's own folders
            "command_directory": f"{tree.ROOT}/usr/sbin",
            "daemon_directory": f"{libexec}/sbin",
            "meta_directory": f"{self.etc}",
            "shlib_directory": f"{libexec}",
            "sendmail_path": f"{tree.ROOT}/usr/sbin/sendmail",
            "queue_directory": f"{self.queue_folder}",
            "data_directory": f"{self.folder}/data",
            "import_environment": f"MAIL_LOGTAG POSTLOG_SERVICE POSTLOG_HOSTNAME LANG=C {kept}",
            "export_environment": f"LANG {kept}",
            "maillog_file": f"{self.folder}/maillog",
            "maillog_file_prefixes": f"{self.folder}",
            "mail_owner": MAIL_OWNER,
            "setgid_group": SETGID_GROUP,
            "default_privs": "nobody",
            # who we are, on loopback, asking no DNS
            "myhostname": HOSTNAME,
            "mydestination": "",
            "inet_interfaces": LOOPBACK,
            "mynetworks": OUR_NETWORKS,
            "smtpd_peername_lookup": "no",
            "smtp_dns_support_level": "disabled",
            "smtpd_authorized_xclient_hosts": LOOPBACK,
            "smtpd_relay_restrictions": "permit_mynetworks, reject_unauth_destination",
            "smtputf8_enable": "yes",
            # delivery: into Maildirs, whatever the recipient; nothing leaves
            "alias_maps": "",
            "alias_database": "",
            "local_recipient_maps": "",
            "virtual_mailbox_domains": ", ".join(DOMAINS),
            "virtual_mailbox_base": f"{self.mail_folder}",
            "virtual_mailbox_maps": f"texthash:{self.etc}/mailboxes, static:{OUTSIDE}/",
            "virtual_minimum_uid": "1",
            "virtual_uid_maps": f"static:{owner.pw_uid}",
            "virtual_gid_maps": f"static:{owner.pw_gid}",
            "virtual_mailbox_limit": "0",
            "mailbox_size_limit": "0",
            "message_size_limit": "41943040",
            "default_transport": "virtual",
            "relay_transport": "virtual",
            "local_transport": "virtual",
            "local_header_rewrite_clients": "",  # a lab's message is delivered as it was sent
            # a test's client is quick and may be rude
            "in_flow_delay": "0",
            "smtpd_error_sleep_time": "0",
            "smtpd_soft_error_limit": "1000",
            "smtpd_hard_error_limit": "1000",
            "smtpd_client_connection_count_limit": "0",
            "milter_default_action": "tempfail",
            "non_smtpd_milters": ", ".join(self.local_milters),
        }
        return parameters | self.main

    def _master_services(self) -> str:
        login = {
            "smtpd_sasl_auth_enable": "yes",
            "smtpd_sasl_type": "cyrus",
            "smtpd_sasl_path": "smtpd",
            "cyrus_sasl_config_path": f"{self.etc}/sasl",
            "smtpd_sasl_local_domain": HOSTNAME,
            "smtpd_sasl_security_options": "noanonymous",
            "smtpd_tls_auth_only": "no",
            "smtpd_relay_restrictions": "permit_sasl_authenticated, reject",
            "syslog_name": "postfix/submission",
        }
        return (
            _smtpd(self.port, self.outside.parameters())
            + _smtpd(self.submission_port, login | self.submission.parameters())
            + MASTER_SERVICES
        )

    def _make_folders(self, work: Path) -> None:
        owner, group = pwd.getpwnam(MAIL_OWNER).pw_uid, grp.getgrnam(SETGID_GROUP).gr_gid
        mailboxes = pwd.getpwnam(MAILBOX_OWNER)
        for folder in (
            self.folder,
            self.etc,
            self.etc / "sasl",
            self.queue_folder,
            self.queue_folder / "pid",
        ):
            folder.mkdir(mode=0o755)
        for mode, names in QUEUE_FOLDERS.items():
            for name in names:
                _make_folder(self.queue_folder / name, mode, owner, group if mode != 0o700 else -1)
        _make_folder(self.folder / "data", 0o700, owner, -1)
        _make_folder(self.mail_folder, 0o755, mailboxes.pw_uid, mailboxes.pw_gid)
        if closed := [path for path in (work, *work.parents) if not path.stat().st_mode & 0o001]:
            raise LabError(f"{closed[-1]} is closed to other users: Postfix's daemons could not reach {work}")

    def _new(self, mailbox: str) -> list[Path]:
        folder = self.mail_folder / mailbox / "new"
        if not folder.is_dir():
            return []
        return sorted(folder.iterdir(), key=lambda path: (path.stat().st_mtime_ns, path.name))

    def _write(self, name: str, text: str) -> None:
        path = self.etc / name
        path.write_text(text)
        old = path.stat().st_mtime - SETTLED_SECONDS
        os.utime(path, (old, old))

    def _run(self, program: str, *words: str, given: bytes = b"") -> str:
        """Run a command of the tree for this instance; what it printed, LabError if it fails."""
        done = subprocess.run(
            [tree.program(program), *words],
            input=given,
            capture_output=True,
            env=dict(self.environment),
            timeout=COMMAND_SECONDS,
            check=False,
        )
        if done.returncode:
            said = (done.stdout + done.stderr).decode(errors="replace").strip()
            raise LabError(f"{program} {' '.join(words)}: {done.returncode}: {said}")
        return done.stdout.decode()


MASTER_SERVICES = """\
pickup    unix  n  -  n  1    1  pickup
cleanup   unix  n  -  n  -    0  cleanup
qmgr      unix  n  -  n  300  1  qmgr
rewrite   unix  -  -  n  -    -  trivial-rewrite
bounce    unix  -  -  n  -    0  bounce
defer     unix  -  -  n  -    0  bounce
trace     unix  -  -  n  -    0  bounce
verify    unix  -  -  n  -    1  verify
flush     unix  n  -  n  1000 0  flush
proxymap  unix  -  -  n  -    -  proxymap
showq     unix  n  -  n  -    -  showq
error     unix  -  -  n  -    -  error
retry     unix  -  -  n  -    -  error
discard   unix  -  -  n  -    -  discard
virtual   unix  -  n  n  -    -  virtual
anvil     unix  -  -  n  -    1  anvil
postlog   unix-dgram n - n -  1  postlogd
"""


def queue_id(text: str) -> str:
    """The queue id in Postfix's reply to a message ("2.0.0 Ok: queued as 4Fm2..."); LabError without one."""
    found = re.search(r"queued as ([0-9A-Za-z]+)", text)
    if not found:
        raise LabError(f"no queue id in {text!r}")
    return found[1]


def _smtpd(port: int, parameters: Mapping[str, str]) -> str:
    options = "".join(f"    -o {{ {name} = {value} }}\n" for name, value in parameters.items())
    return f"{LOOPBACK}:{port} inet n - n - - smtpd\n{options}"


def _make_folder(path: Path, mode: int, owner: int, group: int) -> None:
    path.mkdir()
    os.chown(path, owner, group)
    path.chmod(mode)
