"""How many files and sockets a process may have open. Knows the system's limit, and nothing of mail."""

from __future__ import annotations

import logging
import resource
from contextlib import suppress

log = logging.getLogger(__name__)

SPARE_DESCRIPTORS = 200
"""Beside those of the connections: stores (one a thread that waits for Redis), DNS, files."""


def allow_connections(count: int, option: str) -> None:
    """Let this process serve so many connections at once, as far as it may; `option` is what asks for them.

    Most systems give a process 1024 open files until it asks for more.
    """
    wanted = count + SPARE_DESCRIPTORS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    if allowed < wanted:
        log.warning("only %d open files are allowed, %s may need %d", allowed, option, wanted)
