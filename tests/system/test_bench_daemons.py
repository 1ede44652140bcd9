"""`make bench ARGS=daemons` measures both daemons alone and behind Postfix."""

import subprocess
import sys

import pytest

from tests.lab.tree import REPOSITORY


def test_the_bench_measures_the_daemons_alone_and_behind_postfix() -> None:
    """Load, memory, start and reload of each, then both behind Postfix; without peers it asks for none."""
    one = ["--rounds", "1", "--seconds", "0.1", "--workers", "1", "--connections", "8"]
    words = [*one, "--idle", "20", "--postfix", "10", "--peers"]
    command = [sys.executable, "-m", "tests.bench", "daemons", *words]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=120, check=False)
    if "unshare failed" in done.stderr:
        pytest.skip("this machine lets nobody make namespaces")

    assert done.returncode == 0, done.stdout + done.stderr
    for row in ("milter, native", "milter, libmilter", "policyd", "no filter", "mailreeve native + policyd"):
        assert row in done.stdout
    for goal in ("seconds to serving", "MB a worker", "KB an idle session"):
        assert goal in done.stdout
