"""The programs that we are measured beside, as Debian ships them, unpacked under `.build/peers`.

They run confined to that folder (chroot(2)), where every file lies where its package puts it, and which has
its own /etc. Nothing is installed or started on the machine.
"""

import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from tests.bench.isolation import show_inside
from tests.lab import tree, unpack
from tests.lab.ports import LOOPBACK, accepts
from tests.lab.process import Process

ROOT = tree.BUILD / "peers"
STAMP = ROOT / ".complete"
# unbound is no peer: it is the DNS server of the run
PACKAGES = ("opendkim", "rspamd", "dkimpy-milter", "pyspf-milter", "opendmarc", "unbound")
# they would bring services, databases or fonts that nothing here uses; the C library is wanted here
LEFT_OUT = frozenset(
    (
        "adduser",
        "debconf",
        "e2fsprogs",
        "init-system-helpers",
        "mariadb-client",
        "mariadb-client-core",
        "usrmerge",
    )
)
FILES = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
    "etc/group": "root:x:0:\nnogroup:x:65534:\n",
    "etc/hosts": f"{LOOPBACK} localhost mx.example.net\n",
    "etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
    "etc/resolv.conf": f"nameserver {LOOPBACK}\n",
}
ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C", "HOME": "/"}


def provide() -> str | None:
    """Fetch and unpack the peers unless that was done; what went wrong, or None."""
    wanted = "\n".join(PACKAGES) + "\n"
    if STAMP.exists() and STAMP.read_text() == wanted:
        return None
    begun = time.monotonic()
    try:
        what = "about 70 MB: the filters that we are measured beside, and unbound"
        archives = unpack.fetch(tree.BUILD / "apt", PACKAGES, what)
        unpack.unpack(archives, ROOT, LEFT_OUT)
    except (unpack.FetchError, OSError, subprocess.SubprocessError) as error:
        return str(error)
    for name, text in FILES.items():
        path = ROOT / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.write_text(text)
    STAMP.write_text(wanted)
    unpack.say(f"{len(archives)} packages in {ROOT.name}/, {time.monotonic() - begun:.0f} seconds")
    return None


def open_to(folders: Sequence[str]) -> None:
    """Show the peers these folders of the machine, and its devices and processes; call it when isolated."""
    show_inside(ROOT, ("/dev", "/proc", *folders))


class Confined(Process):
    """A program of the tree that sees nothing else; it serves when its address accepts a connection.

    `address` is written as for Sendmail or Postfix. `words` begin with the program's installed path.
    """

    start_seconds = 60.0  # rspamd compiles much when it starts

    def __init__(self, words: Sequence[str | Path], log: Path, address: str) -> None:
        self.address = address
        self.program = Path(words[0])
        super().__init__(["chroot", ROOT, *words], log, ENVIRONMENT)

    @property
    def name(self) -> str:
        """As its package is called."""
        return self.program.name

    @property
    def is_there(self) -> bool:
        """Whether its package was unpacked."""
        return (ROOT / str(self.program).lstrip("/")).exists()

    def ready(self) -> bool:
        """Whether it accepts a connection."""
        return accepts(self.address)
