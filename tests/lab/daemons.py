"""Our own two daemons, as an administrator starts them: `mailreeve milter` and `mailreeve policyd`."""

import os
import signal
import sys
from pathlib import Path
from typing import Literal, get_args

from tests.lab.process import Process, wait_until

Engine = Literal["libmilter", "native"]
ENGINES: tuple[Engine, ...] = get_args(Engine)  # of `mailreeve milter`: [milter] engine
SERVES = " listens at "  # what it writes when its first workers serve


class Daemon(Process):
    """`mailreeve KIND --config FILE`, ready when its workers serve.

    What it writes is in `log`, a file `KIND.log` in the work folder.
    """

    def __init__(self, kind: Literal["milter", "policyd"], config: Path, work: Path) -> None:
        self.kind = kind
        self._started = 0
        command = [Path(sys.executable).parent / "mailreeve", kind, "--config", config]
        environment = {**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONFAULTHANDLER": "1"}
        super().__init__(command, work / f"{kind}.log", environment)

    @property
    def name(self) -> str:
        """As it is typed."""
        return f"mailreeve {self.kind}"

    def start(self) -> None:
        """Start, and return when its workers serve."""
        self._started = self.text().count(SERVES)
        super().start()

    def ready(self) -> bool:
        """Whether it said that it serves: the socket accepts earlier, before there is a worker behind it."""
        return self.text().count(SERVES) > self._started

    @property
    def workers(self) -> list[int]:
        """The process ids of its workers, those that are ending included."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children")
        return [int(pid) for pid in children.read_text().split()]

    def hup(self) -> None:
        """Ask for its files to be read again (SIGHUP)."""
        self.send(signal.SIGHUP)

    def reload(self) -> None:
        """Have its files read again, and return when none of the workers before is left."""
        before = set(self.workers)
        self.hup()
        wait_until(lambda: not before & set(self.workers), f"{self.name} reloads")

    def wait_for_text(self, text: str, seconds: float = 10.0) -> None:
        """Wait until its log holds the text; LabError if it does not."""
        wait_until(lambda: text in self.text(), f"{self.name} writes {text!r}", seconds)
