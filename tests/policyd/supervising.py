"""The daemon of supervised.py in processes of its own, for the tests of what a supervisor does."""

from __future__ import annotations

import json
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

REQUEST = b"request=smtpd_access_policy\n\n"
TIMEOUT_SECONDS = 20.0
"""How long a test waits for what must come."""


class Supervised:
    """The daemon of supervised.py in processes of its own, with a configuration that can be changed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = folder / "config.json"
        self.path = folder / "s"
        self.process: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None
        self._lines: queue.Queue[str] = queue.Queue()
        self.seen: list[str] = []

    def configure(self, word: str, **more: Any) -> None:
        self.config.write_text(json.dumps({"word": word, "listen": str(self.path), **more}))

    def start(self, word: str, **more: Any) -> None:
        """Start, and wait until its workers serve or it ended."""
        self.configure(word, **more)
        self.begin()
        self.wait_for("listens at", "END")

    def begin(
        self,
        *before: str,
        environment: Mapping[str, str] | None = None,
        keep: Sequence[int] = (),
        stdin: int | None = None,
    ) -> None:
        """Start it as it is configured: by another program that becomes it, with more in its environment."""
        command = [*before, sys.executable, str(Path(__file__).with_name("supervised.py")), str(self.config)]
        self.process = subprocess.Popen(
            command,
            stdin=stdin,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env={**os.environ, **(environment or {})},
            pass_fds=keep,
        )
        self._reader = threading.Thread(target=self._read, args=(self.process,), daemon=True)
        self._reader.start()

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stderr is not None
        with process.stderr:
            for line in process.stderr:
                self._lines.put(line)
        self._lines.put("END")

    def wait_for(self, *texts: str) -> str:
        """The first line to come that holds one of the texts."""
        while True:
            try:
                line = self._lines.get(timeout=TIMEOUT_SECONDS)
            except queue.Empty:
                raise AssertionError(f"no line with {texts} after {self.seen}") from None
            self.seen.append(line)
            if any(text in line for text in texts):
                return line

    def signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def connect(self) -> socket.socket:
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(TIMEOUT_SECONDS)
        client.connect(str(self.path))
        return client

    def ask(self) -> tuple[str, int, int]:
        """Word, process and user of the worker that answers a new connection."""
        with self.connect() as client:
            return answer(client)

    def kill(self) -> None:
        """End what is left of it."""
        if self.process is None:
            return
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(TIMEOUT_SECONDS)
        assert self._reader is not None
        self._reader.join(TIMEOUT_SECONDS)

    def ended(self) -> int:
        """Wait for the end of all its processes (which hold its standard error); the exit status."""
        assert self.process is not None
        if "END" not in self.seen:
            self.wait_for("END")
        return self.process.wait(TIMEOUT_SECONDS)


def answer(client: socket.socket) -> tuple[str, int, int]:
    client.sendall(REQUEST)
    word, pid, user = client.recv(1000).decode().strip().removeprefix("action=").split()
    return word, int(pid), int(user)
