"""Files that are read again when they change: looked at once a second, off the way of any request.

Knows when to read, not what. A file that is being written is half a file, so a change is taken only when
two looks found the same; to put a whole file in place of another (write beside it, `mv`) is always safe.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mailreeve_policyd.errors import ConfigError

LOOK_SECONDS = 1.0
"""Between looks: a change holds within two to three seconds. A look is one stat a file."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Stamp:
    """What tells one content of a file from the next without reading it."""

    device: int
    inode: int
    size: int
    modified_ns: int
    changed_ns: int


Stamps = Mapping[Path, Stamp | None]
"""None where there is no such file, or it may not be looked at."""

Prepare = Callable[[frozenset[Path]], Callable[[], None]]
"""Reads these files, which changed, and gives what puts them in force. Raises ConfigError."""


def stamp_of(path: Path) -> Stamp | None:
    """The stamp of a file now."""
    try:
        found = os.stat(path)  # noqa: PTH116 -- no Path is made anew each second
    except (OSError, ValueError):
        return None
    return Stamp(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


class WatchedFiles:
    """Files whose content in force is that of `stamps`; `prepare` reads those that changed.

    All or nothing: files that are wrong together change nothing, and are told once. For one thread.
    """

    def __init__(self, stamps: Stamps, prepare: Prepare) -> None:
        self._in_force = dict(stamps)
        self._seen = dict(stamps)
        self._tried = dict(stamps)
        self._prepare = prepare

    @property
    def paths(self) -> frozenset[Path]:
        """The files."""
        return frozenset(self._in_force)

    def look(self) -> None:
        """Look once, and read what has changed since it was read and has rested since the last look."""
        now = {path: stamp_of(path) for path in self._in_force}
        if now != self._seen:
            self._seen = now
        elif now != self._tried:
            self._tried = now
            self._take(now)

    def _take(self, now: dict[Path, Stamp | None]) -> None:
        changed = frozenset(path for path, stamp in now.items() if stamp != self._in_force[path])
        if not changed:
            return
        names = ", ".join(sorted(map(str, changed)))
        try:
            put_in_force = self._prepare(changed)
        except ConfigError as error:
            log.error("%s\nthe content of %s that was read before stays in force", error, names)  # noqa: TRY400 -- the operator's mistake, without a traceback
            return
        if now != {path: stamp_of(path) for path in self._in_force}:
            return  # changed while it was read: the next looks will see
        put_in_force()
        self._in_force = now
        log.info("read again: %s", names)


def watch(
    watched: Sequence[WatchedFiles], stop: threading.Event | None = None, seconds: float = LOOK_SECONDS
) -> None:
    """Look at these files from now on, in a thread of its own; none if there are no files.

    Called in a worker, after the fork. The thread ends with the process, or when `stop` is set.
    """
    with_files = [each for each in watched if each.paths]
    if not with_files:
        return
    ending = stop or threading.Event()
    threading.Thread(target=_look, args=(with_files, ending, seconds), name="files", daemon=True).start()


def _look(watched: Sequence[WatchedFiles], stop: threading.Event, seconds: float) -> None:
    while not stop.wait(seconds):
        for each in watched:
            try:
                each.look()
            except Exception:
                log.exception("files that changed could not be read: this is a bug")
