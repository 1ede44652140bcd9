"""How a worker comes into the world. Knows processes and their memory; knows not when one is needed."""

from __future__ import annotations

import gc
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterable

from mailreeve_policyd.crew import Crew
from mailreeve_policyd.metrics_ledger import Tally
from mailreeve_policyd.signals import Signals
from mailreeve_policyd.worker import SIGNALS, WorkerContext, run_worker

OpenTally = Callable[[], Tally | None]
"""Where a worker is to count; None: nowhere."""


def share_memory() -> None:
    """Have what was loaded looked at by no garbage collector of a child: its pages stay the parent's.

    A collector writes into each object that it looks at, and so makes a copy of nearly all memory for each
    worker. What earlier generations left here is collected first.
    """
    gc.unfreeze()
    gc.collect()
    gc.freeze()
    gc.enable()  # a daemon begins without: see mailreeve_admin.entry


def spare_the_collector(collect_after: int) -> None:
    """In a worker that has opened everything: that stays for good, and is looked at no more.

    `collect_after` is how many objects with references come on top before the collector looks at those.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(collect_after)


def fork_worker(
    crew: Crew, foreign: Iterable[socket.socket], signals: Signals, open_tally: OpenTally
) -> tuple[int, socket.socket]:
    """Fork one; its process id, and the parent's end of the socket between them. In the child: no return.

    In the child `open_tally` is called, and what is `foreign` to it is closed.

    Raises:
        OSError: the system has no room for another process.
    """
    ours, theirs = socket.socketpair()
    try:
        pid = _fork(crew, (ours, *foreign), theirs, signals, open_tally)
    except OSError:
        ours.close()
        raise
    finally:
        theirs.close()
    return pid, ours


def _fork(
    crew: Crew,
    inherited: Iterable[socket.socket],
    control: socket.socket,
    signals: Signals,
    open_tally: OpenTally,
) -> int:
    sys.stdout.flush()
    sys.stderr.flush()
    # A signal that comes before the child has its own mind about signals would wake the parent.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        pid = os.fork()
        if pid == 0:
            _be_worker(crew, inherited, control, signals, open_tally)
        return pid
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _be_worker(
    crew: Crew,
    inherited: Iterable[socket.socket],
    control: socket.socket,
    signals: Signals,
    open_tally: OpenTally,
) -> None:
    def serve() -> None:
        # Copies of the parent's ends would hide the parent's death from the other workers, and with one of
        # a socket that others serve nobody would be refused who connects when they no longer do.
        for one in inherited:
            one.close()
        signals.close()
        generation = crew.generation
        crew.serve(WorkerContext(control, generation.drain_seconds, generation.wear, open_tally()))

    run_worker(serve)
