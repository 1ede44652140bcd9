"""`make bench` measures what is there, and refuses to measure errors."""

import subprocess
import sys

import pytest

from tests.lab.tree import REPOSITORY


def test_the_bench_measures_both_stores_and_the_milter() -> None:
    """A run too short to mean anything ends with 0 and with a row for each load."""
    command = [sys.executable, "-m", "tests.bench", "--seconds", "0.2"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
    for load in ("two limits, sqlite", "two limits, redis", "SPF, DKIM, DMARC", "signed"):
        assert load in done.stdout


def test_the_bench_measures_the_filter_with_both_engines() -> None:
    """Alone and through a real Postfix, in a network of its own; without peers it asks nobody for any."""
    words = ["--rounds", "1", "--seconds", "0.1", "--sizes", "4k", "--postfix", "10", "--peers"]
    command = [sys.executable, "-m", "tests.bench", "auth", *words]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=120, check=False)
    if "unshare failed" in done.stderr:
        pytest.skip("this machine lets nobody make namespaces")

    assert done.returncode == 0, done.stdout + done.stderr
    for row in ("mailreeve native", "mailreeve libmilter", "no filter", "sign 4 KB through Postfix"):
        assert row in done.stdout


def test_a_short_soak_ends_with_no_message_wrong() -> None:
    """Two thousand messages, with faults: `make bench ARGS=soak` sends a hundred times as many."""
    command = [sys.executable, "-m", "tests.bench", "soak", "--messages", "2000"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=120, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
    assert "faults: kill" in done.stdout
