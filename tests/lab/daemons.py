"""Our own two daemons, as an administrator starts them: `mailreeve milter` and `mailreeve policyd`."""

import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from tests.lab.ports import accepts
from tests.lab.process import Process, wait_until


class Daemon(Process):
    """`mailreeve KIND --config FILE`, ready when each of `addresses` accepts a connection.

    `addresses` are written as in the configuration (`unix:PATH`, `inet:HOST:PORT`, `inet:PORT@HOST`). What it
    writes is in `log`, a file `KIND.log` in the work folder.
    """

    def __init__(
        self, kind: Literal["milter", "policyd"], config: Path, work: Path, addresses: Sequence[str]
    ) -> None:
        self.kind = kind
        self.addresses = list(addresses)
        command = [Path(sys.executable).parent / "mailreeve", kind, "--config", config]
        environment = {**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONFAULTHANDLER": "1"}
        super().__init__(command, work / f"{kind}.log", environment)

    @property
    def name(self) -> str:
        """As it is typed."""
        return f"mailreeve {self.kind}"

    def ready(self) -> bool:
        """Whether it accepts connections at all its addresses."""
        return all(accepts(address) for address in self.addresses)

    def hup(self) -> None:
        """Ask for its files to be read again (SIGHUP)."""
        self.send(signal.SIGHUP)

    def wait_for_text(self, text: str, seconds: float = 10.0) -> None:
        """Wait until its log holds the text; LabError if it does not."""
        wait_until(lambda: text in self.text(), f"{self.name} writes {text!r}", seconds)
