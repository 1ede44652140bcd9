"""Opening a file that the operator named, whatever stands in its place. Knows nothing of what it holds."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file for reading; bound what you read of it.

    Opened plainly, a named pipe in the file's place would have a daemon wait for somebody to write, and
    neither SIGTERM nor a worker's death would be answered meanwhile.

    Raises:
        OSError: there is none, it may not be read, or it is no regular file.
        ValueError: no path, it holds NUL.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode):
        return os.fdopen(descriptor, "rb")
    os.close(descriptor)
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    raise OSError(errno.EINVAL, "it is no regular file")
