"""`make fuzz` itself: what it says without its engine, and that it finds its fuzzers with it."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

from tests.lab.tree import REPOSITORY


def fuzz(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.fuzz", *words]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=False)


def test_a_fuzzer_that_is_not_there_is_told_with_those_that_are() -> None:
    """A misspelt name is no clean run."""
    ran = fuzz("recieved")
    assert ran.returncode == 2
    assert "no fuzzer recieved; there are" in ran.stderr
    assert "received" in ran.stderr


def test_it_searches_or_says_what_to_install() -> None:
    """Atheris is no dependency of the tests: some machines have no wheel of it."""
    ran = fuzz("received", "--seconds", "1")
    if importlib.util.find_spec("atheris") is None:
        assert (ran.returncode, ran.stderr.split(":")[0]) == (1, "atheris is not installed")
    else:
        assert ran.returncode == 0, ran.stderr
