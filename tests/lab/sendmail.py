"""A real Sendmail on loopback, made by its own m4 files, with a milter as its manual hooks one up.

It asks no DNS and sends nothing away: what it takes is put into a folder, one file a message. It knows no
XCLIENT: who a client is says the loopback address that it comes from.
"""

import os
import pwd
import subprocess
from pathlib import Path

from tests.lab import tree
from tests.lab.ports import LOOPBACK, free_port
from tests.lab.postfix import HOSTNAME
from tests.lab.process import LabError, Process, wait_until

DOMAINS = "example.org example.com"
M4_SECONDS = 30
MAILBOX_OWNER = "nobody"
# Sendmail takes a minute for a host whose name has no dot, so it gets a name of its own (namespaces(7))
NAMED = ("unshare", "--uts", "sh", "-c", f'hostname {HOSTNAME} && exec "$@"', "sendmail")
# its socket lies in a folder of /tmp, which everybody may write to: elsewhere it is right to refuse that
MC = """\
OSTYPE(`linux')dnl
define(`confDOMAIN_NAME', `{hostname}')dnl
define(`confDELIVERY_MODE', `interactive')dnl
define(`confPID_FILE', `{folder}/pid')dnl
define(`QUEUE_DIR', `{folder}/queue')dnl
define(`STATUS_FILE', `{folder}/statistics')dnl
define(`HELP_FILE', `')dnl
define(`ALIAS_FILE', `')dnl
define(`confSERVICE_SWITCH_FILE', `{folder}/switch')dnl
define(`confHOSTS_FILE', `{folder}/hosts')dnl
define(`confDONT_BLAME_SENDMAIL', `TrustStickyBit')dnl
define(`confTO_IDENT', `0')dnl
define(`confQUEUE_LA', `1000')dnl
define(`confREFUSE_LA', `1000')dnl
FEATURE(`no_default_msa')dnl
FEATURE(`nocanonify')dnl
FEATURE(`accept_unresolvable_domains')dnl
DAEMON_OPTIONS(`Family=inet, Name=MTA, Port={port}, Addr={loopback}')dnl
LOCAL_DOMAIN(`{domains}')dnl
{milter}
MAILER_DEFINITIONS
Mdeliver, P=/bin/sh, F=lsnDFMPq, S=EnvFromL/HdrFromL, R=EnvToL/HdrToL, T=DNS/RFC822/X-Unix,
	U={owner}, A=sh {folder}/deliver {folder}/mail $u
LOCAL_RULE_0
R$* <@ $+ > $*	$#deliver $: $1
"""
DELIVER = 'cat > "$1/.$$" && mv "$1/.$$" "$1/$2.$$"\n'


class Sendmail(Process):
    """Sendmail's daemon, at `port`, with the lines of `milter` in its sendmail.mc.

    The milter has to be there before it. Whoever comes from 127.0.0.1 may relay, as Sendmail has it.
    """

    def __init__(self, work: Path, milter: str) -> None:
        if os.geteuid() != 0:
            raise LabError("Sendmail can only be started by root")
        self.folder = work / "sendmail"
        self.mail_folder = self.folder / "mail"
        self.pid_file = self.folder / "pid"
        self.port = free_port()
        for folder in (self.folder, self.folder / "queue", self.mail_folder):
            folder.mkdir(mode=0o755)
        owner = pwd.getpwnam(MAILBOX_OWNER)
        os.chown(self.mail_folder, owner.pw_uid, owner.pw_gid)
        environment = tree.environment()
        libraries = tree.SENDMAIL_ROOT / "usr/lib" / tree.multiarch()
        environment["LD_LIBRARY_PATH"] = f"{libraries}:{environment['LD_LIBRARY_PATH']}"
        self._write_files(milter, environment)
        program = tree.program("usr/libexec/sendmail/sendmail", tree.SENDMAIL_ROOT)
        files: list[str | Path] = ["-C", self.folder / "sendmail.cf", "-X", self.folder / "traffic.log"]
        command: list[str | Path] = [*NAMED, program, *files, "-bD"]
        super().__init__(command, self.folder / "sendmail.log", environment)

    @property
    def name(self) -> str:
        """The program behind the one that gives it a host name."""
        return "sendmail"

    def start(self) -> None:
        """Start, and return when it listens."""
        self.pid_file.unlink(missing_ok=True)
        super().start()

    def ready(self) -> bool:
        """Whether it has written its process id, which it does when it listens."""
        return self.pid_file.exists()

    def delivered(self, user: str) -> list[bytes]:
        """The messages for a local part, oldest first; their lines end with LF."""
        found = sorted(self.mail_folder.glob(f"{user}.*"), key=lambda path: path.stat().st_mtime_ns)
        return [path.read_bytes() for path in found]

    def next_message(self, user: str) -> bytes:
        """The oldest message for a local part, which is taken out; waits for it."""
        wait_until(lambda: bool(self.delivered(user)), f"a message for {user}")
        path = min(self.mail_folder.glob(f"{user}.*"), key=lambda path: path.stat().st_mtime_ns)
        message = path.read_bytes()
        path.unlink()
        return message

    def _write_files(self, milter: str, environment: dict[str, str]) -> None:
        (self.folder / "switch").write_text("hosts files\naliases files\n")
        (self.folder / "hosts").write_text(f"{LOOPBACK} localhost {HOSTNAME}\n")
        (self.folder / "deliver").write_text(DELIVER)
        macros = self.folder / "sendmail.mc"
        values = {"hostname": HOSTNAME, "domains": DOMAINS, "loopback": LOOPBACK, "owner": MAILBOX_OWNER}
        macros.write_text(MC.format(folder=self.folder, port=self.port, milter=milter, **values))
        made = subprocess.run(
            [
                tree.program("usr/bin/m4", tree.SENDMAIL_ROOT),
                f"-D_CF_DIR_={tree.SENDMAIL_ROOT}/usr/share/sendmail/cf/",
                tree.SENDMAIL_ROOT / "usr/share/sendmail/cf/m4/cf.m4",
                macros,
            ],
            env=environment,
            capture_output=True,
            timeout=M4_SECONDS,
            check=False,
        )
        if made.returncode:
            raise LabError(f"m4: {made.stderr.decode(errors='replace')}")
        (self.folder / "sendmail.cf").write_bytes(made.stdout)
