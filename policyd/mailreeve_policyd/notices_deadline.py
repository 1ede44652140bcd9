"""A bound on a whole conversation, whose single answers have a bound already: a peer may drip for ever."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

STEPS = 4
"""A conversation may take so many times as long as one answer."""


@contextmanager
def bounded(find: Callable[[], socket.socket | None], seconds: float) -> Iterator[None]:
    """Within, the socket that `find` gives is shut when `seconds` are over: whoever reads sees its end."""
    timer = threading.Timer(seconds, _shut, (find,))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _shut(find: Callable[[], socket.socket | None]) -> None:
    found = find()
    if found is not None:
        with suppress(OSError):
            socket.socket.shutdown(found, socket.SHUT_RDWR)  # below TLS, whose state is its reader's
