"""`make bench ARGS=policy` measures our policy daemon with both stores, and whatever peers are installed."""

import subprocess
import sys

from tests.bench.policy_servers import absent_peers
from tests.lab.tree import REPOSITORY


def test_the_policy_bench_measures_both_stores_and_says_who_is_absent() -> None:
    """A run too short to mean anything ends with 0, with every row, and with each goal that has figures."""
    words = ["policy", "--seconds", "0.2", "--rounds", "1", "--connections", "8"]
    command = [sys.executable, "-m", "tests.bench", *words]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=120, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
    for row in ("mailreeve sqlite", "mailreeve redis", "bare EVALSHA loop"):
        assert row in done.stdout
    assert "p99 in ms" in done.stdout
    for name in absent_peers():
        assert f"{name} is not installed: absent" in done.stderr
