"""`make demo` does what it says, and leaves nothing behind."""

import contextlib
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.lab.daemons import Engine
from tests.lab.process import wait_until
from tests.lab.tree import REPOSITORY

COMMAND = [sys.executable, "-m", "contrib.demo"]
SECONDS = 120


def leftovers(told: str) -> list[str]:
    """The demo's folder, if it is there still, and all processes that were started in it."""
    found = re.search(r"(/\S+/mailreeve-\w+)", told)
    assert found, told
    running = [command for command in commands() if found[1] in command]
    return [*running, *([found[1]] if Path(found[1]).exists() else [])]


def commands() -> Iterator[str]:
    """The command line of every process of the machine."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it has just ended
            yield path.read_text(errors="replace")


def test_the_demo_plays_five_scenes_as_told(engine: Engine) -> None:
    """It ends with 0 after all five, and nothing of it runs or lies there afterwards."""
    command = [*COMMAND, "--engine", engine]
    done = subprocess.run(
        command, cwd=REPOSITORY, capture_output=True, text=True, timeout=SECONDS, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.findall(r"^(\d)\. ", done.stdout, re.MULTILINE) == ["1", "2", "3", "4", "5"]
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert leftovers(done.stdout) == []


def test_an_interrupted_demo_ends_what_it_started(work: Path) -> None:
    """Ctrl-C in the middle ends all servers and removes the folder; the exit status says so."""
    told = work / "told.log"
    # a shell lets what it starts in the background ignore Ctrl-C, and all that this starts
    heeding = ["env", "--default-signal=INT", *COMMAND]
    with told.open("w") as output:
        running = subprocess.Popen(heeding, cwd=REPOSITORY, stdout=output, stderr=subprocess.STDOUT)
    try:
        wait_until(lambda: "\n2. " in told.read_text() or running.poll() is not None, "the second scene", 60)
        running.send_signal(signal.SIGINT)
        assert running.wait(SECONDS) == 130, told.read_text()
    finally:
        running.kill()
    assert leftovers(told.read_text()) == []
