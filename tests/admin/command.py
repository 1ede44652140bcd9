"""The `mailreeve` command as somebody types it, without a process of its own."""

from __future__ import annotations

import io
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import pytest

from mailreeve_admin.cli import main


@dataclass(frozen=True, slots=True)
class Ran:
    """How a command ended, and what it wrote."""

    status: int
    out: str
    err: str


def mailreeve(*arguments: str | Path, given: bytes = b"") -> Ran:
    """Run the command with these arguments, and `given` on its standard input."""
    out, err = (
        io.TextIOWrapper(io.BytesIO(), "utf-8"),
        io.TextIOWrapper(io.BytesIO(), "utf-8", "backslashreplace"),
    )
    before, sys.stdin = sys.stdin, io.TextIOWrapper(io.BytesIO(given))
    try:
        with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
    finally:
        sys.stdin = before
    status = ended.value.code
    assert isinstance(status, int)
    return Ran(status, _written(out), _written(err))


def _written(stream: io.TextIOWrapper[io.BytesIO]) -> str:
    stream.flush()
    return stream.buffer.getvalue().decode()


def write_site(folder: Path, rules: str = "", configuration: str = "") -> Path:
    """A configuration that is right, and more lines of it at its end; its path."""
    (folder / "state").mkdir(exist_ok=True)
    (folder / "rules").write_text(rules)
    (folder / "mailreeve.toml").write_text(
        f"""\
state_dir = "state"
[policyd]
listen = ["unix:{folder}/policy.sock"]
[milter]
listen = "unix:{folder}/milter.sock"
[authentication]
authserv_id = "mx.example.org"
{configuration}"""
    )
    (folder / "mailreeve.toml").chmod(0o640)
    return folder / "mailreeve.toml"
