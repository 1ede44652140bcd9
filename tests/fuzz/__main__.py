"""`make fuzz`: atheris, guided by what of our code an input reaches. ARGS="NAME ... --seconds 60", else all.

What breaks an invariant is kept in .build/fuzz/NAME/crash-*, and the run ends with 1. Put the file, made
small, into tests/fuzz/corpus/NAME. Inputs that reach new code are kept in .build/fuzz/NAME/found.
"""

from __future__ import annotations

import argparse
import importlib.util
import logging
import subprocess
import sys
from pathlib import Path

from tests.fuzz.fuzzers import CORPUS, NAMES, load_fuzzer

WORK = Path(__file__).resolve().parents[2] / ".build/fuzz"
SECONDS = 60
MAX_OCTETS = 4096
OURS = ("mailreeve_policyd", "mailreeve_milter")
ONE_INPUT_SECONDS = 5
"""An input that takes longer is a finding, too."""

MAX_MEGABYTES = 1024


def main() -> int:
    """Run fuzzers one after another, each in a process of its own: atheris never returns."""
    parser = argparse.ArgumentParser(prog="make fuzz", description="Search for inputs that break a parser.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which: {', '.join(NAMES)} (default: all)")
    parser.add_argument("--seconds", type=int, default=SECONDS, help="for each (%(default)s)")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    told = parser.parse_args()
    if unknown := set(told.names) - set(NAMES):
        parser.error(f"no fuzzer {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}")
    if importlib.util.find_spec("atheris") is None:
        sys.stderr.write("atheris is not installed: pip install -e '.[fuzz]' (Python 3.11 to 3.13)\n")
        return 1
    if told.one:
        run(told.one, told.seconds)
    command = [sys.executable, "-m", "tests.fuzz", "--seconds", str(told.seconds), "--one"]
    failed = [
        name for name in told.names or NAMES if subprocess.run([*command, name], check=False).returncode
    ]
    if failed:
        sys.stderr.write(f"found something: {', '.join(failed)}; see {WORK}\n")
    return 1 if failed else 0


def run(name: str, seconds: int) -> None:
    """Search with one fuzzer, in this process, which ends with it."""
    import atheris  # noqa: PLC0415 -- optional

    work = WORK / name
    (work / "found").mkdir(parents=True, exist_ok=True)
    logging.disable(logging.WARNING)
    with atheris.instrument_imports(include=list(OURS)):
        fuzzer = load_fuzzer(name)
    words = work / "words"
    words.write_text("".join(f'"{_quoted(word)}"\n' for word in fuzzer.words))
    flags = (
        f"-max_total_time={seconds}",
        f"-max_len={MAX_OCTETS}",
        f"-timeout={ONE_INPUT_SECONDS}",
        f"-rss_limit_mb={MAX_MEGABYTES}",
        f"-dict={words}",
        f"-artifact_prefix={work}/",
        "-print_final_stats=1",
    )
    atheris.Setup([name, *flags, str(work / "found"), str(CORPUS / name)], fuzzer.check)
    atheris.Fuzz()


def _quoted(word: bytes) -> str:
    return "".join(
        chr(octet) if octet < 0x80 and chr(octet).isalnum() else f"\\x{octet:02x}" for octet in word
    )


if __name__ == "__main__":
    sys.exit(main())
