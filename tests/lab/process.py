"""A server process that ends when its owner says so, with what it wrote."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

START_SECONDS = 20.0
STOP_SECONDS = 15.0
# how long to wait between two questions to a server that is starting
POLL_SECONDS = 0.01


class LabError(Exception):
    """A server did not do what the lab asked; the text holds the end of its log."""


def wait_until(answered: Callable[[], bool], what: str, seconds: float = START_SECONDS) -> None:
    """Ask until the answer is true; LabError naming `what` after `seconds`."""
    deadline = time.monotonic() + seconds
    while not answered():
        if time.monotonic() > deadline:
            raise LabError(f"{what}: not within {seconds:g} seconds")
        time.sleep(POLL_SECONDS)


class Process:
    """A program in a session of its own, its output in the file `log`.

    As a context manager it starts on entry and stops on exit. It may be started again after it ended.
    `keep` are descriptors of ours that it has as well.
    """

    start_seconds: ClassVar[float] = START_SECONDS

    def __init__(self, command: Sequence[str | Path], log: Path, environment: Mapping[str, str]) -> None:
        self.command = [str(word) for word in command]
        self.log = log
        self.environment = environment
        self.keep: tuple[int, ...] = ()
        self.child: subprocess.Popen[bytes] | None = None
        self.group: int | None = None

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start it and return when `ready()` says so; LabError with its log if it ends or takes too long."""
        if self.is_running:
            raise LabError(f"{self.name} runs already")
        with self.log.open("ab") as log:
            self.child = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=dict(self.environment),
                start_new_session=True,
                pass_fds=self.keep,
            )
        self.group = self.child.pid
        self.wait_ready()

    def wait_ready(self) -> None:
        """Wait until the program serves."""
        try:
            started = f"{self.name} starts"
            wait_until(lambda: not self.is_running or self.ready(), started, self.start_seconds)
        except LabError as error:
            raise LabError(f"{error}\n{self.text()[-2000:]}") from None
        if not self.is_running:
            raise LabError(f"{self.name} ended with {self.exit_code}\n{self.text()[-2000:]}")

    def ready(self) -> bool:
        """Whether the program serves; what kinds of servers redefine."""
        return True

    @property
    def name(self) -> str:
        """What to call it in a message."""
        return Path(self.command[0]).name

    @property
    def is_running(self) -> bool:
        """Whether the program has been started and not ended."""
        return self.child is not None and self.child.poll() is None

    @property
    def pid(self) -> int:
        """The process id; LabError if it does not run."""
        if self.child is None or not self.is_running:
            raise LabError(f"{self.name} does not run")
        return self.child.pid

    @property
    def exit_code(self) -> int | None:
        """The exit code, negative for a signal; None while it runs or before it was started."""
        return None if self.child is None else self.child.poll()

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the program itself, not to its children."""
        os.kill(self.pid, number)

    def wait_ended(self, seconds: float = STOP_SECONDS) -> int:
        """The exit code, once it ends by itself; LabError if it does not."""
        if self.child is None:
            raise LabError(f"{self.name} was not started")
        try:
            return self.child.wait(seconds)
        except subprocess.TimeoutExpired:
            raise LabError(f"{self.name} did not end within {seconds:g} seconds") from None

    def stop(self) -> None:
        """Ask it to end (SIGTERM) and end what is left of its session then; harmless if it does not run."""
        if self.child is not None and self.is_running:
            self.child.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.child.wait(STOP_SECONDS)
        self.kill()

    def kill(self) -> None:
        """End it and all that it started at once, without a chance to clean up."""
        if self.child is None or self.group is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.group, signal.SIGKILL)  # the group lives as long as any child of the session
        self.group = None
        self.child.wait(STOP_SECONDS)

    def text(self) -> str:
        """All that it wrote."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""
