"""A file as a place for lines: appended to by several processes, rotated, sometimes on a full disk.

Knows nothing of what the lines say.
"""

from __future__ import annotations

import os
import stat
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from mailreeve_policyd.regular_file import open_regular
from mailreeve_policyd.sink import PIPE_OCTETS, Written, torn, write_grouped

FILE_MODE = 0o640
"""The record names people: its owner writes it, its group may read it."""

LOOK_SECONDS = 1.0
"""How long a file that was renamed or removed may still be written to: looking at each line whether it was
costs half as much as writing the line. SIGUSR1 tells at once."""

FILE_OCTETS = 1 << 20
"""Of one write. A file takes any in one piece; so much is four times what the longest batch has."""


class FileSink:
    """A file, appended to; opened anew when another file, or none, has its name (logrotate).

    `clock` gives seconds that never go back: it says when to look whether that is so.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = str(path)
        self._clock = clock
        self._looked = 0.0
        self._lock = threading.Lock()
        self._descriptor: int | None = None
        self._inode: tuple[int, int] | None = None
        self._may_be_torn = False
        self._most_octets = FILE_OCTETS

    def write(self, line: bytes) -> None:
        """Append with a single write: O_APPEND keeps the lines of several processes whole.

        A line that a full disk, or a process that was killed, left unfinished is ended first.
        """
        with self._lock:
            written = self._append(self._current(), line)
        if written < len(line):
            raise torn(written, line)

    def write_each(self, lines: Sequence[bytes]) -> Written:
        """As `write`, with a single write for all."""
        with self._lock:
            try:
                descriptor = self._current()
            except OSError as error:
                return Written(0, error)
            return write_grouped(lines, self._most_octets, partial(self._append, descriptor))

    def reopen(self) -> None:
        """Open what has the name now; where it cannot be, the next line tries and tells."""
        with self._lock, suppress(OSError):
            self._close()
            self._current()

    def close(self) -> None:
        """See Sink."""
        with self._lock:
            self._close()

    def _append(self, descriptor: int, octets: bytes) -> int:
        end = b"\n" if self._may_be_torn and _is_torn(self._path) else b""
        self._may_be_torn = True
        written = os.write(descriptor, end + octets) - len(end)
        self._may_be_torn = written < len(octets)
        return written

    def _current(self) -> int:
        now = self._clock()
        if self._descriptor is not None and now - self._looked < LOOK_SECONDS:
            return self._descriptor
        self._looked = now
        if self._descriptor is not None and self._named() == self._inode:
            return self._descriptor
        self._close()
        # non-blocking: mail does not wait for the reader of a pipe that stands in the file's place
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK
        descriptor = os.open(self._path, flags, FILE_MODE)
        status = os.fstat(descriptor)
        self._descriptor, self._inode = descriptor, (status.st_dev, status.st_ino)
        is_regular = stat.S_ISREG(status.st_mode)
        self._may_be_torn = is_regular and status.st_size > 0
        self._most_octets = FILE_OCTETS if is_regular else PIPE_OCTETS
        return descriptor

    def _named(self) -> tuple[int, int] | None:
        """The file that has the name now."""
        try:
            status = os.stat(self._path)  # noqa: PTH116 -- a Path costs more than the call
        except FileNotFoundError:
            return None
        return status.st_dev, status.st_ino

    def _close(self) -> None:
        if self._descriptor is not None:
            with suppress(OSError):
                os.close(self._descriptor)
        self._descriptor = None


def _is_torn(path: str) -> bool:
    """Does the file end in the middle of a line? Not asked at every line: it costs as much as writing one."""
    try:
        with open_regular(Path(path)) as file:
            file.seek(-1, os.SEEK_END)
            return file.read(1) != b"\n"
    except OSError:  # it is empty, or not ours to read: then nothing is known of it
        return False
