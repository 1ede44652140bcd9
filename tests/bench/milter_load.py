"""Runs milter_load.c: as many messages as a milter takes, on so many connections at once."""

import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.lab.ports import parse_address
from tests.lab.process import LabError
from tests.lab.tree import BUILD

SOURCE = Path(__file__).parent / "milter_load.c"
GRACE_SECONDS = 300
ENOUGH_FAILURES = 1000


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a load came to: whole messages, how many of them were changed as expected, how many failed.

    Of those that failed `refused` were refused for good; the others were deferred.
    """

    count: int
    seconds: float
    marked: int
    failed: int
    refused: int
    p50_ms: float
    p99_ms: float


def compile_program() -> Path:
    """The program, compiled where it is not yet; LabError with what gcc says."""
    program = BUILD / "milter_load"
    if program.exists() and program.stat().st_mtime > SOURCE.stat().st_mtime:
        return program
    program.parent.mkdir(exist_ok=True)
    command = ["gcc", "-O2", "-Wall", "-Wextra", "-Werror", "-pthread", "-o", str(program), str(SOURCE)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise LabError(f"gcc: {done.stderr}")
    return program


def load(
    program: Path,
    address: str,
    scripts: Sequence[Path],
    mark: str,
    *,
    connections: int,
    seconds: float = 0,
    messages: int = 0,
    failures: int = ENOUGH_FAILURES,
) -> Loaded:
    """Send messages for so long, or so many, or until so many failed; LabError if the program fails.

    `mark` is a text that each message gets if the milter does its work.
    """
    _, where = parse_address(address)
    words = [str(where), str(connections), str(seconds), str(messages), str(failures), mark]
    command = [str(program), *words, *map(str, scripts)]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=seconds + GRACE_SECONDS, check=False
    )
    if done.returncode:
        raise LabError(f"milter_load: {done.returncode}: {done.stderr}")
    return Loaded(**json.loads(done.stdout))
