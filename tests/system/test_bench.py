"""`make bench` measures what is there, and refuses to measure errors."""

import subprocess
import sys

from tests.lab.tree import REPOSITORY


def test_the_bench_measures_both_stores_and_the_milter() -> None:
    """A run too short to mean anything ends with 0 and with a row for each load."""
    command = [sys.executable, "-m", "tests.bench", "--seconds", "0.2"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
    for load in ("two limits, sqlite", "two limits, redis", "SPF, DKIM, DMARC", "signed"):
        assert load in done.stdout
