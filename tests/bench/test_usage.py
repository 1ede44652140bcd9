"""What a family of processes is found to use."""

import os
import subprocess
import sys
import threading

from tests.bench.usage import cpu_seconds, family, footprint, forget_peak, memory

BUSY = "sum(range(10**7))"
RUN = f"subprocess.run([sys.executable, '-c', {BUSY!r}])"
PARENT = f"import subprocess, sys; {RUN}; print('done', flush=True); input()"


def test_children_count_also_after_their_end() -> None:
    """A worker that was replaced did its work all the same; what nobody waits for any more has none."""
    command = [sys.executable, "-c", PARENT]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()

        assert family(process.pid) == [process.pid]
        assert cpu_seconds(process.pid) > 0.05
        process.communicate(b"\n")
    assert family(process.pid) == []


def test_a_process_is_found_while_its_threads_come_and_go() -> None:
    """A filter with a thread for each connection never stands still."""
    stop = threading.Event()

    def spawn() -> None:
        while not stop.is_set():
            thread = threading.Thread(target=int)
            thread.start()
            thread.join()

    spawning = threading.Thread(target=spawn)
    spawning.start()
    try:
        assert all(os.getpid() in family(os.getpid()) for _ in range(200))
    finally:
        stop.set()
        spawning.join()


def test_the_peak_begins_anew() -> None:
    """A large piece of memory that was let go is the peak until that is forgotten."""
    large = bytearray(50_000_000)
    before = memory(os.getpid()).peak
    del large
    forget_peak(os.getpid())

    assert memory(os.getpid()).peak < before - 30_000_000


def test_what_a_process_has_alone_is_part_of_its_share_and_that_of_all_it_sees() -> None:
    """The figures of one process stand in this order, and a large piece of memory of its own is in each."""
    before = footprint(os.getpid())
    large = bytearray(b"1") * 50_000_000
    after = footprint(os.getpid())

    assert len(large) < after.private <= after.proportional <= after.resident
    assert after.private - before.private > 45_000_000
