"""Standard output and standard error as places for lines, whatever somebody connected them to.

A pipe or a socket whose reader hangs never holds up who writes: of a line that finds no room nothing is
written. The descriptor itself is shared with other processes, a terminal even with the shell, and so is never
made non-blocking; each write is, in the way that its kind allows.
"""

from __future__ import annotations

import os
import socket
import stat
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from errno import EAGAIN

from mailreeve_policyd.sink import PIPE_OCTETS, Patience, Written, is_writable, torn, write_grouped

Write = Callable[[bytes], int]


class StreamSink:
    """A descriptor that somebody else opened. Lines of at most 4096 octets (PIPE_BUF) stay whole."""

    def __init__(self, descriptor: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._descriptor = descriptor
        self._patience = Patience(clock)
        self._lock = threading.Lock()
        self._own: int | None = None
        self._write: Write | None = None
        self._is_torn = False

    def write(self, line: bytes) -> None:
        """Write at once, or after a bounded wait, or not at all: then BlockingIOError."""
        with self._lock:
            written = self._write_whole(line)
        if written < len(line):
            raise torn(written, line)

    def write_each(self, lines: Sequence[bytes]) -> Written:
        """As `write`, as many at a time as go into a pipe in one piece."""
        with self._lock:
            return write_grouped(lines, PIPE_OCTETS, self._write_whole)

    def _write_whole(self, octets: bytes) -> int:
        if self._write is None:
            self._write = self._open()
        end = b"\n" if self._is_torn else b""
        written = self._try(self._write, end + octets) - len(end)
        self._is_torn = written < len(octets)
        return written

    def _try(self, write: Write, line: bytes) -> int:
        try:
            return write(line)
        except BlockingIOError:
            if not self._patience.wait(self._own if self._own is not None else self._descriptor):
                raise BlockingIOError(EAGAIN, "its reader does not read") from None
        return write(line)

    def reopen(self) -> None:
        """Whoever opened it rotates it; what was opened here for it is closed. Never raises."""
        with self._lock, suppress(OSError):
            self._close()
            self._write = self._open()

    def close(self) -> None:
        """See Sink."""
        with self._lock:
            self._close()

    def _close(self) -> None:
        if self._own is not None:
            with suppress(OSError):
                os.close(self._own)
        self._own = self._write = None

    def _open(self) -> Write:
        """How this kind of descriptor is written without waiting for its reader."""
        mode = os.fstat(self._descriptor).st_mode
        if stat.S_ISREG(mode):
            return self._write_plainly
        if stat.S_ISSOCK(mode):
            self._own = os.dup(self._descriptor)
            return self._send
        with suppress(OSError):  # there is no /proc, or whoever made the pipe or terminal is another user
            flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
            self._own = os.open(f"/proc/self/fd/{self._descriptor}", flags)
            return self._write_own
        return self._write_if_there_is_room

    def _write_plainly(self, line: bytes) -> int:
        return os.write(self._descriptor, line)

    def _write_own(self, line: bytes) -> int:
        assert self._own is not None  # noqa: S101 -- for the type checker: _open has set it
        return os.write(self._own, line)

    def _send(self, line: bytes) -> int:
        assert self._own is not None  # noqa: S101 -- as above
        shared = socket.socket(fileno=self._own)
        try:
            return shared.send(line, socket.MSG_DONTWAIT)
        finally:
            shared.detach()

    def _write_if_there_is_room(self, line: bytes) -> int:
        """Of another user: where several processes ask at once, one may still have to wait for the reader."""
        if not is_writable(self._descriptor):
            raise BlockingIOError(EAGAIN, "its reader does not read")
        return os.write(self._descriptor, line)
