"""Runs policy_load.c: policy requests as Postfix's smtpd sends them, on so many connections at once."""

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.lab.ports import parse_address
from tests.lab.process import LabError
from tests.lab.tree import BUILD

SOURCE = Path(__file__).parent / "policy_load.c"
LOGINS = 1000
GRACE_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a load came to: answers, and how many of them were not DUNNO."""

    count: int
    seconds: float
    failed: int
    p50_ms: float
    p99_ms: float


def compile_program() -> Path:
    """The program, compiled where it is not yet; LabError with what gcc says."""
    program = BUILD / "policy_load"
    if program.exists() and program.stat().st_mtime > SOURCE.stat().st_mtime:
        return program
    program.parent.mkdir(exist_ok=True)
    command = ["gcc", "-O2", "-Wall", "-Wextra", "-Werror", "-o", str(program), str(SOURCE)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise LabError(f"gcc: {done.stderr}")
    return program


def load(program: Path, address: str, connections: int, seconds: float) -> Loaded:
    """Ask for so long; LabError if a connection fails or no answer comes."""
    _, where = parse_address(address)
    place = where if isinstance(where, str) else str(where[1])
    command = [str(program), place, str(connections), str(seconds), str(LOGINS)]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=seconds + GRACE_SECONDS, check=False
    )
    if done.returncode:
        raise LabError(f"policy_load: {done.returncode}: {done.stderr}")
    return Loaded(**json.loads(done.stdout))
