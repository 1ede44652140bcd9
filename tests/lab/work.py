"""Work folders: one place for all that the servers of one run write."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def make_work_folder() -> Path:
    """A fresh folder for all that servers write.

    Its path is short, since a unix socket's has room for 107 bytes, and open to other users, since Postfix's
    daemons must pass through it to a milter's socket (pytest's own tmp_path is closed to them).
    """
    folder = Path(tempfile.mkdtemp(prefix="mailreeve-", dir="/tmp"))
    folder.chmod(0o755)
    return folder


@contextmanager
def work_folder() -> Iterator[Path]:
    """As `make_work_folder`, removed at the end with all that is in it."""
    folder = make_work_folder()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
