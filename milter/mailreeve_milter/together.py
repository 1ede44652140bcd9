"""`mailreeve run`: both daemons under one parent, for small machines and containers. Only joins parts.

They have one configuration, and it takes force in both or in neither: at the start as at a reload.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from mailreeve_milter.daemon import milter_spec
from mailreeve_policyd.daemon import policyd_spec
from mailreeve_policyd.launch import ConfiguredT, log_to_stderr, logging_as_told
from mailreeve_policyd.metrics_daemon import run_measured
from mailreeve_policyd.operational_log import follow_settings
from mailreeve_policyd.supervisor import DaemonSpec
from mailreeve_policyd.worker import WorkerContext

PARENT = "run"
"""What the parent's lines in the log are signed with; workers sign with the name of their daemon."""


def run_together(config_path: Path) -> int:
    """Run both until they are told to stop; the exit status, 78 for a mistake in their files."""
    log_to_stderr(PARENT)
    return run_measured(config_path, _beside(policyd_spec(config_path)), _beside(milter_spec(config_path)))


def _beside(daemon: DaemonSpec[ConfiguredT]) -> DaemonSpec[ConfiguredT]:
    """A daemon whose parent is not its alone."""

    def serve(worker: WorkerContext, loaded: ConfiguredT, sockets: Sequence[socket.socket]) -> None:
        follow_settings(daemon.name, loaded.configuration.settings)
        daemon.serve(worker, loaded, sockets)

    return replace(daemon, load=logging_as_told(PARENT, daemon.load), serve=serve)
