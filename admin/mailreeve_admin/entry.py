"""Where the `mailreeve` program begins: before anything is loaded, and without what a daemon does not use.

A daemon is told to reload by SIGHUP, which would end a process that has not yet said what it does then, and
loading takes most of a second. So it waits, from here until the supervisor reads it. A person's command keeps
its signals: it should end with its terminal.
"""

from __future__ import annotations

import gc
import signal
import sys
from collections.abc import Sequence
from typing import NoReturn

DAEMONS = ("policyd", "milter", "run")

HELD = (signal.SIGHUP, signal.SIGUSR1)
"""What a daemon does later; signals.Signals lets them through. What ends a process ends it now as ever."""


def main() -> NoReturn:
    """Run the command line. Always raises SystemExit."""
    if sys.argv[1:2] and sys.argv[1] in DAEMONS:
        gc.disable()  # all that is loaded stays, until forking.share_memory looks at it once
        signal.pthread_sigmask(signal.SIG_BLOCK, HELD)
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C is no bug of ours, with a traceback
        path = config_path(sys.argv[2:])
        if path is not None:
            sys.exit(_run(sys.argv[1], path))
    from mailreeve_admin import cli  # noqa: PLC0415 -- see above

    cli.main()


def config_path(arguments: Sequence[str]) -> str | None:
    """The configuration, where these arguments of a daemon are as usual: `cli` has the word on all others.

    Empty: the default one.
    """
    match arguments:
        case []:
            return ""
        case ["-c" | "--config", path] if path:
            return path
        case _:
            return None


def _run(daemon: str, path: str) -> int:
    from pathlib import Path  # noqa: PLC0415 -- see above

    from mailreeve_policyd.config import DEFAULT_FILE  # noqa: PLC0415

    config = Path(path) if path else DEFAULT_FILE
    match daemon:
        case "policyd":
            from mailreeve_policyd.daemon import run_policyd  # noqa: PLC0415

            return run_policyd(config)
        case "milter":
            from mailreeve_milter.daemon import run_milter  # noqa: PLC0415

            return run_milter(config)
        case _:
            from mailreeve_milter.together import run_together  # noqa: PLC0415

            return run_together(config)
